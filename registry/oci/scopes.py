"""Scopes: what a client asks a token for, and what the token grants: `repository:acme/web:pull,push`.

Source: distribution, docs/content/spec/auth/scope.md. A name may hold colons, since some clients put host and
port in front, so a scope is split at its first and its last colon. The class in `repository(plugin)` is
deprecated and ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from registry.oci.errors import ScopeInvalid, shown

# containerd compares scopes as text, so the order of actions must never vary.
ACTIONS = ("pull", "push", "delete", "*")

_TYPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?")
_NAME = re.compile(r"[!-~]+")
_ACTION = re.compile(r"[a-z]+|\*")


@dataclass(frozen=True, slots=True)
class Scope:
    """`actions` may hold ones this registry has never heard of, and may be empty: both grant nothing."""

    type: str
    name: str
    actions: frozenset[str]


def parse_scopes(values: Iterable[str]) -> list[Scope]:
    """Each value may hold several scopes, separated by spaces. Raises `ScopeInvalid`."""
    return [_parse(text) for value in values for text in value.split(" ") if text]


def format_scope(scope: Scope) -> str:
    known = [action for action in ACTIONS if action in scope.actions]
    return f"{scope.type}:{scope.name}:{','.join([*known, *sorted(scope.actions.difference(ACTIONS))])}"


def _parse(text: str) -> Scope:
    kind, _, rest = text.partition(":")
    name, colon, listed = rest.rpartition(":")
    type_found = _TYPE.fullmatch(kind)
    actions = frozenset(listed.split(",")) - {""}
    if not (colon and type_found and _NAME.fullmatch(name) and all(map(_ACTION.fullmatch, actions))):
        raise ScopeInvalid(f"{shown(text)} is no scope: it must look like 'repository:acme/web:pull,push'.")
    return Scope(type_found[1], name, actions)
