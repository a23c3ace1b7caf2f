"""One decision: may somebody who holds these roles do this act on this kind of thing, and by which rule?

The static rules stand in `rules.csv` and are read by Casbin once, at start. Roles are facts that the registry reads
from its database with each request, so this module never sees a user, and no policy text is ever made from user
input. The set of roles is small and finite: verdicts are memoized for the life of the process.

    law = Law.load()
    law.decide(frozenset({"organization.read"}), "repository", "push").allowed   # False
    law.needed("repository", "push")                                            # Level.WRITE
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from importlib.resources import as_file, files

import casbin


class Level(IntEnum):
    """What a permission grants. The numbers are SWR's and legal as input; nothing lies between them."""

    READ = 1
    WRITE = 3
    MANAGE = 7


class RulesBroken(RuntimeError):
    """The rule file cannot be the one that was reviewed; better no server than one that decides by it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` is the row that allowed or, with `frozen`, the row that denied; empty when no row spoke."""

    allowed: bool
    rule: tuple[str, ...] = ()

    @property
    def frozen(self) -> bool:
        return bool(self.rule) and self.rule[-1] == "deny"

    @property
    def text(self) -> str | None:
        """The rule in a line, as an entry of the audit log quotes it."""
        return " ".join(self.rule).removesuffix(" allow") or None


class Law:
    """The rules, closed over their ladder. Make one with `Law.load()`."""

    def __init__(self, enforcer: casbin.Enforcer, revision: str) -> None:
        self.revision = revision
        self.rules = tuple(tuple(row) for row in enforcer.get_policy())
        self.roles = frozenset(row[0] for row in self.rules)
        if len(self.rules) < 40 or not all(len(row) == 4 for row in self.rules):
            raise RulesBroken("policies/rules.csv does not hold the rules this version was built with")
        self._enforcer = enforcer
        self._closures = {role: self._closure(role) for role in self.roles}
        self._decide = lru_cache(maxsize=8192)(self._ask_casbin)

    @classmethod
    def load(cls) -> "Law":
        here = files("policies")
        with as_file(here / "model.conf") as model, as_file(here / "rules.csv") as rules:
            enforcer = casbin.Enforcer(str(model), str(rules))
            return cls(enforcer, hashlib.sha256(rules.read_bytes()).hexdigest()[:12])

    def decide(self, roles: Iterable[str], kind: str, act: str) -> Verdict:
        """The verdict on a set of held roles; roles that no rule names are ignored."""
        return self._decide(frozenset(roles), kind, act)

    def sufficient(self, kind: str, act: str) -> frozenset[str]:
        """Each role that would allow this by itself."""
        return frozenset(role for role in self._closures if self.decide({role}, kind, act).allowed)

    def needed(self, kind: str, act: str) -> Level | None:
        """The lowest level, held on the thing itself, that allows this; None when no level does."""
        enough = self.sufficient(kind, act)
        return next((level for level in Level if f"{kind}.{level.name.lower()}" in enough), None)

    def _closure(self, role: str) -> frozenset[str]:
        return frozenset({role, *self._enforcer.get_implicit_roles_for_user(role)})

    def _ask_casbin(self, roles: frozenset[str], kind: str, act: str) -> Verdict:
        closed = frozenset().union(*(self._closures.get(role, frozenset()) for role in roles))
        allowed, rule = self._enforcer.enforce_ex(closed, kind, act)
        return Verdict(bool(allowed), tuple(rule))
