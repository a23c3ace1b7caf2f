"""What operations cost, and that those which cost too much reach no resolver."""

from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import strawberry
from graphql import get_introspection_query, parse
from hypothesis import given
from hypothesis import strategies as st

from api.schema.building import make_schema
from api.schema.cost import MAX_COST, cost_of
from api.schema.paging import Connection, CountedConnection, connection, counted, page_of
from api.schema.usage import Interval

resolved: list[str] = []


@strawberry.type
class Tag:
    name: str


@strawberry.type
class Repository:
    name: str
    labels: list[Tag]

    @strawberry.field
    def largest(self, first: int | None = None) -> list[Tag]:
        return []

    @strawberry.field
    def tags(self, first: int | None = None, last: int | None = None) -> Connection[Tag]:
        page = page_of(first, last, None, None, "NAME")
        return connection(page, ["1.0"], key=lambda row: (row,), node=lambda row: Tag(name=row))


@strawberry.type
class Top:
    tags: list[Tag]
    labels: list[Tag]


@strawberry.type
class History:
    points: list[Tag]


@strawberry.type
class Query:
    @strawberry.field
    def repositories(self, first: int | None = None, last: int | None = None) -> CountedConnection[Repository]:
        resolved.append("repositories")
        page = page_of(first, last, None, None, "NAME")
        return counted(
            page, ["web"], key=lambda row: (row,), node=lambda row: Repository(name=row, labels=[]), count=one
        )

    @strawberry.field
    def nodes(self, ids: list[str]) -> list[Tag | None]:
        return [None for _ in ids]

    @strawberry.field
    def tag(self) -> Tag | None:
        return None

    @strawberry.field
    def top(self, first: int = 10) -> Top | None:
        return None

    @strawberry.field
    def history(
        self,
        start: Annotated[str, strawberry.argument(name="from")],
        to: str,
        interval: Interval = Interval.DAY,
    ) -> History | None:
        return None


async def one() -> int:
    resolved.append("totalCount")
    return 1


schema = make_schema(Query)
SIGNED_IN = SimpleNamespace(signed_in=True)

PRICES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "plain fields are free": (0, "{ __typename }", {}),
    "an object": (1, "{ tag { name } }", {}),
    "each alias counts": (2, "{ a: tag { name } b: tag { name } }", {}),
    "a default page": (1 + 25, "{ repositories { nodes { name } } }", {}),
    "edges are wrappings": (1 + 7, "{ repositories(first: 7) { edges { cursor node { name } } } }", {}),
    "page info is free": (1, "{ repositories { pageInfo { hasNextPage } } }", {}),
    "a count": (1 + 10, "{ repositories { totalCount } }", {}),
    "the last ones": (1 + 9, "{ repositories(last: 9) { nodes { name } } }", {}),
    "a page of a page": (
        1 + 10 * (1 + 1 + 20),
        "{ repositories(first: 10) { nodes { tags(first: 20) { nodes { name } } } } }",
        {},
    ),
    "a plain list": (1 + 2 * (1 + 10), "{ repositories(first: 2) { nodes { labels { name } } } }", {}),
    "a list with a size": (1 + 2 * (1 + 7), "{ repositories(first: 2) { nodes { largest(first: 7) { name } } } }", {}),
    "its size by default": (1 + 2 * (1 + 25), "{ repositories(first: 2) { nodes { largest { name } } } }", {}),
    "lists of a size in one field": (1 + 7 + 7, "{ top(first: 7) { tags { name } labels { name } } }", {}),
    "their size by default": (1 + 10, "{ top { tags { name } } }", {}),
    "a list in such a list": (
        1 + 2 * (1 + 10),
        "{ repositories(first: 2) { nodes { ... on Repository { labels { name } } } } }",
        {},
    ),
    "days": (1 + 31, '{ history(from: "2026-01-01", to: "2026-02-01") { points { name } } }', {}),
    "hours": (1 + 48, '{ history(from: "2026-01-01", to: "2026-01-03", interval: HOUR) { points { name } } }', {}),
    "no days": (1 + 1, '{ history(from: "2026-01-03", to: "2026-01-01") { points { name } } }', {}),
    "no dates": (1 + 1, '{ history(from: "then", to: "now") { points { name } } }', {}),
    "as many days as are told": (1 + 2000, '{ history(from: "0001-01-01", to: "9999-12-31") { points { name } } }', {}),
    "days in variables": (
        1 + 24,
        "query($f: String!, $t: String!, $i: Interval) { history(from: $f, to: $t, interval: $i) { points { name } } }",
        {"f": "2026-01-01", "t": "2026-01-02T00:00:00Z", "i": "HOUR"},
    ),
    "as many as ids": (3, '{ nodes(ids: ["a", "b", "c"]) { name } }', {}),
    "ids in a variable": (2, "query($i: [String!]!) { nodes(ids: $i) { name } }", {"i": ["a", "b"]}),
    "a variable": (1 + 50, "query($n: Int) { repositories(first: $n) { nodes { name } } }", {"n": 50}),
    "a variable as JSON may have it": (
        1 + 50,
        "query($n: Int) { repositories(first: $n) { nodes { name } } }",
        {"n": 50.0},
    ),
    "a variable left out": (1 + 25, "query($n: Int) { repositories(first: $n) { nodes { name } } }", {}),
    "a variable given as null": (
        1 + 25,
        "query($n: Int = 3) { repositories(first: $n) { nodes { name } } }",
        {"n": None},
    ),
    "a variable's default": (1 + 3, "query($n: Int = 3) { repositories(first: $n) { nodes { name } } }", {}),
    "a page larger than there is": (1 + 100, "{ repositories(first: 1000000) { nodes { name } } }", {}),
    "a page smaller than there is": (1 + 1, "{ repositories(first: -5) { nodes { name } } }", {}),
    "fragments on a connection take its page": (
        (1 + 5) + (1 + 6),
        "{ a: repositories(first: 5) { ...r } b: repositories(first: 6) { ...r } } "
        "fragment r on RepositoryConnection { nodes { name } }",
        {},
    ),
    "an inline fragment": (1, "{ ... { ... on Query { tag { name } } } }", {}),
    "the schema": (1, get_introspection_query(), {}),
}


