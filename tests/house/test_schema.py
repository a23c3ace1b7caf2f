"""The GraphQL schema as its users read it: checked in as it is printed, described throughout, and with the names that
scripts rely on."""

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    get_named_type,
    is_introspection_type,
    is_specified_scalar_type,
    parse,
    validate,
)

from api.schema.whole import schema

FILE = Path(__file__).parents[2] / "api" / "schema.graphql"
REGENERATE = "api/schema.graphql is not the schema. Run: tidewaiter schema --output api/schema.graphql"
SCHEMA = schema._schema
TYPES: list[GraphQLNamedType] = [
    kind
    for name, kind in sorted(SCHEMA.type_map.items())
    if not is_introspection_type(kind) and not is_specified_scalar_type(kind)
]


def test_the_schema_is_checked_in_as_it_is_printed() -> None:
    kept, printed = FILE.read_text(), schema.as_str() + "\n"
    difference = "\n".join(unified_diff(kept.splitlines(), printed.splitlines(), "checked in", "printed", n=1))
    assert kept == printed, f"{REGENERATE}\n{difference}"


def described() -> Iterator[tuple[str, Any]]:
    """Everything that a person sees, with its coordinate."""
    for kind in TYPES:
        yield kind.name, kind
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{kind.name}.{name}", value) for name, value in kind.values.items())
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for name, field in kind.fields.items():
                yield f"{kind.name}.{name}", field
                arguments = getattr(field, "args", {})
                yield from ((f"{kind.name}.{name}({argument}:)", one) for argument, one in arguments.items())


def test_all_that_a_person_sees_is_described() -> None:
    silent = [coordinate for coordinate, one in described() if not one.description]
    assert silent == [], "Say of each what its name cannot."


def words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text).lower().split()


def test_no_description_only_repeats_the_name() -> None:
    for coordinate, one in described():
        name = coordinate.rpartition(".")[2].partition("(")[2].rstrip(":)") or coordinate.rpartition(".")[2]
        said = words(one.description)
        assert "".join(said) not in {name.lower(), f"the{name.lower()}"}, coordinate
        assert one.description[-1] in ".;)", f"{coordinate} is no sentence"


def mutations() -> dict[str, Any]:
    assert SCHEMA.mutation_type is not None
    return dict(SCHEMA.mutation_type.fields)


@pytest.mark.parametrize("name", mutations())
def test_a_change_takes_one_input_and_tells_its_errors(name: str) -> None:
    field = mutations()[name]
    assert list(field.args) == ["input"]
    assert str(field.args["input"].type).endswith("Input!")
    payload = get_named_type(field.type)
    assert isinstance(payload, GraphQLObjectType)
    assert str(payload.fields["errors"].type) == "[UserError!]!"
    assert [one for one, shown in payload.fields.items() if str(shown.type).endswith("!")] == ["errors"]


def test_lists_that_grow_are_pages() -> None:
    for kind in TYPES:
        for name, field in getattr(kind, "fields", {}).items():
            result = get_named_type(field.type)
            if isinstance(kind, GraphQLObjectType) and result.name.endswith("Connection"):
                assert {"first", "last", "after", "before"} <= set(field.args), f"{kind.name}.{name}"
                assert {"pageInfo", "edges", "nodes"} <= set(getattr(result, "fields", {}))


def test_ends_are_announced() -> None:
    """Who reads that a field is deprecated must learn what to use in its place."""
    for coordinate, one in described():
        reason = getattr(one, "deprecation_reason", None)
        assert reason is None or reason.startswith("Use `"), coordinate


