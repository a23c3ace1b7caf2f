"""What a document may hold, and that measuring it takes no longer than reading it."""

from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_introspection_query,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st
from strawberry.extensions.validation_cache import _get_validate_cache

from api.schema.building import CACHED_DOCUMENTS, make_schema
from api.schema.limits import SATURATED, Extent, Measure


@strawberry.type
class Box:
    name: str = "box"

    @strawberry.field
    def box(self) -> "Box":
        return Box()


@strawberry.type
class Query:
    @strawberry.field
    def box(self) -> Box:
        return Box()


@strawberry.type
class Mutation:
    @strawberry.mutation
    def shake(self) -> Box:
        return Box()


schema = make_schema(Query, Mutation)


async def code_of(document: str, signed_in: bool = True) -> str | None:
    """The code that the only error has; None if the document passes."""
    result = await schema.execute(document, context_value=SimpleNamespace(signed_in=signed_in))
    if not result.errors:
        return None
    (error,) = result.errors
    code: str | None = (error.extensions or {}).get("code")
    assert result.data is None
    return code


def nested(levels: int) -> str:
    return "{ box " * (levels - 1) + "{ name }" + " }" * (levels - 1)


def aliases(count: int) -> str:
    return "{ box { " + " ".join(f"a{n}: name" for n in range(count)) + " } }"


def fragments(count: int) -> str:
    spreads = " ".join(f"...f{n}" for n in range(count))
    return f"{{ box {{ {spreads} }} }} " + " ".join(f"fragment f{n} on Box {{ name }}" for n in range(count))


def expanded(fields: int) -> str:
    """`box`, and a fragment of nineteen fields spread often enough; the rest one by one."""
    spreads, rest = divmod(fields - 1, 19)
    body = "...many " * spreads + "name " * rest
    return f"{{ box {{ {body} }} }} fragment many on Box {{ {'name ' * 19} }}"


def chain(length: int) -> str:
    links = " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(length - 1))
    return f"{{ ...f0 }} {links} fragment f{length - 1} on Query {{ __typename }}"


AT_THE_LIMIT = {
    "12 levels": nested(12),
    "30 aliases": aliases(30),
    "2,000 fields": expanded(2000),
    "20 directives": "{ box { " + "name @skip(if: false) " * 20 + "} }",
    "10 root fields": "{ " + "box { name } " * 10 + "}",
    "5 mutations": "mutation { " + "shake { name } " * 5 + "}",
    "50 fragments": fragments(50),
}
OVER_THE_LIMIT = {
    "13 levels": ("QUERY_TOO_DEEP", nested(13)),
    "13 levels in fragments": (
        "QUERY_TOO_DEEP",
        "{ ...a } fragment a on Query { box { ...b } } fragment b on Box " + nested(12),
    ),
    "31 aliases": ("QUERY_TOO_WIDE", aliases(31)),
    "101 aliases": ("QUERY_TOO_WIDE", aliases(101)),
    "aliases that fragments multiply": (
        "QUERY_TOO_WIDE",
        "{ box { ...a ...a box { ...a ...a } } } fragment a on Box { " + aliases(8)[8:-2],
    ),
    "2,001 fields": ("QUERY_TOO_WIDE", expanded(2001)),
    "21 directives": ("QUERY_TOO_LONG", "{ box { " + "name @skip(if: false) " * 21 + "} }"),
    "11 root fields": ("QUERY_TOO_WIDE", "{ " + "box { name } " * 11 + "}"),
    "6 mutations": ("QUERY_TOO_WIDE", "mutation { " + "shake { name } " * 6 + "}"),
    "6 mutations in inline fragments": (
        "QUERY_TOO_WIDE",
        "mutation { " + "... on Mutation { shake { name } shake { name } } " * 3 + "}",
    ),
    "51 fragments": ("QUERY_TOO_LONG", fragments(51)),
    "a chain of 60 fragments": ("QUERY_TOO_LONG", chain(60)),
    "a chain of 50 fragments": ("QUERY_TOO_WIDE", chain(50)),
    "only the second operation": ("QUERY_TOO_DEEP", "query a { box { name } } query b " + nested(13)),
}


@pytest.mark.parametrize("document", AT_THE_LIMIT.values(), ids=AT_THE_LIMIT)
async def test_at_the_limit(document: str) -> None:
    assert await code_of(document) is None


@pytest.mark.parametrize(("code", "document"), OVER_THE_LIMIT.values(), ids=OVER_THE_LIMIT)
async def test_over_the_limit(code: str, document: str) -> None:
    assert await code_of(document) == code


async def test_too_many_tokens() -> None:
    """The parser itself stops reading, so the document is never held as a tree."""
    result = await schema.execute("{ " + "name " * 2_000 + "}")
    assert result.errors
    assert "more than 2000 tokens" in result.errors[0].message


