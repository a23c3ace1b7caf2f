"""Quotas: limits, and what is used of them."""

from typing import Annotated

import strawberry

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import BigInt
from policies.quotas import Key
from registry.quotas import usage
from registry.quotas.usage import LimitInvalid
from registry.quotas.usage import Quota as QuotaRow
from registry.work import Work


@strawberry.type(description="One limit at one scope.")
class Quota:
    key: Key = strawberry.field(description="What is counted.")
    limit: BigInt | None = strawberry.field(description="The most there may be; null for unlimited.")
    used: BigInt = strawberry.field(description="What is there.")
    held: BigInt = strawberry.field(description="What is on its way: bytes of unfinished uploads.")
    percent: float | None = strawberry.field(description="Used and held of the limit; null when unlimited.")
    unit: str = strawberry.field(description="What the numbers count.")

    @classmethod
    def of(cls, row: QuotaRow) -> "Quota":
        total = row.used + row.held
        percent = None if row.limit is None else 100.0 if row.limit == 0 else round(100 * total / row.limit, 2)
        return cls(
            key=row.key,
            limit=None if row.limit is None else BigInt(row.limit),
            used=BigInt(row.used),
            held=BigInt(row.held),
            percent=percent,
            unit=row.unit,
        )


@strawberry.input(description="An account, or an organization, or a repository of an organization.")
class QuotaScope:
    account: str | None = strawberry.field(default=None, description="An account's name.")
    organization: str | None = strawberry.field(default=None, description="An organization's name.")
    repository: str | None = strawberry.field(default=None, description="A repository of that organization.")


@strawberry.input(description="A limit and where it holds.")
class SetQuotaInput(Change):
    scope: QuotaScope = strawberry.field(description="Where the limit holds.")
    key: Key = strawberry.field(description="What is limited.")
    limit: strawberry.Maybe[BigInt | None] = strawberry.field(description="The new limit; null for unlimited.")


@strawberry.type(description="The quota, or why it stays as it was.")
class SetQuotaPayload:
    quota: Quota | None = strawberry.field(description="The quota after the change; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type
class QuotaQueries:
    @strawberry.field(description="All quotas of a scope. For its managers.")
    async def quotas(
        self, info: Info, scope: Annotated[QuotaScope, strawberry.argument(description="Where the limits hold.")]
    ) -> list[Quota] | None:
        async with info.context.looking() as work:
            place = await usage.scope_of(
                work, account=scope.account, organization=scope.organization, repository=scope.repository
            )
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
            scope = input.scope
            if input.limit is None:  # a forgotten variable must not take a limit away
                raise LimitInvalid("Say which limit to set: a number, or null for unlimited.", path=["limit"])
            place = await usage.scope_of(
                work, account=scope.account, organization=scope.organization, repository=scope.repository
            )
            return await usage.set_limit(work, place, Key(input.key), input.limit.value)

        row, errors = await changing(info, input, act)
        return SetQuotaPayload(quota=Quota.of(row) if row else None, errors=errors)
