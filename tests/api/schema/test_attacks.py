"""What hostile clients send to the real server: each gets a clear refusal, and nothing is run."""

import json
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, code_of, refusal, told
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Person

VIEWER = "{ viewer { user { name } } }"
JSON = {"Content-Type": "application/json"}


async def knocked(tidewaiter: Server, content: bytes | str, /, by: Person = ADMIN, **headers: str) -> tuple[int, Any]:
    """Status and code of a body sent as it stands, with the media type of today's clients."""
    accepted = {"Accept": "application/graphql-response+json"}
    async with knocking(tidewaiter, by if by.name else None) as door:
        answer = await door.post("/graphql", content=content, headers=JSON | accepted | headers)
    body = answer.json()
    assert body.get("data") is None, body
    return answer.status_code, body["errors"][0]["extensions"]["code"]


async def is_alive(tidewaiter: Server) -> bool:
    return (await ask(tidewaiter, VIEWER, ADMIN))["viewer"]["user"]["name"] == "admin"


def chain(length: int) -> str:
    """Fragments that each spread the next twice: short to write, and doubling at every step."""
    links = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(length)]
    return " ".join(["{ ...f0 }", *links, f"fragment f{length} on Query {{ viewer {{ user {{ name }} }} }}"])


def nested(levels: int) -> str:
    return (
        '{ node(id: "x") '
        + "{ ... on Organization { repositories { nodes " * levels
        + "{ id }"
        + " } } }" * levels
        + "}"
    )


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (nested(40), "QUERY_TOO_DEEP"),
        ("{" + " ".join(f"a{n}: viewer {{ user {{ name }} }}" for n in range(1000)) + "}", "SYNTAX_ERROR"),
        ("{" + " ".join(f"a{n}: __typename" for n in range(600)) + "}", "QUERY_TOO_WIDE"),
        ("{" + " ".join(f'a{n}: node(id: "x") {{ id }}' for n in range(11)) + "}", "QUERY_TOO_WIDE"),
        ("{ viewer { user {" + " ".join(f"a{n}: name" for n in range(31)) + "} } }", "QUERY_TOO_WIDE"),
        (
            "mutation {"
            + " ".join(f'a{n}: suspendUser(input: {{user: "x"}}) {{ errors {{ code }} }}' for n in range(6))
            + "}",
            "QUERY_TOO_WIDE",
        ),
        (chain(48), "QUERY_TOO_WIDE"),
        (chain(60), "QUERY_TOO_LONG"),
        ("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }", "INVALID_QUERY"),
        ("{ ...a } fragment a on Query { ...a }", "INVALID_QUERY"),
        ("{ viewer " + "@skip(if: false) " * 21 + "{ tokenLevel } }", "QUERY_TOO_LONG"),
        (
            "{ organizations(first: 99) { nodes { repositories(first: 99) { nodes { tags { nodes { name } } } } } } }",
            "COST_EXCEEDED",
        ),
        ("{ viewer { user { " + "name " * 3000 + "} } }", "SYNTAX_ERROR"),
        ("{" * 2500, "SYNTAX_ERROR"),
        ("{ viewer { user { nme } } }", "INVALID_QUERY"),
        ("", "INVALID_REQUEST"),
        ("# nothing", "SYNTAX_ERROR"),
        ("fragment f on Query { viewer { tokenLevel } }", "INVALID_REQUEST"),
        ("type Query { a: Int }", "INVALID_REQUEST"),
        ("subscription { viewer { tokenLevel } }", "INVALID_REQUEST"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else "",
)
async def test_documents_that_are_too_much_or_none(tidewaiter: Server, document: str, code: str) -> None:
    assert await knocked(tidewaiter, json.dumps({"query": document})) == (400, code)
    assert await is_alive(tidewaiter)