async def test_fragments_in_a_circle_are_left_to_the_engine() -> None:
    result = await schema.execute("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }")
    assert result.errors
    assert "itself" in result.errors[0].message


async def test_nesting_beyond_recursion_is_refused() -> None:
    """Fragments that are each nested as far as the parser goes along, one within the other."""
    inside = "... { " * 60 + "%s" + " }" * 60
    links = " ".join(f"fragment f{n} on Query {{ {inside % f'...f{n + 1}'} }}" for n in range(9))
    result = await schema.execute(f"{{ ...f0 }} {links} fragment f9 on Query {{ __typename }}")
    assert [error.message for error in result.errors or ()] == ["Validation aborted."]


async def test_introspection_passes_for_the_signed_in() -> None:
    document = get_introspection_query(input_value_deprecation=True, schema_description=True)
    assert await code_of(document) is None


@pytest.mark.parametrize("document", ["{ __schema { description } }", 'query { t: __type(name: "Box") { name } }'])
async def test_introspection_needs_signing_in(document: str) -> None:
    """The same document, already cached for someone who may."""
    assert await code_of(document) is None
    assert await code_of(document, signed_in=False) == "UNAUTHENTICATED"
    assert await code_of(document) is None


async def test_introspection_hidden_in_a_fragment_needs_signing_in() -> None:
    document = "{ ...f } fragment f on Query { __schema { description } }"
    assert await code_of(document, signed_in=False) == "UNAUTHENTICATED"


async def test_type_names_are_open_to_all() -> None:
    assert await code_of("{ __typename box { __typename } }", signed_in=False) is None


async def test_a_document_is_validated_once() -> None:
    cache: Any = _get_validate_cache(CACHED_DOCUMENTS)
    document = "{ box { box { box { name } } } }"
    await code_of(document)
    before = cache.cache_info()
    await code_of(document)
    assert cache.cache_info().hits == before.hits + 1
    assert cache.cache_info().misses == before.misses


def test_no_extension_wraps_resolvers() -> None:
    assert not [extension for extension in schema.get_extensions() if extension._implements_resolve()]


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Fragments that spread later ones, with fields, aliases and directives anywhere."""
    count = draw(st.integers(0, 5))

    def body(after: int, depth: int) -> str:
        spreads = [f"...f{n}" for n in range(after, count)]
        leaves = st.sampled_from(["a", "x: a", "a @d", "__schema { q { q } }", *spreads])
        parts = draw(st.lists(leaves, min_size=1, max_size=3))
        if depth:
            inner = draw(st.sampled_from(["a", "y: a @d", "...", "... @d"]))
            parts.append(f"{inner} {{ {body(after, depth - 1)} }}")
        return " ".join(parts)

    operation = f"query @d {{ {body(0, draw(st.integers(0, 3)))} }}"
    return " ".join([operation, *(f"fragment f{n} on T @d {{ {body(n + 1, 1)} }}" for n in range(count))])


@given(documents())
def test_measure_agrees_with_plain_expansion(text: str) -> None:
    """What is found by measuring each fragment once is what one finds by writing all of them out."""
    document = parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    rows = written_out(document, operation.selection_set)
    assert Measure(document).operation(operation) == Extent(
        depth=max(depth for depth, *_ in rows),
        top=sum(depth == 1 for depth, _, field, *_ in rows if field),
        fields=sum(field for _, _, field, *_ in rows),
        aliases=sum(alias for _, _, _, alias in rows),
        directives=1 + sum(directives for _, directives, *_ in rows),
    )


def written_out(document: DocumentNode, chosen: SelectionSetNode) -> list[tuple[int, int, bool, bool]]:
    """One row for each selection: depth (0 for fragments), directives, is it a field, has it an alias."""
    bodies = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
    rows: list[tuple[int, int, bool, bool]] = []

    def walk(selections: SelectionSetNode, depth: int, counts: bool) -> None:
        for node in selections.selections:
            directives = len(node.directives or ())
            if isinstance(node, FieldNode):
                rows.append((depth if counts else 0, directives, True, node.alias is not None))
                if node.selection_set:
                    walk(node.selection_set, depth + 1, counts and node.name.value != "__schema")
            elif isinstance(node, FragmentSpreadNode):
                body = bodies[node.name.value]
                rows.append((0, directives + len(body.directives or ()), False, False))
                walk(body.selection_set, depth, counts)
            elif isinstance(node, InlineFragmentNode):
                rows.append((0, directives, False, False))
                walk(node.selection_set, depth, counts)

    walk(chosen, 1, True)
    return rows


def test_counts_saturate() -> None:
    document = parse(chain(60))
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    assert Measure(document).operation(operation).fields == SATURATED
