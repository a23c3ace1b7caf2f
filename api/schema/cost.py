"""What an operation may cost, told from its text and variables before any resolver runs.

    an object                                   1
    `totalCount`                                10, since it reads everything that it counts
    any other plain field                       nothing
    a list of objects                           what is in it, times the page size (`first` or `last`) that it or the
                                                field around it takes, the hours or days between `from` and `to`, the
                                                number of `ids` given, or else 10

Edges and page infos are wrappings, not objects. Fields under `@skip` and `@include` are priced as if they
stood there. Over 10,000 an operation is refused with the code COST_EXCEEDED, `cost` and `limit` beside it.

A document is priced once, into a formula over its variables; only the formula is worked out again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    get_operation_ast,
    is_composite_type,
)
from strawberry.extensions import SchemaExtension

from api.schema.limits import SCHEMA_FIELDS
from api.schema.paging import DEFAULT_SIZE, MAX_SIZE
from api.schema.scalars import read_moment
from policies import history
from policies.history import MOST_POINTS, Interval

MAX_COST = 10_000
COUNT_COST = 10
LIST_SIZE = 10
PRICED_DOCUMENTS = 100

Variables = Mapping[str, Any]
Size = Callable[[Variables], int]


@dataclass(frozen=True, slots=True)
class Price:
    """A formula: `fixed`, and prices paid once for each thing on a page whose size the variables tell."""

    fixed: int = 0
    repeated: tuple[tuple[Size, "Price"], ...] = ()

    def beside(self, other: "Price") -> "Price":
        return Price(self.fixed + other.fixed, self.repeated + other.repeated)

    def with_(self, variables: Variables) -> int:
        return self.fixed + sum(size(variables) * each.with_(variables) for size, each in self.repeated)


FREE = Price()


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A parsed document that is compared by identity: its own hash walks the whole tree each time."""

    node: DocumentNode

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and other.node is self.node


class CostCeiling(SchemaExtension):
    """Refuses a valid operation that costs too much. Must come after the cache of validated documents."""

    def on_validate(self) -> Iterator[None]:
        operation = self.execution_context
        if operation.graphql_document is not None and not operation.pre_execution_errors:
            cost = cost_of(
                operation.schema._schema,
                operation.graphql_document,
                operation.variables or {},
                operation.operation_name,
            )
            if cost > MAX_COST:
                operation.pre_execution_errors = [_too_costly(cost)]
        yield


def cost_of(
    schema: GraphQLSchema, document: DocumentNode, variables: Variables, operation_name: str | None = None
) -> int:
    """The cost of a valid operation within the limits. Variables as the client sent them, not yet coerced."""
    return _price(schema, Document(document), operation_name).with_(variables)


def _too_costly(cost: int) -> GraphQLError:
    return GraphQLError(
        f"This operation costs {cost:,}, and at most {MAX_COST:,} is allowed. "
        "Ask for smaller pages, or for fewer lists inside lists.",
        extensions={"code": "COST_EXCEEDED", "cost": cost, "limit": MAX_COST},
    )


@lru_cache(maxsize=PRICED_DOCUMENTS)
def _price(schema: GraphQLSchema, document: Document, operation_name: str | None) -> Price:
    operation = get_operation_ast(document.node, operation_name)
    root = schema.get_root_type(operation.operation) if operation else None
    if operation is None or root is None:
        return FREE  # the engine refuses it with words of its own
    return Pricing(schema, document.node, operation).selections(root, operation.selection_set, None)


