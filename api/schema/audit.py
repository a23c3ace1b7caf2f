"""The audit log, as its readers see it."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import strawberry
from sqlmodel import col
from strawberry.scalars import JSON

from api.schema.context import Info
from api.schema.paging import After, Before, Connection, First, Last, connection, keyset, page_of
from api.schema.scalars import BigInt, Node
from registry.audit import reading
from registry.audit.reading import EntryFilter
from registry.audit.tables import AuditRow
from registry.identifiers import show_id


@strawberry.enum(description="What came of it.")
class Outcome(Enum):
    ALLOWED = strawberry.enum_value("ALLOWED", description="It was done.")
    DENIED = strawberry.enum_value("DENIED", description="The law or a quota refused it.")
    FAILED = strawberry.enum_value("FAILED", description="It was allowed, but could not be done.")


@strawberry.type(description="Who did it.")
class Actor:
    kind: str = strawberry.field(description="USER, ANONYMOUS or SYSTEM.")
    id: strawberry.ID | None = strawberry.field(description="The user's id; null for all others.")
    name: str = strawberry.field(description="The name at that time; of a failed sign-in, the name that was claimed.")
    access_key: strawberry.ID | None = strawberry.field(description="The key used; null for a password.")


@strawberry.type(description="One entry of the log. It is never changed.")
class AuditEntry(Node):
    index: BigInt = strawberry.field(description="Its number; later entries have greater ones.")
    time: datetime = strawberry.field(description="When it happened.")
    action: str = strawberry.field(description="What was done, as noun.verb.")
    outcome: Outcome = strawberry.field(description="What came of it.")
    reason_code: str | None = strawberry.field(description="The stable code of a refusal; null if it was done.")
    reason: str | None = strawberry.field(description="Why it was refused, or on what it rested.")
    actor: Actor = strawberry.field(description="Who did it.")
    client: str | None = strawberry.field(description="The client's own name for itself.")
    source: str | None = strawberry.field(description="The address it came from.")
    target: str = strawberry.field(description="What it was done to, as a person writes it.")
    digest: str | None = strawberry.field(description="The manifest or blob it was about; null if none.")
    changes: JSON = strawberry.field(description="Changed fields, each with [before, after].")
    request_id: str | None = strawberry.field(description="The request, as every error names it.")
    sealed: bool = strawberry.field(description="Whether the entry is proven by a published checkpoint.")

    @classmethod
    def of(cls, row: Any) -> "AuditEntry":
        actor = Actor(
            kind=row["actor_kind"],
            id=strawberry.ID(show_id("user", row["actor_id"])) if row["actor_id"] else None,
            name=row["actor_name"],
            access_key=strawberry.ID(show_id("key", row["credential_id"])) if row["credential_id"] else None,
        )
        return cls(
            id=strawberry.ID(f"audit_{row['id']}"),
            index=BigInt(row["id"]),
            time=row["recorded_at"],
            action=row["action"],
            outcome=Outcome[row["outcome"]],
            reason_code=row["reason_code"],
            reason=row["reason"],
            actor=actor,
            client=row["client"],
            source=row["source"],
            target=row["target"],
            digest=row["digest"],
            changes=row["changes"],
            request_id=row["request_id"],
            sealed=False,
        )


@strawberry.input(description="All that is given must hold.")
class AuditFilter:
    account: str | None = strawberry.field(default=None, description="Whose log; null for all one may read.")
    since: datetime | None = strawberry.field(default=None, description="From this instant on.")
    until: datetime | None = strawberry.field(default=None, description="Before this instant.")
    actor: str | None = strawberry.field(default=None, description="The actor's name.")
    action: str | None = strawberry.field(default=None, description="An action, or its beginning with a `*` behind.")
    target: str | None = strawberry.field(default=None, description="A target, or its beginning with a `*` behind.")
    outcome: Outcome | None = strawberry.field(default=None, description="What came of it.")
    source: str | None = strawberry.field(default=None, description="The address it came from.")
    request_id: str | None = strawberry.field(default=None, description="The request.")


@strawberry.type
class AuditQueries:
    @strawberry.field(
        description="The audit log, newest first. Owners read their account's, platform administrators all."
    )
    async def audit_log(
        self,
        info: Info,
        filter: Annotated[
            AuditFilter | None, strawberry.argument(description="Which entries; null for all that you may read.")
        ] = None,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[AuditEntry] | None:
        page = page_of(first, last, after, before, "NEWEST")
        wanted = filter or AuditFilter()
        async with info.context.looking() as work:
            statement = await reading.entries(work, _filter(wanted), wanted.account)
            keys = keyset(page, [col(AuditRow.recorded_at), col(AuditRow.id)], descending=True)
            rows = await work.fetch(keys.on(statement))
        return connection(page, rows, key=lambda row: (row["recorded_at"], row["id"]), node=AuditEntry.of)


def _filter(wanted: AuditFilter) -> EntryFilter:
    return EntryFilter(
        since=wanted.since,
        until=wanted.until,
        actor=wanted.actor,
        action=wanted.action,
        target=wanted.target,
        outcome=wanted.outcome.name if wanted.outcome else None,
        source=wanted.source,
        request_id=wanted.request_id,
    )
