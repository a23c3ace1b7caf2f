"""The audit log, as its readers see it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import Annotated, Any

import strawberry
from sqlmodel import col
from strawberry.scalars import JSON

from api.schema.context import Info
from api.schema.paging import After, Before, Connection, First, Last, Page, connection, keyset, page_of
from api.schema.scalars import BigInt, Level, Node
from registry.audit import archived, reading
from registry.audit.filtering import EntryFilter
from registry.audit.showing import Line, Shown, numbered, show
from registry.audit.tables import InboxRow
from registry.errors import Refusal, SignInNeeded
from registry.work import Work


@strawberry.enum(description="What came of it.")
class Outcome(Enum):
    ALLOWED = strawberry.enum_value("ALLOWED", description="It was done.")
    DENIED = strawberry.enum_value("DENIED", description="The law or a quota refused it.")
    FAILED = strawberry.enum_value("FAILED", description="It was allowed, but could not be done.")


@strawberry.enum(description="How far an entry is on its way.")
class EntryState(Enum):
    PENDING = strawberry.enum_value("PENDING", description="Written for good; its number comes in a moment.")
    INTEGRATED = strawberry.enum_value("INTEGRATED", description="Numbered, and a leaf of the tree.")
    PUBLISHED = strawberry.enum_value("PUBLISHED", description="Under a signed checkpoint that is out of our hands.")


@strawberry.type(description="Who did it.")
class Actor:
    kind: str = strawberry.field(description="USER, ANONYMOUS or SYSTEM.")
    id: strawberry.ID | None = strawberry.field(description="The user's id; null for all others.")
    name: str = strawberry.field(description="The user's name; of a failed sign-in, the name that was claimed.")
    access_key: strawberry.ID | None = strawberry.field(description="The key used; null for a password.")
    via: str | None = strawberry.field(description="PASSWORD, ACCESS_KEY or TOKEN; null where nobody signed in.")
    on_behalf_of: str | None = strawberry.field(
        description="The user for whom a key or token acted; null when it was the user in person."
    )

    @classmethod
    def of(cls, shown: Shown) -> "Actor":
        user, key, via = (shown.of("actor", name) for name in ("id", "credential", "via"))
        return cls(
            kind=shown.event["actor"]["kind"].upper(),
            id=strawberry.ID(f"user_{user}") if user else None,
            name=shown.actor_name,
            access_key=strawberry.ID(f"key_{key}") if key else None,
            via=via.upper() if via else None,
            on_behalf_of=shown.actor_name if user and via in ("access_key", "token") else None,
        )


@strawberry.type(description="One entry of the log. It is never changed.")
class AuditEntry(Node):
    index: BigInt | None = strawberry.field(description="Its number, from 0, without gaps; null while it is pending.")
    organization_index: BigInt | None = strawberry.field(
        description="Its number within the organization, from 1, without gaps; null if it is about none."
    )
    state: EntryState = strawberry.field(description="How far it is on its way.")
    time: datetime = strawberry.field(description="When the log took it in; never before an earlier entry's.")
    occurred_at: datetime = strawberry.field(description="When it happened, by the clock of the server that did it.")
    action: str = strawberry.field(description="What was done, as noun.verb.")
    outcome: Outcome = strawberry.field(description="What came of it.")
    reason_code: str | None = strawberry.field(description="The stable code of a refusal; null if it was done.")
    reason: str | None = strawberry.field(description="Why it was refused; else the reason its actor stated.")
    stated_reason: str | None = strawberry.field(description="The reason its actor stated.")
    rule: str | None = strawberry.field(
        description="The rule of the law that spoke: role, kind of thing and act. Null if none did, or none was asked."
    )
    level_held: Level | None = strawberry.field(
        description="Of a refusal, the level held, or to which the token is limited; null if none was."
    )
    level_needed: Level | None = strawberry.field(
        description="Of a refusal, the lowest level that would do; null if none would."
    )
    actor: Actor = strawberry.field(description="Who did it.")
    client: str | None = strawberry.field(description="The client's own name for itself.")
    source: str | None = strawberry.field(description="The address it came from, as trusted proxies tell it.")
    peer: str | None = strawberry.field(description="The socket's address; null if it is the source.")
    forwarded: list[str] = strawberry.field(description="What proxies said of where it came from, trusted or not.")
    target: str = strawberry.field(description="What it was done to, as a person writes it.")
    organization: str | None = strawberry.field(description="The organization's name then; null if it is about none.")
    repository: str | None = strawberry.field(description="The repository's name then; null if it is about none.")
    tag: str | None = strawberry.field(description="The tag; null if none was named.")
    digest: str | None = strawberry.field(description="The manifest or blob it was about; null if none.")
    size_bytes: BigInt | None = strawberry.field(description="Its size; null if it is about none.")
    changes: JSON = strawberry.field(description="Changed fields, each with [before, after].")
    request_id: str | None = strawberry.field(description="The request, as every error names it.")
    leaf_hash: str | None = strawberry.field(description="Its leaf of the tree, in base64; null while it is pending.")
    entry: str | None = strawberry.field(
        description="The exact bytes of the leaf, in base64; null while it is pending."
    )

    @classmethod
    def of(cls, shown: Shown, published: int) -> "AuditEntry":
        line, event = shown.line, shown.event
        return cls(
            id=strawberry.ID(f"audit_{event['id'] if line.index is None else line.index}"),
            index=None if line.index is None else BigInt(line.index),
            organization_index=None if line.number is None else BigInt(line.number),
            state=_state(line.index, published),
            time=shown.time,
            occurred_at=shown.occurred_at,
            action=event["action"],
            outcome=Outcome[event["outcome"].upper()],
            reason_code=shown.of("reason", "code"),
            reason=shown.reason,
            stated_reason=shown.of("reason", "stated"),
            rule=shown.of("reason", "rule"),
            level_held=_level(shown.of("reason", "held")),
            level_needed=_level(shown.of("reason", "needed")),
            actor=Actor.of(shown),
            client=shown.private.get("agent"),
            source=shown.private.get("source"),
            peer=shown.private.get("peer"),
            forwarded=list(shown.private.get("forwarded", [])),
            target=shown.target,
            organization=shown.named.organization,
            repository=shown.named.repository,
            tag=shown.named.tag,
            digest=shown.of("target", "digest"),
            size_bytes=shown.of("target", "bytes"),
            changes=JSON(shown.changes),
            request_id=shown.of("request", "id"),
            leaf_hash=b64encode(line.leaf).decode() if line.leaf else None,
            entry=b64encode(line.entry).decode() if line.entry else None,
        )


def _level(name: str | None) -> Level | None:
    return None if name in (None, "NONE") else Level[name]


def _state(index: int | None, published: int) -> EntryState:
    if index is None:
        return EntryState.PENDING
    return EntryState.PUBLISHED if index < published else EntryState.INTEGRATED


async def shown_rows(work: Work, rows: Sequence[Any]) -> list[AuditEntry]:
    published = await reading.published(work)
    return [AuditEntry.of(one, published) for one in await show(work, [numbered(row) for row in rows])]


async def entry_of_index(info: Info, index: int, *, tell_archived: bool = False) -> AuditEntry | None:
    """The entry, if there is one that the viewer may read. Raises `EntryArchived` where that is to be told: among many
    things that are asked for by their ids, one that has left must not keep the others back."""
    if not info.context.signed_in or not await reads_any(info):
        return None
    async with info.context.reading_log(index=index) as work:
        row = await reading.entry(work, index)
        if row is None and tell_archived:
            await archived.check(work, index)
        return (await shown_rows(work, [row]))[0] if row else None


async def reads_any(info: Info) -> bool:
    """Whether the viewer may read any log. Else that is recorded, as a denial like others, and nothing more is done:
    what is looked up for somebody leaves an entry, and so must not be had by everybody."""
    try:
        async with info.context.glancing() as work:
            work.attempt("audit.read", "audit log")
            await reading.scope(work, None)
    except Refusal:
        return False
    return True


@strawberry.input(description="All that is given must hold.")
class AuditFilter:
    account: str | None = strawberry.field(default=None, description="Whose log; null for all one may read.")
    since: datetime | None = strawberry.field(default=None, description="From this instant on.")
    until: datetime | None = strawberry.field(default=None, description="Before this instant.")
    actor: str | None = strawberry.field(default=None, description="The actor's name.")
    action: str | None = strawberry.field(default=None, description="An action, or its beginning with a `*` behind.")
    target: str | None = strawberry.field(default=None, description="A target, or its beginning with a `*` behind.")
    outcome: Outcome | None = strawberry.field(default=None, description="What came of it.")
    source: str | None = strawberry.field(default=None, description="The IP address it came from.")
    request_id: str | None = strawberry.field(default=None, description="The request.")
    reason: str | None = strawberry.field(
        default=None,
        description="The reason its actor stated; with a `*` behind, its beginning; between two, what stands in it.",
    )
    state: EntryState | None = strawberry.field(
        default=None,
        description="How far it is on its way. PENDING: of the newest 10,000 without a number, by when it happened.",
    )


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
        if not info.context.signed_in:
            raise SignInNeeded("Sign in to read the audit log.")
        wanted = filter or AuditFilter()
        if wanted.state is EntryState.PENDING:
            return await _pending(info, wanted, page_of(first, last, after, before, "PENDING"))
        page = page_of(first, last, after, before, "NEWEST")
        async with info.context.reading_log(wanted.account or "audit log", filter=_asked(wanted)) as work:
            statements = await reading.entries(work, filter_of(wanted), wanted.account)
            keys = keyset(page, reading.ORDER, descending=True)
            statement = reading.first_of(statements, keys.where, limit=keys.limit, newest=not page.backward)
            rows = await work.fetch(statement)
            shown = dict(zip((row["seq"] for row in rows), await shown_rows(work, rows), strict=True))
        return connection(
            page, rows, key=lambda row: (row["logged_at"], row["seq"]), node=lambda row: shown[row["seq"]]
        )


async def _pending(info: Info, wanted: AuditFilter, page: Page) -> Connection[AuditEntry]:
    """They are not numbered first, or none would be left."""
    target = wanted.account or "audit log"
    async with info.context.reading_log(target, catch_up=False, filter=_asked(wanted)) as work:
        sought, statement = await reading.waiting(work, filter_of(wanted), wanted.account)
        keys = keyset(page, [col(InboxRow.id)], descending=True)
        found = await work.fetch(statement.where(keys.where).order_by(*keys.order_by))
        rows = list(islice(reading.among(found, sought), keys.limit))
        shown = await show(work, [Line(row["body"]) for row in rows])
        nodes = {row["id"]: AuditEntry.of(one, 0) for row, one in zip(rows, shown, strict=True)}
    return connection(page, rows, key=lambda row: (row["id"],), node=lambda row: nodes[row["id"]])


def _asked(wanted: AuditFilter) -> list[str]:
    """By what it was filtered. The values may tell of a person, and would stand in the log in the clear."""
    return sorted(name for name, value in vars(wanted).items() if value is not None)


def filter_of(wanted: AuditFilter) -> EntryFilter:
    return EntryFilter(
        since=wanted.since,
        until=wanted.until,
        actor=wanted.actor,
        action=wanted.action,
        target=wanted.target,
        outcome=wanted.outcome.name if wanted.outcome else None,
        source=wanted.source,
        request_id=wanted.request_id,
        reason=wanted.reason,
        state=wanted.state.name if wanted.state else None,
    )
