"""The tree of refusals. Each has one stable code, and knows neither HTTP nor GraphQL.

    Refusal
    ├── Unauthenticated      nobody could be recognised, or the credential no longer holds
    │   ├── SignInNeeded     nobody signed in, and this needs somebody
    │   └── SignInFailed     a name and secret were offered and do not belong together
    ├── Denied               somebody is known, and may not
    │   └── QuotaExceeded    allowed, but there is no room
    │       └── TrafficExceeded  no room until next month
    ├── NotFound             absent, or not to be seen by the one who asks: both look the same
    ├── Invalid              the request itself is wrong
    ├── Conflict             right in itself, but something stands in the way
    └── Unavailable          not now: try again later

A message says what was refused, why, and what to do now; it is shown to the person as it stands, so it never holds a
secret or tells of things that person may not see. Codes are listed in docs/reference/errors.md, one line each.

`Unable` stands beside the tree: it is told to who runs the registry, not to who uses it.
"""

from typing import Any, ClassVar
from uuid import UUID


class Refusal(Exception):
    """What all refusals share: a stable `code`, a sentence, and `detail`, plain values that a program may read.

    `truth` is what the person is not told; it goes to the audit log alone.
    """

    code: ClassVar[str]

    def __init__(self, message: str, *, truth: str | None = None, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.truth = truth
        self.detail: dict[str, Any] = detail

    @property
    def told(self) -> dict[str, Any]:
        """`detail` under the names that both doors show."""
        return {_camel(name): value for name, value in self.detail.items()}


class Unauthenticated(Refusal):
    code = "UNAUTHENTICATED"


class SignInNeeded(Unauthenticated):
    code = "SIGN_IN_NEEDED"


class SignInFailed(Unauthenticated):
    code = "SIGN_IN_FAILED"


class Denied(Refusal):
    code = "DENIED"


class QuotaExceeded(Denied):
    """`detail` holds key, scope, limit, used, held and requested, all numbers in the key's unit. `kind` and `scope_id`
    are those of the scope, and `needed` is what would have had to be charged there."""

    code = "QUOTA_EXCEEDED"
    kind: str | None = None
    scope_id: UUID | None = None
    needed: int = 0


class TrafficExceeded(QuotaExceeded):
    """The month's traffic is used up. `detail` holds retry_after besides, in seconds, and resets_at, the next month."""


class NotFound(Refusal):
    code = "NOT_FOUND"


class Invalid(Refusal):
    """`detail` may hold `path`, the input fields that are wrong."""

    code = "INVALID"


class Conflict(Refusal):
    code = "CONFLICT"


class Unavailable(Refusal):
    """`detail` holds retry_after, in whole seconds."""

    code = "UNAVAILABLE"


class Unable(RuntimeError):
    """What stands in the way of the registry itself, and its operator can mend; the text says how."""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