RELIED_ON = [
    "{ viewer { user { name } account { name } } node(id: 1) { id } nodes(ids: [1]) { id } }",
    '{ account(name: "a") { users(first: 1) { nodes { name } } } accounts(first: 1) { nodes { name } } }',
    '{ organization(name: "a") { name } organizations(last: 1) { nodes { name } } }',
    """
    { repository(organization: "a", name: "b") {
        tags(first: 1) { nodes { name digest sizeBytes mediaType platforms pushedAt pushedBy lastPulledAt pullCount } }
        id name organization visibility category description sizeBytes tagCount pullCount createdAt updatedAt address
        viewerPermission manifests(first: 1) { nodes { digest } } permissions { user level } shares { account }
    } }
    """,
    '{ repositories(filter: {organization: "a"}, orderBy: {field: NAME, direction: DESC}) { totalCount } }',
    """
    { auditLog(first: 1, filter: {action: "image.pull", outcome: DENIED}) { nodes {
        index state time action outcome reason actor { name } client source target changes requestId
    } } }
    """,
    '{ quotas(scope: {account: "a"}) { key limit used } }',
    'mutation { createAccount(input: {name: "a", ownerName: "b", ownerPassword: "c"}) { errors { code path } } }',
    'mutation { createUser(input: {account: "a", name: "b", password: "c"}) { user { id } errors { message code } } }',
    'mutation { setPassword(input: {user: "a", password: "b"}) { errors { code } } }',
    'mutation { suspendUser(input: {user: "a"}) { errors { code } } }',
    'mutation { createOrganization(input: {name: "a"}) { organization { id } errors { message code } } }',
    'mutation { deleteOrganization(input: {name: "a"}) { errors { message code } } }',
    'mutation { createRepository(input: {organization: "a", name: "b", visibility: PUBLIC}) { repository { id } } }',
    'mutation { updateRepository(input: {organization: "a", name: "b", description: ""}) { repository { id } } }',
    'mutation { deleteRepository(input: {organization: "a", name: "b"}) { errors { message code } } }',
    'mutation { createTag(input: {organization: "a", repository: "b", source: "c", name: "d"}) { errors { code } } }',
    'mutation { deleteTag(input: {organization: "a", repository: "b", name: "d"}) { errors { code } } }',
    'mutation { setOrganizationPermission(input: {organization: "a", user: "b", level: READ}) { errors { code } } }',
    'mutation { removeOrganizationPermission(input: {organization: "a", user: "b"}) { errors { code } } }',
    """
    mutation {
        setRepositoryPermission(input: {organization: "a", repository: "b", user: "c", level: READ}) { errors { code } }
        removeRepositoryPermission(input: {organization: "a", repository: "b", user: "c"}) { errors { code } }
    }
    """,
    """
    mutation {
        createShare(input: {
            organization: "a", repository: "b", account: "c", expiresAt: "2030-01-01T00:00:00Z", description: "d"
        }) { share { id expiresAt } errors { message code } }
        forever: createShare(input: {organization: "a", repository: "b", account: "c", forever: true}) { share { id } }
        updateShare(input: {organization: "a", repository: "b", account: "c", expiresAt: null}) { errors { code } }
        deleteShare(input: {organization: "a", repository: "b", account: "c"}) { errors { message code } }
    }
    """,
    'mutation { setQuota(input: {scope: {organization: "a"}, key: STORAGE_BYTES, limit: 1}) { errors { code } } }',
    'mutation { setQuota(input: {scope: {account: "a"}, key: TAGS, limit: null}) { quota { limit } } }',
    "mutation { createLoginCommand(input: {minutes: 15}) { docker expiresAt } }",
    'mutation { createAccessKey(input: {name: "a", level: READ}) { accessKey { id } secret } }',
    "mutation { revokeAccessKey(input: {accessKey: 1}) { errors { code } } }",
]


@pytest.mark.parametrize("document", RELIED_ON)
def test_names_that_scripts_rely_on(document: str) -> None:
    assert validate(SCHEMA, parse(document)) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Outcome", ["ALLOWED", "DENIED", "FAILED"]),
        ("Level", ["READ", "WRITE", "MANAGE"]),
        ("Visibility", ["PUBLIC", "PRIVATE"]),
        (
            "QuotaKey",
            [
                *["ORGANIZATIONS", "USERS", "ACCESS_TOKENS", "SHARES", "TRIGGERS", "REPOSITORIES", "TAGS"],
                *["STORAGE_BYTES", "EGRESS_BYTES", "PULLS"],
            ],
        ),
    ],
)
def test_values_that_scripts_rely_on(name: str, values: list[str]) -> None:
    kind = SCHEMA.type_map[name]
    assert isinstance(kind, GraphQLEnumType)
    assert list(kind.values) == values


def test_every_mutation_takes_one_input_named_for_it_and_tells_its_errors() -> None:
    """So that who knows the name of a mutation can write it."""
    assert SCHEMA.mutation_type is not None
    for name, field in SCHEMA.mutation_type.fields.items():
        own = name[0].upper() + name[1:]
        assert {argument: str(each.type) for argument, each in field.args.items()} == {"input": f"{own}Input!"}
        payload = SCHEMA.type_map[str(field.type).rstrip("!")]
        assert isinstance(payload, GraphQLObjectType)
        assert str(payload.fields["errors"].type) == "[UserError!]!"
