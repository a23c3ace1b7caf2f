"""Pages of a list, as the GraphQL Cursor Connections Specification has them, found by key and not by offset.

    page = page_of(first, last, after, before, order="NAME")
    keys = keyset(page, (col(Repository.name), col(Repository.id)))
    rows = await work.fetch(keys.on(select(...)))              # one row more than the page holds
    return connection(page, rows, key=lambda row: (row.name, row.id), node=RepositoryNode.of)

The last column of a key must be unique, and none may be null. A cursor holds the key of its row and the name
of the order; it is neither secret nor signed, since what may be seen is asked anew for every page. Whatever
comes back in one is therefore checked like any other input.

`Connection[Repository]` is named RepositoryConnection in the schema, its edges RepositoryEdge;
`CountedConnection[Repository]` takes the same name and adds `totalCount`.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
import strawberry
from sqlalchemy import BigInteger, ColumnElement, Select, UnaryExpression, and_, tuple_

from registry.errors import Invalid

DEFAULT_SIZE = 25
MAX_SIZE = 100
VERSION = 1
LONGEST_CURSOR = 2_000

Key = tuple[Any, ...]
Row = TypeVar("Row")
Node = TypeVar("Node")
Rows = TypeVar("Rows", bound=Select[Any])


# The arguments of every connection.
First = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many entries from the beginning, 1 to {MAX_SIZE}. Without `first` and `last`: {DEFAULT_SIZE}."
    ),
]
Last = Annotated[
    int | None,
    strawberry.argument(description=f"How many entries from the end, 1 to {MAX_SIZE}; not together with `first`."),
]
After = Annotated[str | None, strawberry.argument(description="Only entries behind this cursor.")]
Before = Annotated[str | None, strawberry.argument(description="Only entries ahead of this cursor.")]


class PageSizeOutOfRange(Invalid):
    """`detail` holds path, and limit: the largest page there is."""

    code = "PAGE_SIZE_OUT_OF_RANGE"


class InvalidCursor(Invalid):
    code = "INVALID_CURSOR"


@dataclass(frozen=True, slots=True)
class Page:
    """A page as asked for. `after` and `before` are keys as cursors hold them, not yet fitted to columns."""

    size: int
    order: str
    backward: bool = False
    after: Key | None = None
    before: Key | None = None


def page_of(first: int | None, last: int | None, after: str | None, before: str | None, order: str) -> Page:
    """The page that the four arguments of a connection describe; `order` names how the list is sorted.

    Raises `PageSizeOutOfRange` and `InvalidCursor`.
    """
    return Page(
        size=_size(first, last),
        order=order,
        backward=last is not None,
        after=None if after is None else _read_cursor(after, order, "after"),
        before=None if before is None else _read_cursor(before, order, "before"),
    )


def _size(first: int | None, last: int | None) -> int:
    if first is not None and last is not None:
        raise PageSizeOutOfRange(
            "Ask for the first or for the last of a list, not for both at once.",
            path=["first", "last"],
            limit=MAX_SIZE,
        )
    name, size = ("last", last) if last is not None else ("first", first)
    if size is None:
        return DEFAULT_SIZE
    if not 1 <= size <= MAX_SIZE:
        raise PageSizeOutOfRange(
            f"A page holds 1 to {MAX_SIZE} entries, and '{name}' asked for {size}. "
            "Ask for fewer, and use the cursors to go on.",
            path=[name],
            limit=MAX_SIZE,
        )
    return size


# Cursors


def cursor_of(order: str, key: Key) -> str:
    """Keys are made of strings, whole numbers, aware instants and UUIDs."""
    text = orjson.dumps([VERSION, order, *(_plain(value) for value in key)])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _plain(value: object) -> str | int:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (str, int)):
        return value
    raise TypeError(f"A key cannot hold {value!r}: coalesce what may be null, convert what is not plain.")


def _read_cursor(text: str, order: str, path: str) -> Key:
    try:
        if len(text) > LONGEST_CURSOR:
            raise _invalid_cursor(path)
        found = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise _invalid_cursor(path) from None
    match found:
        case [version, str(made_for), *key] if version == VERSION and key and all(map(_is_plain, key)):
            if made_for != order:
                raise InvalidCursor(
                    "This cursor belongs to a list in another order. Start again without one.", path=[path]
                )
            return tuple(key)
    raise _invalid_cursor(path)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int)


def _invalid_cursor(path: str) -> InvalidCursor:
    return InvalidCursor(
        "This cursor was not made by this list. Use one that an answer held, or start again without one.",
        path=[path],
    )


# Statements


@dataclass(frozen=True, slots=True)
class Keyset:
    """What a statement needs to read one page. `limit` is one more than its size: are there more to come?"""

    where: ColumnElement[bool]
    order_by: tuple[UnaryExpression[Any], ...]
    limit: int

    def on(self, statement: Rows) -> Rows:
        return statement.where(self.where).order_by(*self.order_by).limit(self.limit)


def keyset(page: Page, columns: Sequence[Any], *, descending: bool = False) -> Keyset:
    """Rows of `page` in the order of `columns`, compared as one row value so that an index on them serves.

    A backward page is read from its end: `connection` turns the rows round. Raises `InvalidCursor` if the
    values of a cursor do not fit the columns.
    """
    row = tuple_(*columns)
    conditions = []
    if page.after is not None:
        bound = _fitted(page.after, columns, "after")
        conditions.append(row < bound if descending else row > bound)
    if page.before is not None:
        bound = _fitted(page.before, columns, "before")
        conditions.append(row > bound if descending else row < bound)
    falling = descending is not page.backward
    order_by = tuple(column.desc() if falling else column.asc() for column in columns)
    return Keyset(and_(True, *conditions), order_by, page.size + 1)


def _fitted(key: Key, columns: Sequence[Any], path: str) -> Any:
    if len(key) != len(columns):
        raise _invalid_cursor(path)
    try:
        values = [_fit(value, column.type) for value, column in zip(key, columns, strict=True)]
    except (ValueError, OverflowError):
        raise _invalid_cursor(path) from None
    return tuple_(*values, types=[column.type for column in columns])


def _fit(value: object, kind: Any) -> Any:
    """The value as the column's type holds it. ValueError also for what the database would choke on."""
    wanted = kind.python_type
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        bits = 63 if isinstance(kind, BigInteger) else 31
        if -(1 << bits) <= value < 1 << bits:
            return value
    elif isinstance(value, str):
        if wanted is str and "\0" not in value:
            return value
        if wanted is UUID:
            return UUID(value)
        if wanted is datetime and (moment := datetime.fromisoformat(value)).tzinfo:
            return moment.astimezone(UTC)
    raise ValueError("a cursor's value does not fit its column")