class Pricing:
    """One walk over a valid operation. Its length is bounded by the limit of expanded fields."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._defaults: dict[str, Any] = {
            definition.variable.name.value: _literal(definition.default_value)
            for definition in operation.variable_definitions or ()
            if definition.default_value is not None
        }

    def selections(self, parent: GraphQLNamedType, chosen: SelectionSetNode, page: Size | None) -> Price:
        """`page` is the size of the page that `parent` stands for, if it is a connection."""
        price = FREE
        for selection in chosen.selections:
            price = price.beside(self._selection(parent, selection, page))
        return price

    def _selection(self, parent: GraphQLNamedType, node: SelectionNode, page: Size | None) -> Price:
        if isinstance(node, FieldNode):
            return self._field(parent, node, page)
        if isinstance(node, FragmentSpreadNode):
            fragment = self._fragments[node.name.value]
            return self.selections(self._named(fragment.type_condition.name.value), fragment.selection_set, page)
        assert isinstance(node, InlineFragmentNode)  # noqa: S101
        condition = node.type_condition
        return self.selections(self._named(condition.name.value) if condition else parent, node.selection_set, page)

    def _field(self, parent: GraphQLNamedType, node: FieldNode, page: Size | None) -> Price:
        name = node.name.value
        if name in SCHEMA_FIELDS:
            return Price(1)
        field = self._schema.get_field(parent, name)  # type: ignore[arg-type]
        kind = get_named_type(field.type) if field else None
        if field is None or kind is None or node.selection_set is None or not is_composite_type(kind):
            return Price(COUNT_COST) if name == "totalCount" else FREE
        own = Price(0 if kind.name.endswith("Edge") or kind.name == "PageInfo" else 1)
        is_list = isinstance(get_nullable_type(field.type), GraphQLList)
        each = own.beside(self.selections(kind, node.selection_set, None if is_list else self._asked(node, field)))
        return _repeated(self._times(node, field, page) if is_list else None, each)

    def _times(self, node: FieldNode, field: GraphQLField, page: Size | None) -> Size:
        """How many there are in a list."""
        if size := page or self._asked(node, field):
            return size
        ids = self._value(node, "ids")
        return lambda variables: _length(ids(variables))

    def _asked(self, node: FieldNode, field: GraphQLField) -> Size | None:
        """How many the field was asked for, if it can be."""
        if "first" in field.args:
            first, last = self._value(node, "first"), self._value(node, "last")
            default = _size(field.args["first"].default_value) or DEFAULT_SIZE
            return lambda variables: max(_size(first(variables)), _size(last(variables))) or default
        if {"from", "to"} <= field.args.keys():
            start, end, interval = (self._value(node, name) for name in ("from", "to", "interval"))
            return lambda variables: _points(start(variables), end(variables), interval(variables))
        return None

    def _value(self, node: FieldNode, name: str) -> Callable[[Variables], Any]:
        """What the argument will be, None if it is not given. Of a list only the length can be trusted."""
        given = next((one.value for one in node.arguments or () if one.name.value == name), None)
        if isinstance(given, VariableNode):
            variable, default = given.name.value, self._defaults.get(given.name.value)
            return lambda variables: variables.get(variable, default)
        value = _literal(given)
        return lambda _: value

    def _named(self, name: str) -> GraphQLNamedType:
        return self._schema.type_map[name]


def _repeated(times: Size | None, each: Price) -> Price:
    return each if times is None else Price(0, ((times, each),))


def _literal(node: ValueNode | None) -> Any:
    if isinstance(node, IntValueNode):
        return int(node.value)
    if isinstance(node, ListValueNode):
        return list(node.values)
    if isinstance(node, StringValueNode | EnumValueNode):
        return node.value
    return None


def _size(value: object) -> int:
    """A page size, 0 if none is given. A wrong one is refused by whoever makes the page, in better words."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON knows one kind of number, and the engine takes 100.0 for 100
    return min(max(value, 1), MAX_SIZE) if isinstance(value, int) and not isinstance(value, bool) else 0


def _points(start: object, end: object, interval: object) -> int:
    """How many hours or days, and never more than are told; a span that is wrong is refused where it is read."""
    by = Interval.HOUR if interval == Interval.HOUR else Interval.DAY
    try:
        return max(min(history.count(read_moment(start), read_moment(end), by), MOST_POINTS), 1)
    except GraphQLError:
        return 1


def _length(value: object) -> int:
    return min(len(value), MAX_SIZE) if isinstance(value, list) else LIST_SIZE
