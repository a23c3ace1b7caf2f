"""Why something is done, in the words of who does it. It stands in the audit log, where it can be searched."""

import re

import strawberry

from registry.errors import Invalid

LONGEST = 500
# Line ends, terminal escapes, and marks that turn the direction of what follows: one line must stay one line.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class ReasonTooLong(Invalid):
    code = "REASON_TOO_LONG"


@strawberry.input
class Change:
    """What the inputs of all mutations have."""

    reason: str | None = strawberry.field(
        default=None, description=f"Why it is done; stands in the audit log. At most {LONGEST} characters."
    )


def stated(reason: str | None) -> str | None:
    """The reason as a line of text; None where none was given. Raises `ReasonTooLong`."""
    line = UNSEEN.sub(" ", reason or "").strip()
    if len(line) > LONGEST:
        raise ReasonTooLong(
            f"A reason has at most {LONGEST} characters; this one has {len(line)}. Put the rest where it can be linked "
            "to.",
            path=["reason"],
        )
    return line or None
