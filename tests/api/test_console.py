"""The console's pages: what is vendored is what was published, and nothing comes from elsewhere."""

import hashlib
import json
import re
from importlib.resources import files
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from api.console import console_routes, graphiql_page

HOME = files("api.console")
VENDORED: list[dict[str, Any]] = json.loads(HOME.joinpath("vendor/vendor.json").read_text())


async def page(_: Request) -> Response:
    return graphiql_page()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[Route("/graphql", page), *console_routes()]))


@pytest.mark.parametrize("entry", VENDORED, ids=lambda entry: entry["file"])
def test_vendored_as_published(entry: dict[str, Any]) -> None:
    content = HOME.joinpath("vendor", entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_everything_vendored_is_listed() -> None:
    present = {file.name for file in HOME.joinpath("vendor").iterdir()}
    assert present == {entry["file"] for entry in VENDORED} | {"vendor.json"}


def test_every_package_comes_with_its_licence() -> None:
    packages = {entry["package"] for entry in VENDORED}
    assert packages == {entry["package"] for entry in VENDORED if entry["source"] == "LICENSE"}


def test_names_that_browsers_keep_carry_their_version() -> None:
    code = [entry for entry in VENDORED if entry["source"] != "LICENSE"]
    assert code
    assert all(entry["version"] in entry["file"] for entry in code)


def policy_of(response: Any) -> dict[str, list[str]]:
    parts = (part.split() for part in response.headers["content-security-policy"].split(";"))
    return {name: sources for name, *sources in parts}


def test_policy_of_the_page(client: TestClient) -> None:
    policy = policy_of(client.get("/graphql"))
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    allowed = {source for sources in policy.values() for source in sources}
    assert allowed == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert [name for name, sources in policy.items() if "'unsafe-inline'" in sources] == ["style-src"]


def test_all_that_the_page_loads_is_here(client: TestClient) -> None:
    html = client.get("/graphql").text
    loaded = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(loaded) == 6
    for address in loaded:
        if address != "data:,":
            assert address.startswith("/console/")
            assert client.get(address).status_code == 200


def test_no_script_in_the_page_itself(client: TestClient) -> None:
    """The policy would stop it."""
    html = client.get("/graphql").text
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL))
    assert not re.search(r"\son[a-z]+=", html)


@pytest.mark.parametrize("name", ["graphiql.html", "graphiql.js"])
def test_our_own_files_name_no_other_host(name: str) -> None:
    assert not re.search(r"https?://|[\"'(]//", HOME.joinpath(name).read_text())


def test_styles_load_nothing_from_elsewhere() -> None:
    for entry in VENDORED:
        if entry["file"].endswith(".css"):
            text = HOME.joinpath("vendor", entry["file"]).read_text()
            assert set(re.findall(r"url\(\s*[\"']?([a-z]+:|[^d])", text)) <= {"data:"}
            assert "@import" not in text


@pytest.mark.parametrize("entry", VENDORED, ids=lambda entry: entry["file"])
def test_vendored_files_are_kept_for_good(client: TestClient, entry: dict[str, Any]) -> None:
    response = client.get(f"/console/vendor/{entry['file']}")
    assert response.status_code == 200
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"
    kinds = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
    assert response.headers["content-type"].startswith(kinds[re.search(r"\.[a-z]+$", entry["file"])[0]])


@pytest.mark.parametrize("name", ["vendor.json", "nothing.js", "..%2Fgraphiql.html", "%2e%2e%2f__init__.py", ""])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/console/vendor/{name}").status_code == 404


def test_our_script_is_asked_for_again(client: TestClient) -> None:
    """Its name carries no version, so a browser must ask whether its copy is the current one."""
    response = client.get("/console/graphiql.js")
    assert response.headers["cache-control"] == "no-cache"
    again = client.get("/console/graphiql.js", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_the_page_itself_is_not_kept(client: TestClient) -> None:
    assert client.get("/graphql").headers["cache-control"] == "no-store"
