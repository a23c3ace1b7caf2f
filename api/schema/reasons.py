"""Why something is done: the input that all changes have."""

import strawberry

from registry.audit.reasons import LONGEST


@strawberry.input
class Change:
    """What the inputs of all mutations have."""

    reason: str | None = strawberry.field(
        default=None, description=f"Why it is done; stands in the audit log. At most {LONGEST} characters."
    )
