"""Why something is done, in the words of who does it: one line of the audit log, where it can be searched. Whichever
door it comes through, GraphQL or the command line, it is held to this."""

import re

from registry.errors import Invalid

LONGEST = 500
# Line ends, terminal escapes, and marks that turn the direction of what follows: one line must stay one line.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class ReasonTooLong(Invalid):
    code = "REASON_TOO_LONG"


def stated(reason: str | None, field: str = "reason") -> str | None:
    """The reason, or what another field says of it, as a line of text; None where none was given. Raises
    `ReasonTooLong`."""
    line = UNSEEN.sub(" ", reason or "").strip()
    if len(line) > LONGEST:
        raise ReasonTooLong(
            f"A {field} has at most {LONGEST} characters; this one has {len(line)}. Put the rest where it can be "
            "linked to.",
            path=[field],
        )
    return line or None