# Answers


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(
        description="Whether more entries follow. Going backward: whether `before` was given."
    )
    has_previous_page: bool = strawberry.field(
        description="Whether more entries precede. Going forward: whether `after` was given."
    )
    start_cursor: str | None = strawberry.field(description="Place of the first entry; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="Place of the last entry; null on an empty page.")


@strawberry.type(description="An entry of a list and its place there.")
class Edge(Generic[Node]):
    cursor: str = strawberry.field(description="The entry's place, to be given as `after` or `before`.")
    node: Node = strawberry.field(description="The entry.")


@strawberry.type(description="One page of a list.")
class Connection(Generic[Node]):
    page_info: PageInfo = strawberry.field(description="Where this page stands in the list.")
    nodes: list[Node] = strawberry.field(description="The entries.")
    cursor_at: strawberry.Private[Callable[[int], str]]

    @strawberry.field(description="The entries, each with its place in the list.")
    def edges(self) -> list[Edge[Node]]:
        return [Edge(cursor=self.cursor_at(place), node=node) for place, node in enumerate(self.nodes)]


@strawberry.type(name="Connection", description="One page of a list whose entries are counted on request.")
class CountedConnection(Connection[Node]):
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field(description="The number of entries in the list; null if unknown.")
    async def total_count(self) -> int | None:
        return await self.count()


def connection(
    page: Page, rows: Sequence[Row], *, key: Callable[[Row], Key], node: Callable[[Row], Node]
) -> Connection[Node]:
    """The page that `rows`, read by its keyset, make up. Edges are made only if they are selected."""
    shown, info, cursor_at = _arranged(page, rows, key)
    return Connection(page_info=info, nodes=[node(row) for row in shown], cursor_at=cursor_at)


def counted(
    page: Page,
    rows: Sequence[Row],
    *,
    key: Callable[[Row], Key],
    node: Callable[[Row], Node],
    count: Callable[[], Awaitable[int]],
) -> CountedConnection[Node]:
    """As `connection`; `count` is awaited only if `totalCount` is selected."""
    shown, info, cursor_at = _arranged(page, rows, key)
    return CountedConnection(page_info=info, nodes=[node(row) for row in shown], cursor_at=cursor_at, count=count)


def _arranged(
    page: Page, rows: Sequence[Row], key: Callable[[Row], Key]
) -> tuple[Sequence[Row], PageInfo, Callable[[int], str]]:
    more = len(rows) > page.size
    shown = rows[: page.size]
    if page.backward:
        shown = shown[::-1]

    def cursor_at(place: int) -> str:
        return cursor_of(page.order, key(shown[place]))

    info = PageInfo(
        has_next_page=page.before is not None if page.backward else more,
        has_previous_page=more if page.backward else page.after is not None,
        start_cursor=cursor_at(0) if shown else None,
        end_cursor=cursor_at(-1) if shown else None,
    )
    return shown, info, cursor_at
