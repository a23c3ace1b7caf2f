"""What accounts, users, organizations and repositories may be called, and which clause a bad name breaks.

Each `…_clause` answers with the clause broken, a sentence that reads on after "'Acme' is no name for an
organization: ", or with None when the name is fine. A repository name that passes here stays within the OCI
grammar behind any organization that passes here, so whatever can be created can also be pulled. Lengths are
in characters.
"""

import re
from collections.abc import Iterable

OWNER_LENGTH = 64
REPOSITORY_LENGTH = 128
USER_LENGTH = 64

# Where our own addresses begin, and `library`, which docker puts before names that have no organization.
RESERVED_ORGANIZATIONS = frozenset({"library", "v2", "token", "graphql", "admin", "api"}) | frozenset(
    {"health", "healthz", "readyz", "metrics", "console", "audit"}
)
# The first start makes an account `admin`; accounts have no addresses, so it is in nobody's way.
RESERVED_ACCOUNTS = RESERVED_ORGANIZATIONS - {"admin"}

_LOWERCASE = re.compile("[a-z]")
_FOREIGN_TO_COMPONENT = re.compile("[^a-z0-9._-]")
_FOREIGN_TO_USER = re.compile("[^A-Za-z0-9._@-]")
_SEPARATORS = re.compile("[._-]+")


def organization_clause(name: str) -> str | None:
    return _reserved_clause(name, RESERVED_ORGANIZATIONS) or _owner_clause(name)


def account_clause(name: str) -> str | None:
    return _reserved_clause(name, RESERVED_ACCOUNTS) or _owner_clause(name)


def repository_clause(name: str) -> str | None:
    """For the name within its organization. Each '/' makes a level, and each level keeps the same rules."""
    return _length_clause(name, REPOSITORY_LENGTH) or path_clause(name)


def user_clause(name: str) -> str | None:
    """A user name is typed at `docker login` and sent as `name:password`, hence no ':' (RFC 7617, 2); nor may
    it look like `<token>`, under which docker keeps identity tokens."""
    if clause := _length_clause(name, USER_LENGTH):
        return clause
    if wrong := _FOREIGN_TO_USER.search(name):
        return f"it may hold only letters from A to Z, digits, '.', '_', '-' and '@', not {wrong[0]!a}."
    if not name[0].isalnum():
        return "it must start with a letter or digit."
    return "it must not end with '@'." if name.endswith("@") else None


def path_clause(path: str) -> str | None:
    """The OCI grammar, without a limit of length (distribution-spec 1.1, "Pulling manifests")."""
    components = path.split("/")
    if not all(components):
        return "each '/' must stand between two parts: not first, not last and not next to another '/'."
    return _end_clause(path) or _first(_component_clause(component) for component in components)


def _component_clause(component: str) -> str | None:
    if wrong := _FOREIGN_TO_COMPONENT.search(component):
        return f"it may hold only lowercase letters, digits, '.', '_' and '-', not {wrong[0]!a}."
    if _end_clause(component):
        return "each part between slashes must start and end with a lowercase letter or digit."
    return _first(_separators_clause(run) for run in _SEPARATORS.findall(component))


def _end_clause(name: str) -> str | None:
    if _SEPARATORS.match(name):
        return "it must start with a lowercase letter or digit."
    return "it must end with a lowercase letter or digit." if _SEPARATORS.match(name[-1]) else None


def _separators_clause(run: str) -> str | None:
    if len(set(run)) > 1:
        return f"separators of different kinds must not stand side by side, as in '{run[:8]}'."
    if run.startswith("_") and len(run) > 2:
        return "at most two underscores may stand side by side."
    return "dots must not stand side by side." if run.startswith("..") else None


def _owner_clause(name: str) -> str | None:
    if clause := _length_clause(name, OWNER_LENGTH):
        return clause
    if not _LOWERCASE.match(name):
        return "it must start with a lowercase letter from a to z."
    return _end_clause(name) or _component_clause(name)


def _reserved_clause(name: str, reserved: frozenset[str]) -> str | None:
    return "it is reserved; choose another." if name in reserved else None


def _length_clause(name: str, longest: int) -> str | None:
    if not name:
        return "it is empty."
    too_long = f"it has {len(name)} characters, and at most {longest} are allowed."
    return too_long if len(name) > longest else None


def _first(clauses: Iterable[str | None]) -> str | None:
    return next((clause for clause in clauses if clause), None)