async def test_several_operations_run_only_by_name(tidewaiter: Server) -> None:
    """Running the first would let a reader believe that another was run (GraphQL, "GetOperation")."""
    two = f'query A {VIEWER} mutation B {{ suspendUser(input: {{user: "nobody"}}) {{ errors {{ code }} }} }}'
    assert await knocked(tidewaiter, json.dumps({"query": two})) == (400, "INVALID_QUERY")
    assert await knocked(tidewaiter, json.dumps({"query": two, "operationName": None})) == (400, "INVALID_QUERY")
    for name in ("C", "", "a", "A B", "\0"):
        found = await knocked(tidewaiter, json.dumps({"query": two, "operationName": name}))
        assert found == (400, "INVALID_REQUEST"), name
    async with knocking(tidewaiter, ADMIN) as door:
        answer = await door.post("/graphql", json={"query": two, "operationName": "A"})
        assert answer.json()["data"] == {"viewer": {"user": {"name": "admin"}}}
        answer = await door.post("/graphql", json={"query": two, "operationName": "B"})
        assert answer.json()["data"] == {"suspendUser": {"errors": [{"code": "NOT_FOUND"}]}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"query"',
        b"[]",
        b'[{"query": "{ viewer { tokenLevel } }"}]',
        b"[" * 30_000,
        b'{"query": 1}',
        b'{"query": null}',
        b'{"query": ["{ viewer { tokenLevel } }"]}',
        b'{"query": "{ viewer { tokenLevel } }", "variables": []}',
        b'{"query": "{ viewer { tokenLevel } }", "variables": "{}"}',
        b'{"query": "{ viewer { tokenLevel } }", "operationName": 1}',
        b'{"query": "{ viewer { tokenLevel } }", "extensions": 1}',
        b'{"query": "{ viewer { tokenLevel } }", "variables": {"a": NaN}}',
        b'{"query": "{ organization(name: \\"\xff\\") { name } }"}',
        b'{"query": "{ organization(name: \\"\xed\xa0\x80\\") { name } }"}',
        '{"query": "{ viewer { tokenLevel } }"}'.encode("utf-16"),
        b"query=%7Bviewer%7BtokenLevel%7D%7D",
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
async def test_bodies_that_are_no_operation(tidewaiter: Server, body: bytes) -> None:
    assert await knocked(tidewaiter, body) == (400, "INVALID_REQUEST")


async def test_bodies_that_are_too_large(tidewaiter: Server) -> None:
    large = json.dumps({"query": VIEWER, "variables": {"a": "x" * 70_000}})
    assert await knocked(tidewaiter, large) == (413, "REQUEST_TOO_LARGE")
    many = json.dumps({"query": VIEWER, "variables": {f"v{n}": n for n in range(10_000)}})
    assert await knocked(tidewaiter, many) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "text/json",
        "application/json; charset=utf-16",
        "text/plain; application/json",
        "",
    ],
)
async def test_a_form_of_another_site_is_refused(tidewaiter: Server, kind: str) -> None:
    """A browser sends these without asking first, and adds the password it remembers."""
    body = json.dumps({"query": 'mutation { createOrganization(input: {name: "stolen"}) { errors { code } } }'})
    assert await knocked(tidewaiter, body, **{"Content-Type": kind}) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert (await ask(tidewaiter, '{ organization(name: "stolen") { id } }', ADMIN))["organization"] is None


async def test_another_site_is_not_allowed_to_send_json(tidewaiter: Server) -> None:
    preflight = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with knocking(tidewaiter) as door:
        answer = await door.options("/graphql", headers=preflight)
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        answer = await door.post("/graphql", json={"query": VIEWER}, headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_operations_come_by_post_alone(tidewaiter: Server, method: str) -> None:
    document = 'mutation { createOrganization(input: {name: "by-get"}) { errors { code } } }'
    async with knocking(tidewaiter, ADMIN) as door:
        answer = await door.request(method, "/graphql", params={"query": document})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert (await ask(tidewaiter, '{ organization(name: "by-get") { id } }', ADMIN))["organization"] is None


NUL = "a\0b"
INPUTS: list[tuple[str, dict[str, Any]]] = [
    ("createAccount", {"name": NUL, "ownerName": "x", "ownerPassword": "x"}),
    ("createUser", {"account": "admin", "name": NUL, "password": "a password"}),
    ("createUser", {"account": NUL, "name": "x", "password": "a password"}),
    ("setPassword", {"user": NUL, "password": "a password"}),
    ("createAccessKey", {"name": NUL}),
    ("revokeAccessKey", {"accessKey": NUL}),
    ("createOrganization", {"name": "x", "account": NUL}),
    ("createRepository", {"organization": "x", "name": "x", "description": NUL}),
    ("createTag", {"organization": "x", "repository": "x", "source": NUL, "name": "x"}),
    ("setOrganizationPermission", {"organization": "x", "user": NUL, "level": "READ"}),
    ("createShare", {"organization": "x", "repository": "x", "account": "x", "forever": True, "description": NUL}),
    ("setQuota", {"scope": {"organization": NUL}, "key": "TAGS", "limit": 1}),
]


@pytest.mark.parametrize(("name", "given"), INPUTS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(INPUTS)])
async def test_a_nul_in_the_variables_of_a_change(tidewaiter: Server, name: str, given: dict[str, Any]) -> None:
    kind = f"{name[0].upper()}{name[1:]}Input"
    document = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ errors {{ code }} }} }}"
    body = json.dumps({"query": document, "variables": {"input": given}})
    assert await knocked(tidewaiter, body) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "query",
    [
        "query($text: String!) { organization(name: $text) { name } }",
        "query($text: String!) { repository(organization: $text, name: $text) { name } }",
        "query($text: String!) { account(name: $text) { name } }",
        "query($text: ID!) { node(id: $text) { id } }",
        "query($text: String) { auditLog(filter: {actor: $text}) { nodes { id } } }",
        "query($text: String) { repositories(filter: {name: $text}) { nodes { id } } }",
        "query($text: String) { organizations(after: $text) { nodes { id } } }",
        "query($text: String) { quotas(scope: {account: $text}) { key } }",
        "query($text: DateTime) { auditLog(filter: {since: $text}) { nodes { id } } }",
    ],
)
async def test_a_nul_or_lone_surrogate_in_any_text_that_is_read(tidewaiter: Server, query: str) -> None:
    for text in ("\0", "a\0b", "\ud800", "a\udfffb"):
        body = json.dumps({"query": query, "variables": {"text": text}})
        assert await knocked(tidewaiter, body) == (400, "INVALID_REQUEST")
    head, _, rest = query.partition(") {")
    for escape, code in (
        (r"\u0000", "INVALID_QUERY"),
        (r"a\u{0}b", "INVALID_QUERY"),
        (r"\ud800", "SYNTAX_ERROR"),
        (r"\u{DFFF}", "SYNTAX_ERROR"),
    ):
        document = "{" + rest.replace("$text", f'"{escape}"')
        assert head.startswith("query(")
        assert await knocked(tidewaiter, json.dumps({"query": document})) == (400, code), escape
        default = query.replace(")", f' = "{escape}")', 1).replace("!", "")
        assert (await knocked(tidewaiter, json.dumps({"query": default})))[0] == 400, escape


