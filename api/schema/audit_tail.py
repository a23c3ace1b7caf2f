"""The audit log as it grows, for whoever keeps an eye on it."""

from collections.abc import AsyncIterator
from typing import Annotated

import strawberry

from api.schema.audit import AuditEntry, AuditFilter, filter_of
from api.schema.context import Info
from api.schema.scalars import BigInt
from registry.audit import following
from registry.errors import SignInNeeded


@strawberry.type
class AuditSubscriptions:
    @strawberry.subscription(
        description="The entries of the audit log that you may read, oldest first: those from a number on, and then "
        "each that comes. After a cut, send the last number as `Last-Event-ID`, or ask from the next."
    )
    async def audit_tail(
        self,
        info: Info,
        filter: Annotated[
            AuditFilter | None, strawberry.argument(description="Which entries; null for all that you may read.")
        ] = None,
        from_: Annotated[
            BigInt | None,
            strawberry.argument(name="from", description="The number to begin with; null for what comes from now on."),
        ] = None,
    ) -> AsyncIterator[AuditEntry]:
        context, wanted = info.context, filter or AuditFilter()
        if not context.signed_in:
            raise SignInNeeded("Sign in to follow the audit log.")
        start = from_ if context.seen is None else context.seen + 1
        system = context.system
        steps = following.follow(
            system.foundation,
            system.followers,
            (context.actor, context.origin),
            filter_of(wanted),
            wanted.account,
            start,
        )
        async for step in steps:
            context.seen = step.place - 1 if step.place else None
            if step.shown is not None:
                yield AuditEntry.of(step.shown, step.published)
