"""A subscription that goes on for ever keeps nothing of the events that have gone."""

import gc
from collections.abc import AsyncGenerator, AsyncIterator

import strawberry
from graphql.execution.collect_fields import FieldDetails

from api.schema.building import make_schema


@strawberry.type
class Who:
    name: str


@strawberry.type
class Event:
    number: int
    who: Who


@strawberry.type
class Query:
    one: int = 1


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def events(self) -> AsyncIterator[Event]:
        for number in range(400):
            yield Event(number=number, who=Who(name="ada"))


def kept() -> int:
    gc.collect()
    return sum(isinstance(one, FieldDetails) for one in gc.get_objects())


async def test_what_was_made_for_an_event_goes_with_it() -> None:
    schema = make_schema(Query, subscription=Subscription)
    results = await schema.subscribe("subscription { events { number who { name } again: who { name } } }")
    assert isinstance(results, AsyncGenerator)
    counted = []
    async for result in results:
        number = result.data["events"]["number"]
        assert result.data["events"] == {"number": number, "who": {"name": "ada"}, "again": {"name": "ada"}}
        if number in (20, 390):
            counted.append(kept())
    assert counted[1] <= counted[0]