async def test_a_nul_hidden_in_lists_keys_and_what_is_not_used(tidewaiter: Server) -> None:
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    for variables in ({"ids": ["x", NUL]}, {"ids": [], "more": {"deep": [[{"a": NUL}]]}}):
        body = json.dumps({"query": query, "variables": variables})
        assert await knocked(tidewaiter, body) == (400, "INVALID_REQUEST")
    block = '{ organization(name: """a' + "\0" + 'b""") { name } }'
    assert (await knocked(tidewaiter, json.dumps({"query": block})))[0] == 400


async def test_a_written_escape_is_no_nul(tidewaiter: Server) -> None:
    """A backslash and digits are text like any other."""
    document = r'{ organization(name: "a\\u0000") { name } }'
    assert (await ask(tidewaiter, document, ADMIN))["organization"] is None


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE users; --", "%", "_", "\\", "\u202e", "\ufffe", "𝔘𝔫𝔦", "a" * 20_000, "\x01\x7f\n\r\t", "$1"]
)
async def test_any_other_text_is_only_text(tidewaiter: Server, text: str, cast: Cast) -> None:
    query = """
        query($text: String!) {
            organization(name: $text) { name }
            repositories(filter: {name: $text}) { nodes { name } }
            auditLog(filter: {target: $text}) { nodes { id } }
        }
    """
    found = await ask(tidewaiter, query, cast.acme.owner, text=text)
    assert found["organization"] is None
    error = await refusal(tidewaiter, "createOrganization", cast.acme.owner, name=text)
    assert error["code"] == "NAME_INVALID"


@pytest.mark.parametrize(
    "moment", ["", "now", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1" * 70]
)
async def test_a_moment_that_is_none(tidewaiter: Server, moment: str) -> None:
    query = "query($at: DateTime) { auditLog(filter: {since: $at}) { nodes { id } } }"
    answer = await told(tidewaiter, query, ADMIN, at=moment)
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "INVALID_QUERY"
    assert "A DateTime is written as" in error["message"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-01"])
async def test_the_ends_of_time(tidewaiter: Server, moment: str) -> None:
    query = "query($at: DateTime) { auditLog(first: 1, filter: {since: $at, until: $at}) { nodes { id } } }"
    assert (await ask(tidewaiter, query, ADMIN, at=moment))["auditLog"]["nodes"] == []


@pytest.mark.parametrize(
    "document",
    [
        "{ __schema { types { name } } }",
        '{ __type(name: "Query") { name } }',
        "{ ...f } fragment f on Query { __schema { types { name } } }",
        "{ viewer { tokenLevel } ... on Query { s: __schema { types { name } } } }",
    ],
)
async def test_the_schema_is_read_by_the_signed_in(tidewaiter: Server, cast: Cast, document: str) -> None:
    assert await code_of(tidewaiter, document, NOBODY) == "UNAUTHENTICATED"
    await ask(tidewaiter, document, cast.colleague)


async def test_a_wrong_name_is_not_helped_along(tidewaiter: Server) -> None:
    answer = await told(tidewaiter, "{ organisation { name } }", NOBODY)
    assert "organization" not in json.dumps(answer)