@pytest.mark.parametrize(("cost", "document", "variables"), PRICES.values(), ids=PRICES)
def test_prices(cost: int, document: str, variables: dict[str, Any]) -> None:
    assert cost_of(schema._schema, parse(document), variables) == cost


def test_the_chosen_operation_is_priced() -> None:
    document = parse("query a { tag { name } } query b { repositories { nodes { name } } }")
    assert cost_of(schema._schema, document, {}, "a") == 1
    assert cost_of(schema._schema, document, {}, "b") == 26


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_larger_page_never_costs_less(some: int, more: int) -> None:
    document = parse("query($n: Int) { repositories(first: $n) { totalCount nodes { tags { nodes { name } } } } }")
    small, large = sorted((some, more))
    costs = [cost_of(schema._schema, document, {"n": size}) for size in (small, large)]
    assert costs == sorted(costs)


NESTED = "query($n: Int, $m: Int) { repositories(first: $n) { nodes { tags(first: $m) { nodes { name } } } } }"


async def test_too_costly_reaches_no_resolver() -> None:
    resolved.clear()
    result = await schema.execute(NESTED, {"n": 100, "m": 99}, SIGNED_IN)
    (error,) = result.errors or ()
    assert error.extensions == {"code": "COST_EXCEEDED", "cost": 10_101, "limit": MAX_COST}
    assert "10,101" in error.message
    assert "10,000" in error.message
    assert result.data is None
    assert resolved == []


async def test_at_the_ceiling_it_runs() -> None:
    """The same document: only the variables differ. 1 + 99 * (1 + 1 + 99) = 10,000."""
    resolved.clear()
    result = await schema.execute(NESTED, {"n": 99, "m": 99}, SIGNED_IN)
    assert result.errors is None
    assert resolved == ["repositories"]


async def test_an_invalid_document_is_told_what_is_wrong_with_it() -> None:
    result = await schema.execute("{ repositories { nodes { nope } } }", context_value=SIGNED_IN)
    assert [one.message for one in result.errors or ()] == ["Cannot query field 'nope' on type 'Repository'."]


async def test_what_cannot_be_priced_is_left_to_the_engine() -> None:
    result = await schema.execute("{ ...nowhere }", context_value=SIGNED_IN)
    assert [one.message for one in result.errors or ()] == ["Unknown fragment 'nowhere'."]
