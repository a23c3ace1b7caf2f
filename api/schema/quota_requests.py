"""Requests for another limit: asked by owners and managers, decided by platform administrators."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import select

from api.schema.context import EVERYWHERE, Info
from api.schema.errors import UserError, changing
from api.schema.paging import After, Before, Connection, First, Last, connection, keyset, page_of
from api.schema.quotas import QuotaScope, place_of
from api.schema.reasons import Change
from api.schema.scalars import BigInt, Node
from policies.quotas import Key
from registry.access import finding
from registry.identifiers import read_id, show_id
from registry.quotas import requesting
from registry.quotas.usage import Limits
from registry.work import Work


@strawberry.enum(description="What has become of a request.")
class QuotaRequestState(Enum):
    PENDING = strawberry.enum_value("PENDING", description="It waits for a platform administrator.")
    APPROVED = strawberry.enum_value("APPROVED", description="The limit was set.")
    DECLINED = strawberry.enum_value("DECLINED", description="The limit stayed as it was.")


@strawberry.type(description="Somebody asks for a higher limit.")
class QuotaRequest(Node):
    account: str = strawberry.field(description="The account it is about.")
    organization: str | None = strawberry.field(description="The organization; null if it is about the account.")
    repository: str | None = strawberry.field(
        description="The repository; null if it is about the organization or account."
    )
    key: Key = strawberry.field(description="What is limited.")
    limit: BigInt | None = strawberry.field(description="The limit asked for; null for unlimited.")
    reason: str = strawberry.field(description="Why it is asked for; empty if nothing was said.")
    state: QuotaRequestState = strawberry.field(description="What has become of it.")
    requested_by: str | None = strawberry.field(description="Who asked.")
    requested_at: datetime = strawberry.field(description="When it was asked for.")
    decided_by: str | None = strawberry.field(description="Who decided; null while it is pending.")
    decided_at: datetime | None = strawberry.field(description="When it was decided; null while it is pending.")
    note: str = strawberry.field(description="What was said to the decision; empty if nothing was.")

    @classmethod
    def of(cls, row: Any) -> "QuotaRequest":
        told = ("account", "organization", "repository", "reason", "requested_by", "requested_at", "decided_by")
        return cls(
            id=strawberry.ID(show_id(requesting.PREFIX, row["id"])),
            key=Key(row["key"]),
            limit=None if row["wanted"] is None else BigInt(row["wanted"]),
            state=QuotaRequestState[row["state"]],
            decided_at=row["decided_at"],
            note=row["note"],
            **{name: row[name] for name in told},
        )


@strawberry.input(description="The limit that is needed, and where. `reason` is shown to who decides.")
class RequestQuotaInput(Change):
    scope: QuotaScope = strawberry.field(description="Where the limit shall hold.")
    key: Key = strawberry.field(description="What is limited.")
    limit: strawberry.Maybe[BigInt | None] = strawberry.field(
        description="More than the present limit; null for unlimited."
    )


@strawberry.input(description="The request, and what is said to it.")
class DecideQuotaRequestInput(Change):
    request: strawberry.ID = strawberry.field(description="The request's id.")
    approve: bool = strawberry.field(description="Whether the limit is set as asked; else it stays as it is.")
    note: str | None = strawberry.field(
        default=None, description="What is said to it, for who asked and for the audit log. At most 500 characters."
    )


@strawberry.type(description="The request, or why nothing was done.")
class QuotaRequestPayload:
    request: QuotaRequest | None = strawberry.field(description="The request as it is; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


def _limits(input: RequestQuotaInput) -> Limits:
    return Limits(frozenset()) if input.limit is None else Limits(frozenset({"limit"}), limit=input.limit.value)


async def request_of_id(info: Info, id: UUID) -> QuotaRequest | None:
    row = await _row(info, id)
    if row is not None:
        info.context.looked("quota_request.show", requesting.scope_of(row), show_id(requesting.PREFIX, id))
    return QuotaRequest.of(row) if row else None


async def _row(info: Info, id: UUID) -> Any | None:
    seen = requesting.seen(info.context.work)
    return await info.context.of_id("quota request", id, lambda ids: select(seen).where(seen.c.id.in_(ids)))


async def _payload(info: Info, done: UUID | None, errors: list[UserError]) -> QuotaRequestPayload:
    row = await _row(info, done) if done else None
    return QuotaRequestPayload(request=QuotaRequest.of(row) if row else None, errors=errors)


@strawberry.type
class QuotaRequestQueries:
    @strawberry.field(
        description="Requests for higher limits, the newest first: an administrator sees all, an owner those of the "
        "account, a manager those of the organization."
    )
    async def quota_requests(
        self,
        info: Info,
        state: Annotated[QuotaRequestState | None, strawberry.argument(description="Only those; null for all.")] = None,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[QuotaRequest] | None:
        page = page_of(first, last, after, before, "TIME")
        async with info.context.looking() as work:
            await finding.platform(work)  # who signed in must still be who it was
        info.context.looked("quota_request.list", EVERYWHERE)
        seen = requesting.seen(work)
        chosen = select(seen) if state is None else select(seen).where(seen.c.state == state.value)
        rows = await work.fetch(keyset(page, [seen.c.requested_at, seen.c.id], descending=True).on(chosen))
        return connection(page, rows, key=lambda row: (row["requested_at"], row["id"]), node=QuotaRequest.of)


@strawberry.type
class QuotaRequestMutations:
    @strawberry.mutation(
        description="Asks for a higher limit. For owners of the account, and managers of the organization."
    )
    async def request_quota(self, info: Info, input: RequestQuotaInput) -> QuotaRequestPayload:
        async def act(work: Work) -> UUID:
            place = await place_of(work, input.scope)
            return await requesting.ask(work, place, Key(input.key), _limits(input))

        return await _payload(info, *await changing(info, input, act))

    @strawberry.mutation(
        description="Approves a request, which sets the limit, or declines it. For platform administrators."
    )
    async def decide_quota_request(self, info: Info, input: DecideQuotaRequestInput) -> QuotaRequestPayload:
        async def act(work: Work) -> UUID:
            request = read_id(input.request)[1]
            return await requesting.decide(work, request, approve=input.approve, note=input.note)

        return await _payload(info, *await changing(info, input, act))
