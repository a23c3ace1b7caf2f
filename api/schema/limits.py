"""How large a GraphQL document may be. Checked while it is validated, before anything of it runs.

Every operation of a document is measured with its fragments expanded. A fragment is measured once however
often it is spread and counts saturate, so the time spent grows with the text and not with what it expands to:
a chain of fragments that each spread the next twice is short to write and doubles at every step.

Codes, in `extensions.code`, with `limit` beside them:

    QUERY_TOO_LONG    more than 50 fragments, or more than 20 directives
    QUERY_TOO_DEEP    fields nested more than 12 levels; below `__schema` and `__type` levels do not count
    QUERY_TOO_WIDE    more than 30 aliases, 2,000 fields, 10 root fields, or 5 mutations in one operation
    SYNTAX_ERROR      more than 2,000 tokens: the parser gives up on it
    INVALID_QUERY     a NUL character in a string: no text that this server keeps may hold one

What may be large in a small document, because of page sizes, is priced in `api.schema.cost`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValidationContext,
    specified_rules,
)
from graphql.validation.validate import ValidationAbortedError
from strawberry.extensions import SchemaExtension

MAX_TOKENS = 2_000
MAX_FRAGMENTS = 50
MAX_DIRECTIVES = 20
MAX_DEPTH = 12
MAX_ALIASES = 30
MAX_FIELDS = 2_000
MAX_ROOT_FIELDS = 10
MAX_MUTATIONS = 5

SATURATED = 1_000_000
SCHEMA_FIELDS = frozenset({"__schema", "__type"})


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a selection goes with its fragments expanded. `top` counts its own fields, not those below."""

    depth: int = 0
    top: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: Self) -> "Extent":
        return Extent(
            max(self.depth, other.depth),
            min(self.top + other.top, SATURATED),
            min(self.fields + other.fields, SATURATED),
            min(self.aliases + other.aliases, SATURATED),
            min(self.directives + other.directives, SATURATED),
        )


NOTHING = Extent()


class Measure:
    """Extents of the selections of one document."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._measured: dict[str, Extent] = {}

    def operation(self, node: OperationDefinitionNode) -> Extent:
        variables = sum(len(variable.directives or ()) for variable in node.variable_definitions or ())
        own = Extent(directives=len(node.directives or ()) + variables)
        return own.beside(self.selections(node.selection_set))

    def selections(self, selection_set: SelectionSetNode | None) -> Extent:
        extent = NOTHING
        for selection in selection_set.selections if selection_set else ():
            extent = extent.beside(Extent(directives=len(selection.directives or ())))
            if isinstance(selection, FieldNode):
                extent = extent.beside(self._field(selection))
            elif isinstance(selection, InlineFragmentNode):
                extent = extent.beside(self.selections(selection.selection_set))
            elif isinstance(selection, FragmentSpreadNode):
                extent = extent.beside(self._fragment(selection.name.value))
        return extent

    def _field(self, node: FieldNode) -> Extent:
        below = self.selections(node.selection_set)
        return Extent(
            depth=1 if node.name.value in SCHEMA_FIELDS else below.depth + 1,
            top=1,
            fields=below.fields + 1,
            aliases=below.aliases + (node.alias is not None),
            directives=below.directives,
        )

    def _fragment(self, name: str) -> Extent:
        """A fragment that is unknown or spreads itself reaches nowhere; the rules of GraphQL refuse both."""
        if name not in self._measured:
            self._measured[name] = NOTHING
            if fragment := self._fragments.get(name):
                own = Extent(directives=len(fragment.directives or ()))
                self._measured[name] = own.beside(self.selections(fragment.selection_set))
        return self._measured[name]


class WithinLimits(ASTValidationRule):
    """Refuses a document at its first breach, and with it all further validation."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._measure = Measure(context.document)

    def enter_document(self, node: DocumentNode, *_: Any) -> None:
        fragments = [one for one in node.definitions if isinstance(one, FragmentDefinitionNode)]
        if len(fragments) > MAX_FRAGMENTS:
            _refuse("QUERY_TOO_LONG", "fragments", len(fragments), MAX_FRAGMENTS, fragments[MAX_FRAGMENTS])

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        # By now the engine has refused fragments that nest deeper than its recursion can follow.
        extent = self._measure.operation(node)
        for code, what, found, limit in _limits(extent, node.operation):
            if found > limit:
                _refuse(code, what, found, limit, node)

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        if "\0" in node.value:
            raise ValidationAbortedError(
                "A string in this operation holds a NUL character, which no text here may hold. Leave it out.",
                node,
                extensions={"code": "INVALID_QUERY"},
            )


def _limits(extent: Extent, operation: OperationType) -> Iterator[tuple[str, str, int, int]]:
    yield "QUERY_TOO_LONG", "directives", extent.directives, MAX_DIRECTIVES
    yield "QUERY_TOO_DEEP", "levels of fields", extent.depth, MAX_DEPTH
    if operation is OperationType.MUTATION:
        yield "QUERY_TOO_WIDE", "mutations", extent.top, MAX_MUTATIONS
    yield "QUERY_TOO_WIDE", "root fields", extent.top, MAX_ROOT_FIELDS
    yield "QUERY_TOO_WIDE", "aliases", extent.aliases, MAX_ALIASES
    yield "QUERY_TOO_WIDE", "fields", extent.fields, MAX_FIELDS


def _refuse(code: str, what: str, found: int, limit: int, node: Node) -> NoReturn:
    number = f"at least {SATURATED:,}" if found >= SATURATED else f"{found:,}"
    raise ValidationAbortedError(
        f"This operation has {number} {what}, and at most {limit:,} are allowed. Split it into several.",
        node,
        extensions={"code": code, "limit": limit},
    )


# One tuple for the life of the process: the cache of validated documents has the rules in its key.
RULES: tuple[type[ASTValidationRule], ...] = (WithinLimits, *specified_rules)


class Limits(SchemaExtension):
    """Puts the limits before the rules of GraphQL. Must come before the caches of documents."""

    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options = {"max_tokens": MAX_TOKENS}
        self.execution_context.validation_rules = RULES
        yield
