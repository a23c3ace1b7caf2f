"""Reports: how the use of a scope has grown, when it will be full, and who uses the most."""

from datetime import datetime
from typing import Annotated

import strawberry

from api.schema.context import Info
from api.schema.paging import MAX_SIZE, page_of
from api.schema.quotas import QuotaScope, place_of
from api.schema.scalars import BigInt
from policies.forecasting import Forecast
from policies.history import Interval, Point
from policies.quotas import Key
from registry.identifiers import show_id
from registry.places import Place
from registry.quotas import consuming, reporting
from registry.quotas.consuming import Consumer as ConsumerRow
from registry.quotas.consuming import Consumers

INTERVALS = {Interval.HOUR: "Hours; they are kept for 90 days.", Interval.DAY: "Days; they are kept for five years."}
strawberry.enum(Interval, name="UsageInterval", description="How long a point of a history is, in UTC.")
for shown in Interval.__strawberry_definition__.values:  # type: ignore[attr-defined]
    shown.description = INTERVALS[shown.value]

Scope = Annotated[QuotaScope, strawberry.argument(description="Whose use it is.")]
Counted = Annotated[Key, strawberry.argument(description="What is counted; of an account traffic, too.")]
From = Annotated[datetime, strawberry.argument(name="from", description="In the first hour or day that is told.")]
To = Annotated[
    datetime, strawberry.argument(description="Behind the last that is told; none is told that has not begun.")
]
By = Annotated[Interval, strawberry.argument(description="Whether hours or days are told; at most 2,000 of them.")]
First = Annotated[int, strawberry.argument(description=f"How many of each kind, 1 to {MAX_SIZE}.")]


@strawberry.type(description="One hour or day.")
class UsagePoint:
    time: datetime = strawberry.field(description="When it began.")
    value: BigInt = strawberry.field(
        description="What was used at its end, or is now; of traffic, what left in it. What was only held is not in it."
    )
    peak: BigInt = strawberry.field(
        description="The most that was used and held in it; of traffic, what left in its busiest hour."
    )

    @classmethod
    def of(cls, point: Point) -> "UsagePoint":
        return cls(time=point.time, value=BigInt(point.value), peak=BigInt(point.peak))


@strawberry.type(description="How the use of one key at one scope has grown.")
class Usage:
    place: strawberry.Private[Place]
    key: strawberry.Private[Key]
    points: list[UsagePoint] = strawberry.field(
        description="Each hour or day of the span, zeros included; oldest first."
    )
    limit: BigInt | None = strawberry.field(description="The scope's own limit, now; null for none.")
    unit: str = strawberry.field(description="What the numbers count.")

    @strawberry.field(
        description="What a day adds, the median of the last 30 days at most; null with less than 3 days of history."
    )
    async def trend_per_day(self, info: Info) -> float | None:
        return (await self._forecast(info)).trend

    @strawberry.field(
        description="In about how many days the limit is reached if that goes on, 0 if it is. Null if it does not "
        "grow, is years away, or has no limit or history; of traffic, also if the month ends before."
    )
    async def full_in_days(self, info: Info) -> int | None:
        return (await self._forecast(info)).full_in

    async def _forecast(self, info: Info) -> Forecast:
        async def load(asked: list[tuple[Place, Key]]) -> list[Forecast]:
            return [await reporting.forecast_of(info.context.work, place, key) for place, key in asked]

        found: Forecast = await info.context.batched("forecast", (self.place, self.key), load)
        return found


@strawberry.type(description="One of those who use the most.")
class Consumer:
    id: strawberry.ID | None = strawberry.field(
        description="Its id; null for a tag, and for users of other accounts, whom only the account's owner sees."
    )
    name: str = strawberry.field(
        description="As seen from the scope: of an account `organization/repository`, of an organization `repository` "
        "and `repository:tag`, of a repository the tag alone."
    )
    value: BigInt = strawberry.field(description="How much, in the key's unit.")
    deleted: bool = strawberry.field(description="Whether it is no longer there; of a repository the name is lost.")


@strawberry.type(
    description="Who uses the most, the largest first. What they have in common counts for each, so lists do not add "
    "up. Empty where the scope or the key has no such thing."
)
class TopConsumers:
    organizations: list[Consumer] = strawberry.field(description="Organizations of an account.")
    repositories: list[Consumer] = strawberry.field(description="By what their own counter says, or what left.")
    tags: list[Consumer] = strawberry.field(description="By the size of the image, or what left under the tag.")
    users: list[Consumer] = strawberry.field(
        description="By the distinct bytes of images they pushed, by what they made, or by what they pulled."
    )

    @classmethod
    def of(cls, found: Consumers) -> "TopConsumers":
        return cls(
            organizations=_shown("org", found.organizations),
            repositories=_shown("repo", found.repositories),
            tags=_shown("tag", found.tags),
            users=_shown("user", found.users),
        )


def _shown(kind: str, rows: list[ConsumerRow]) -> list[Consumer]:
    return [
        Consumer(
            id=None if row.id is None else strawberry.ID(show_id(kind, row.id)),
            name=row.name,
            value=BigInt(row.value),
            deleted=row.deleted,
        )
        for row in rows
    ]


@strawberry.type
class UsageQueries:
    @strawberry.field(description="How use has grown, in hours or days. For who may see the scope's quotas.")
    async def usage(
        self, info: Info, scope: Scope, key: Counted, start: From, to: To, interval: By = Interval.DAY
    ) -> Usage | None:
        async with info.context.looking() as work:
            place = await place_of(work, scope)
            found = await reporting.usage_of(work, place, Key(key), start, to, Interval(interval))
        info.context.looked("quota.usage", place, f"{place.kind} {place.name} {Key(key).value}")
        return Usage(
            place=place,
            key=Key(key),
            points=[UsagePoint.of(point) for point in found.points],
            limit=None if found.limit is None else BigInt(found.limit),
            unit=found.unit,
        )

    @strawberry.field(
        description="Who uses the most at a scope; of traffic, in this month. For who may see the scope's quotas."
    )
    async def top_consumers(self, info: Info, scope: Scope, key: Counted, first: First = 10) -> TopConsumers | None:
        size = page_of(first, None, None, None, "VALUE").size
        async with info.context.looking() as work:
            place = await place_of(work, scope)
            found = await consuming.top_consumers(work, place, Key(key), size)
        info.context.looked("quota.consumers", place, f"{place.kind} {place.name} {Key(key).value}")
        return TopConsumers.of(found)
