"""Quotas: limits, and what is used of them."""

from datetime import datetime
from typing import Annotated

import strawberry

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import BigInt
from policies.quotas import Key
from registry.places import Place
from registry.quotas import usage
from registry.quotas.usage import Limits
from registry.quotas.usage import Quota as QuotaRow
from registry.work import Work


@strawberry.type(description="One limit at one scope.")
class Quota:
    key: Key = strawberry.field(description="What is counted.")
    limit: BigInt | None = strawberry.field(description="The most there may be; null for unlimited.")
    soft_limit: BigInt | None = strawberry.field(description="From here on its owner is told; null for none.")
    used: BigInt = strawberry.field(description="What is there.")
    held: BigInt = strawberry.field(description="What is on its way: bytes of unfinished uploads, traffic let through.")
    percent: float | None = strawberry.field(description="Used and held of the limit; null when unlimited.")
    unit: str = strawberry.field(description="What the numbers count.")
    told: int = strawberry.field(description="The step last told of, 80, 90 or 100 per cent of the limit; or 0.")
    last_verified_at: datetime | None = strawberry.field(description="When it was last counted anew; null if never.")
    difference: BigInt = strawberry.field(
        description="What that count found charged beyond what is there; should be 0."
    )

    @classmethod
    def of(cls, row: QuotaRow) -> "Quota":
        return cls(
            key=row.key,
            limit=None if row.limit is None else BigInt(row.limit),
            soft_limit=None if row.soft_limit is None else BigInt(row.soft_limit),
            used=BigInt(row.used),
            held=BigInt(row.held),
            percent=row.percent,
            unit=row.unit,
            told=row.told,
            last_verified_at=row.verified_at,
            difference=BigInt(row.difference),
        )


@strawberry.input(description="An account, or an organization, or a repository of an organization.")
class QuotaScope:
    account: str | None = strawberry.field(default=None, description="An account's name.")
    organization: str | None = strawberry.field(default=None, description="An organization's name.")
    repository: str | None = strawberry.field(default=None, description="A repository of that organization.")


async def place_of(work: Work, scope: QuotaScope) -> Place:
    return await usage.scope_of(
        work, account=scope.account, organization=scope.organization, repository=scope.repository
    )


@strawberry.input(description="A limit and where it holds.")
class SetQuotaInput(Change):
    scope: QuotaScope = strawberry.field(description="Where the limit holds.")
    key: Key = strawberry.field(description="What is limited.")
    limit: strawberry.Maybe[BigInt | None] = strawberry.field(description="The new limit; null for unlimited.")
    soft_limit: strawberry.Maybe[BigInt | None] = strawberry.field(
        description="From where its owner is told; null for nowhere, left out to keep it."
    )
    follow_default: bool = strawberry.field(
        default=False, description="Whether to go back to the limit that the server's settings give."
    )


@strawberry.type(description="The quota, or why it stays as it was.")
class SetQuotaPayload:
    quota: Quota | None = strawberry.field(description="The quota after the change; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


def _limits(input: SetQuotaInput) -> Limits:
    given = {"limit": input.limit, "soft_limit": input.soft_limit}
    numbers = {name: one.value for name, one in given.items() if one is not None}
    return Limits(frozenset(numbers), default=input.follow_default, **numbers)


@strawberry.type
class QuotaQueries:
    @strawberry.field(description="All quotas of a scope. For its managers.")
    async def quotas(
        self, info: Info, scope: Annotated[QuotaScope, strawberry.argument(description="Where the limits hold.")]
    ) -> list[Quota] | None:
        async with info.context.looking() as work:
            place = await place_of(work, scope)
            rows = await usage.quotas_of(work, place)
        info.context.looked("quota.list", place, f"{place.kind} {place.name}")
        return [Quota.of(row) for row in rows]


@strawberry.type
class QuotaMutations:
    @strawberry.mutation(
        description="Sets a limit. One below what is used refuses growth, never deleting. For platform administrators."
    )
    async def set_quota(self, info: Info, input: SetQuotaInput) -> SetQuotaPayload:
        async def act(work: Work) -> QuotaRow:
            return await usage.set_limit(work, await place_of(work, input.scope), Key(input.key), _limits(input))

        row, errors = await changing(info, input, act)
        return SetQuotaPayload(quota=Quota.of(row) if row else None, errors=errors)
