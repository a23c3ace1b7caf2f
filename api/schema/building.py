"""How the schema is put together: which extensions stand around an operation, and in which order.

None of them has a `resolve` hook: one alone would make every field awaitable and a list four times slower.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import strawberry
from graphql import (
    BREAK,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    Visitor,
    VisitorAction,
    get_named_type,
    visit,
)
from strawberry.extensions import ParserCache, SchemaExtension, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.scalar import ScalarDefinition

from api.schema.cost import CostCeiling, Document
from api.schema.limits import SCHEMA_FIELDS, Limits

# A document at the limit of tokens weighs about a megabyte once it is parsed.
CACHED_DOCUMENTS = 100


class Schema(strawberry.Schema):
    """Leaves the log alone: whoever answers the client logs what was unexpected, with the request's id."""

    def process_errors(self, *_: Any, **__: Any) -> None:
        return None


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Forgets what it remembered for an event of a subscription when the next one comes. graphql-core keeps it as long
    as somebody subscribes, by the identity of lists that are new with each event, and so never finds it again."""

    def build_per_event_executor(self, payload: Any) -> Any:
        executor = super().build_per_event_executor(payload)
        executor._relevant_sub_fields = {}
        return executor


def make_schema(
    query: type,
    mutation: type | None = None,
    subscription: type | None = None,
    *,
    types: Iterable[type] = (),
    scalars: Mapping[object, ScalarDefinition] | None = None,
    extensions: Iterable[type[SchemaExtension]] = (),
) -> Schema:
    """A schema with limits, cost ceiling and caches.

    Introspection is for operations whose context has a true `signed_in`.
    """
    schema = Schema(
        query=query,
        mutation=mutation,
        subscription=subscription,
        execution_context_class=Executor,
        types=types,
        extensions=[
            Limits,
            _parser_cache,
            _validation_cache,
            OneOperation,
            IntrospectionSignedIn,
            CostCeiling,
            *extensions,
        ],
        config=StrawberryConfig(disable_field_suggestions=True, scalar_map=scalars or {}),
    )
    _describe_inputs(schema)
    return schema


def _describe_inputs(schema: Schema) -> None:
    """The `input` of a mutation is what its type is."""
    mutations = schema._schema.mutation_type
    for field in mutations.fields.values() if mutations else ():
        for argument in field.args.values():
            argument.description = argument.description or get_named_type(argument.type).description


def _parser_cache() -> SchemaExtension:
    return ParserCache(maxsize=CACHED_DOCUMENTS)


def _validation_cache() -> SchemaExtension:
    return ValidationCache(maxsize=CACHED_DOCUMENTS)


class OneOperation(SchemaExtension):
    """A document of several operations runs none of them unless one is named (GraphQL, "GetOperation"); strawberry
    would run the first. Must come after the cache of validated documents, which knows no names."""

    def on_validate(self) -> Iterator[None]:
        asked = self.execution_context
        unnamed = asked._provided_operation_name is None
        if asked.graphql_document is not None and not asked.pre_execution_errors and unnamed:
            operations = [isinstance(one, OperationDefinitionNode) for one in asked.graphql_document.definitions]
            if sum(operations) > 1:
                asked.pre_execution_errors = [
                    GraphQLError(
                        "The document holds several operations. Say in 'operationName' which one to run.",
                        extensions={"code": "INVALID_QUERY"},
                    )
                ]
        yield


class IntrospectionSignedIn(SchemaExtension):
    """Must come after the cache of validated documents, which is the same for all who ask."""

    def on_validate(self) -> Iterator[None]:
        operation = self.execution_context
        if (
            operation.graphql_document is not None
            and not getattr(operation.context, "signed_in", False)
            and reads_schema(Document(operation.graphql_document))
        ):
            operation.pre_execution_errors = [
                GraphQLError(
                    "Only signed-in users may read the schema here. Sign in, or read schema.graphql.",
                    extensions={"code": "UNAUTHENTICATED"},
                )
            ]
        yield


@lru_cache(maxsize=CACHED_DOCUMENTS)
def reads_schema(document: Document) -> bool:
    finder = _SchemaFields()
    visit(document.node, finder)
    return finder.found


class _SchemaFields(Visitor):
    found = False

    def enter_field(self, node: FieldNode, *_: Any) -> VisitorAction:
        if node.name.value in SCHEMA_FIELDS:
            self.found = True
            return BREAK
        return None
