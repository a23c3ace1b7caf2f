"""Pages: what may be asked, what cursors are taken, and that walking a list meets every row once."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
import strawberry
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    create_engine,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from api.schema.building import make_schema
from api.schema.paging import (
    MAX_SIZE,
    Connection,
    CountedConnection,
    InvalidCursor,
    Key,
    Page,
    PageSizeOutOfRange,
    connection,
    counted,
    cursor_of,
    keyset,
    page_of,
)

tables = MetaData()
things = Table("things", tables, Column("name", Text), Column("size", BigInteger), Column("id", Integer))
moments = Table("moments", tables, Column("at", DateTime(timezone=True)), Column("id", Uuid()))
SOME_ID = UUID("01936b1e-0000-7000-8000-000000000001")


# What may be asked


def test_default_page() -> None:
    assert page_of(None, None, None, None, "NAME") == Page(size=25, order="NAME")


@pytest.mark.parametrize("size", [1, MAX_SIZE])
def test_sizes(size: int) -> None:
    assert page_of(size, None, None, None, "NAME") == Page(size=size, order="NAME")
    assert page_of(None, size, None, None, "NAME") == Page(size=size, order="NAME", backward=True)


@pytest.mark.parametrize(
    ("first", "last", "path"),
    [
        (0, None, ["first"]),
        (-1, None, ["first"]),
        (101, None, ["first"]),
        (None, 0, ["last"]),
        (None, 101, ["last"]),
        (1, 1, ["first", "last"]),
    ],
)
def test_sizes_out_of_range(first: int | None, last: int | None, path: list[str]) -> None:
    with pytest.raises(PageSizeOutOfRange) as refusal:
        page_of(first, last, None, None, "NAME")
    assert refusal.value.code == "PAGE_SIZE_OUT_OF_RANGE"
    assert refusal.value.detail == {"path": path, "limit": MAX_SIZE}


# Cursors

plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


def fitted(key: Key, columns: list[Column[Any]]) -> list[Any]:
    """The values that a cursor made of `key` brings into a statement."""
    page = page_of(None, None, cursor_of("X", key), None, "X")
    params = select(*columns).where(keyset(page, columns).where).compile(dialect=asyncpg_dialect()).params
    return [params[f"param_{position}"] for position in range(1, len(key) + 1)]


@given(plain_text, st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_text_and_numbers_come_back(name: str, size: int, number: int) -> None:
    assert fitted((name, size, number), [things.c.name, things.c.size, things.c.id]) == [name, size, number]


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_instants_and_ids_come_back(at: datetime, id_: UUID) -> None:
    assert fitted((at, id_), [moments.c.at, moments.c.id]) == [at, id_]


def test_instants_come_back_in_utc() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    assert fitted((at, SOME_ID), [moments.c.at, moments.c.id])[0].isoformat() == "2026-03-01T07:00:00+00:00"


@pytest.mark.parametrize("value", [None, 1.5, b"x", ["a"]])
def test_only_plain_values_make_a_key(value: object) -> None:
    with pytest.raises(TypeError):
        cursor_of("NAME", (value,))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


GARBAGE = {
    "nothing": "",
    "no base64": "{}",
    "not of the URL alphabet": "+/+/",
    "signs beyond ASCII": "é",
    "half a group": "A",
    "no UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "no JSON": base64.urlsafe_b64encode(b"[1,").decode(),
    "no list": encoded({"1": 2}),
    "no key": encoded([1, "NAME"]),
    "another version": encoded([2, "NAME", "web", 1, 1]),
    "a version of another kind": encoded(["1", "NAME", "web", 1, 1]),
    "another order": encoded([1, "SIZE", "web", 1, 1]),
    "an order of another kind": encoded([1, ["NAME"], "web", 1, 1]),
    "a cursor of lists": "arrayconnection:5",
    "too long": encoded([1, "NAME", "w" * 5_000, 1, 1]),
    "lists within lists": encoded([1, "NAME", [[]], 1, 1]),
    "too few values": encoded([1, "NAME", "web", 1]),
    "too many values": encoded([1, "NAME", "web", 1, 1, 1]),
    "a number for a text": encoded([1, "NAME", 5, 1, 1]),
    "a text for a number": encoded([1, "NAME", "web", "1", 1]),
    "null": encoded([1, "NAME", None, 1, 1]),
    "true for a number": encoded([1, "NAME", "web", True, 1]),
    "a fraction": encoded([1, "NAME", "web", 1.5, 1]),
    "a number larger than its column": encoded([1, "NAME", "web", 1, 2**31]),
    "a number larger than any column": encoded([1, "NAME", "web", 2**63, 1]),
    "a text with a zero byte": encoded([1, "NAME", "we\0b", 1, 1]),
}


@pytest.mark.parametrize("cursor", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("side", ["after", "before"])
def test_garbage_is_refused(cursor: str, side: str) -> None:
    with pytest.raises(InvalidCursor) as refusal:
        given = {"after": None, "before": None, side: cursor}
        keyset(page_of(None, None, order="NAME", **given), (things.c.name, things.c.size, things.c.id))
    assert refusal.value.code == "INVALID_CURSOR"
    assert refusal.value.detail == {"path": [side]}


@pytest.mark.parametrize(
    "key",
    [
        ["2026-13-01T00:00:00+00:00", str(SOME_ID)],
        ["2026-03-01T00:00:00", str(SOME_ID)],
        ["0001-01-01T00:00:00+14:00", str(SOME_ID)],
        [1772366400, str(SOME_ID)],
        ["2026-03-01T00:00:00+00:00", "not an id"],
        ["2026-03-01T00:00:00+00:00", 5],
    ],
    ids=["no such month", "no zone", "before the first year", "a number", "no id", "a number as id"],
)
def test_instants_and_ids_are_checked(key: list[object]) -> None:
    with pytest.raises(InvalidCursor):
        keyset(page_of(None, None, encoded([1, "AT", *key]), None, "AT"), (moments.c.at, moments.c.id))


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(garbage: bytes) -> None:
    """Whatever a cursor decodes to, the one who sent it gets a refusal and never a fault."""
    cursor = base64.urlsafe_b64encode(garbage).decode()
    with pytest.raises(InvalidCursor):
        keyset(page_of(None, None, cursor, None, "NAME"), (things.c.name, things.c.size, things.c.id))


# Statements


def sql(page: Page, **options: Any) -> str:
    statement = keyset(page, (things.c.name, things.c.id), **options).on(select(things.c.name))
    return " ".join(str(statement.compile(dialect=asyncpg_dialect())).split())


def test_statement_compares_rows() -> None:
    """One comparison of rows, which PostgreSQL answers from one index on the columns."""
    text = sql(page_of(10, None, cursor_of("X", ("web", 5)), None, "X"))
    assert "(things.name, things.id) > ($1::VARCHAR, $2::INTEGER)" in text
    assert "ORDER BY things.name ASC, things.id ASC LIMIT $3::INTEGER" in text


def test_statement_of_a_falling_order() -> None:
    text = sql(page_of(10, None, cursor_of("X", ("web", 5)), None, "X"), descending=True)
    assert "(things.name, things.id) < (" in text
    assert "ORDER BY things.name DESC, things.id DESC" in text


def test_statement_of_a_backward_page() -> None:
    text = sql(page_of(None, 10, None, cursor_of("X", ("web", 5)), "X"))
    assert "(things.name, things.id) < (" in text
    assert "ORDER BY things.name DESC, things.id DESC" in text


def test_statement_between_two_cursors() -> None:
    text = sql(page_of(10, None, cursor_of("X", ("a", 5)), cursor_of("X", ("m", 7)), "X"))
    assert "(things.name, things.id) > ($1::VARCHAR, $2::INTEGER)" in text
    assert "(things.name, things.id) < ($3::VARCHAR, $4::INTEGER)" in text


def test_statement_of_a_first_page() -> None:
    assert "WHERE true ORDER BY" in sql(page_of(None, None, None, None, "X"))


@pytest.fixture(scope="module")
def engine() -> Any:
    """Any database that knows row values will do to walk a list."""
    engine = create_engine("sqlite://")
    tables.create_all(engine)
    yield engine
    engine.dispose()


def fill(engine: Engine, names: list[str]) -> list[tuple[str, int]]:
    rows = [(name, number) for number, name in enumerate(names)]
    with engine.begin() as database:
        database.execute(things.delete())
        if rows:
            database.execute(insert(things), [{"name": name, "size": 0, "id": number} for name, number in rows])
    return sorted(rows)


def read(engine: Engine, page: Page, descending: bool) -> Connection[tuple[str, int]]:
    statement = keyset(page, (things.c.name, things.c.id), descending=descending).on(select(things.c.name, things.c.id))
    with engine.connect() as database:
        rows = [(row.name, row.id) for row in database.execute(statement)]
    return connection(page, rows, key=lambda row: row, node=lambda row: row)


lists = st.lists(st.text("abc", max_size=1), max_size=12)


@given(lists, st.integers(1, 5), st.booleans())
def test_walking_forward_meets_every_row_once(engine: Engine, names: list[str], size: int, descending: bool) -> None:
    rows = fill(engine, names)
    met, after = list[tuple[str, int]](), None
    while True:
        page = read(engine, page_of(size, None, after, None, "NAME"), descending)
        met += page.nodes
        assert page.page_info.has_previous_page is (after is not None)
        if not page.page_info.has_next_page:
            break
        assert len(page.nodes) == size
        after = page.page_info.end_cursor
    assert met == (rows[::-1] if descending else rows)


@given(lists, st.integers(1, 5), st.booleans())
def test_walking_backward_meets_every_row_once(engine: Engine, names: list[str], size: int, descending: bool) -> None:
    rows = fill(engine, names)
    met, before = list[tuple[str, int]](), None
    while True:
        page = read(engine, page_of(None, size, None, before, "NAME"), descending)
        met = page.nodes + met
        assert page.page_info.has_next_page is (before is not None)
        if not page.page_info.has_previous_page:
            break
        before = page.page_info.start_cursor
    assert met == (rows[::-1] if descending else rows)


@given(lists, st.data())
def test_between_two_cursors(engine: Engine, names: list[str], data: st.DataObject) -> None:
    """`after` and `before` at once are the rows strictly between, whichever end is read."""
    rows = fill(engine, [*names, "a", "b"])
    left, right = sorted(data.draw(st.lists(st.sampled_from(rows), min_size=2, max_size=2)))
    forward = page_of(100, None, cursor_of("NAME", left), cursor_of("NAME", right), "NAME")
    backward = page_of(None, 100, cursor_of("NAME", left), cursor_of("NAME", right), "NAME")
    between = [row for row in rows if left < row < right]
    assert read(engine, forward, False).nodes == read(engine, backward, False).nodes == between


# Answers


@strawberry.type
class Repository:
    name: str


@strawberry.type
class Entry:
    index: int


asked: list[str] = []


async def count() -> int:
    asked.append("count")
    return 40


@strawberry.type
class Query:
    @strawberry.field
    def repositories(
        self,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> CountedConnection[Repository]:
        page = page_of(first, last, after, before, "NAME")
        rows = [f"r{number}" for number in range(page.size + 1)]
        return counted(page, rows, key=lambda row: (row,), node=lambda row: Repository(name=row), count=count)

    @strawberry.field
    def entries(self) -> Connection[Entry]:
        page = page_of(None, None, None, None, "TIME")
        return connection(page, list[int](), key=lambda row: (row,), node=lambda row: Entry(index=row))


schema = make_schema(Query)


async def answer(text: str) -> dict[str, Any]:
    result = await schema.execute(text)
    assert result.errors is None
    assert result.data is not None
    return result.data


def test_names_in_the_schema() -> None:
    names = {name for name in schema._schema.type_map if name.endswith(("Connection", "Edge", "PageInfo"))}
    assert names == {"RepositoryConnection", "RepositoryEdge", "EntryConnection", "EntryEdge", "PageInfo"}


def test_fields_in_the_schema() -> None:
    fields = {
        name: sorted(kind.fields) for name, kind in schema._schema.type_map.items() if name.endswith("Connection")
    }
    assert fields == {
        "RepositoryConnection": ["edges", "nodes", "pageInfo", "totalCount"],
        "EntryConnection": ["edges", "nodes", "pageInfo"],
    }


async def test_edges_and_page_info() -> None:
    found = await answer(
        "{ repositories(first: 2) { edges { cursor node { name } } nodes { name }"
        " pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }"
    )
    first, second = cursor_of("NAME", ("r0",)), cursor_of("NAME", ("r1",))
    assert found["repositories"] == {
        "edges": [{"cursor": first, "node": {"name": "r0"}}, {"cursor": second, "node": {"name": "r1"}}],
        "nodes": [{"name": "r0"}, {"name": "r1"}],
        "pageInfo": {
            "startCursor": first,
            "endCursor": second,
            "hasNextPage": True,
            "hasPreviousPage": False,
        },
    }


async def test_a_backward_page_is_turned_round() -> None:
    found = await answer("{ repositories(last: 2) { edges { cursor node { name } } } }")
    assert found["repositories"]["edges"] == [
        {"cursor": cursor_of("NAME", ("r1",)), "node": {"name": "r1"}},
        {"cursor": cursor_of("NAME", ("r0",)), "node": {"name": "r0"}},
    ]


async def test_an_empty_page_has_no_cursors() -> None:
    found = await answer("{ entries { nodes { index } pageInfo { startCursor endCursor hasNextPage } } }")
    assert found["entries"] == {
        "nodes": [],
        "pageInfo": {"startCursor": None, "endCursor": None, "hasNextPage": False},
    }


async def test_nothing_is_counted_unless_asked() -> None:
    asked.clear()
    await answer("{ repositories { nodes { name } } }")
    assert asked == []
    assert (await answer("{ repositories { totalCount } }"))["repositories"] == {"totalCount": 40}
    assert asked == ["count"]
