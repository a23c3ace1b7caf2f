"""docs/reference/errors.md lists every code that a client can meet, and no other; and clients of the registry are shown
every refusal by the table of the protocol."""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import api
import registry
from registry.errors import Refusal
from registry.protocol.errors import TABLE, shown_as

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `(?P<code>[A-Z_]+)` \|(?P<rest>.+)\|$", re.MULTILINE)
STATUS = re.compile(r"\| (?P<status>\d{3}) (?P<oci>[A-Z_]+) \|")
# Codes that are no refusals are written as text where GraphQL is answered.
ANSWERING = [
    "api/answering.py",
    "api/graphql.py",
    "api/requests.py",
    "api/schema/building.py",
    "api/schema/cost.py",
    "api/schema/limits.py",
]
CODE = re.compile(r"[A-Z]+(_[A-Z]+)+|[A-Z]{5,}")


def subclasses(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def refusals() -> set[type[Refusal]]:
    for house in (registry, api):
        for module in pkgutil.walk_packages(house.__path__, f"{house.__name__}."):
            if ".migrations." not in module.name:  # those run when they are imported by alembic
                importlib.import_module(module.name)
    return {kind for kind in subclasses(Refusal) if kind.__module__.split(".")[0] in {"registry", "api"}}


def codes_of_graphql() -> set[str]:
    """Constants that look like a code, in the modules that answer."""
    found = set()
    for name in ANSWERING:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found


def documented() -> dict[str, str]:
    return {row["code"]: row["rest"] for row in ROW.finditer(PAGE.read_text())}


def test_every_code_stands_on_the_page_and_no_other() -> None:
    met = {kind.code for kind in refusals()} | codes_of_graphql()
    assert {"QUOTA_EXCEEDED", "COST_EXCEEDED", "QUERY_TOO_DEEP", "INTERNAL", "TIMEOUT"} <= met
    assert set(documented()) == met


def test_no_code_stands_on_the_page_twice() -> None:
    codes = [row["code"] for row in ROW.finditer(PAGE.read_text())]
    assert sorted(codes) == sorted(set(codes))


def test_the_registry_answers_as_the_page_says() -> None:
    """Kinds that share a code may be answered differently; the page gives one of those answers."""
    answers = defaultdict(set)
    for kind in refusals():
        answers[kind.code].add(shown_as(kind("")))
    said = {code: STATUS.search(f"|{rest}|") for code, rest in documented().items()}
    assert sum(found is not None for found in said.values()) > 30
    for code, found in said.items():
        if found is not None:
            assert (int(found["status"]), found["oci"]) in answers[code], code


@pytest.mark.parametrize("kind", sorted(refusals(), key=lambda kind: kind.__qualname__), ids=lambda kind: kind.__name__)
def test_every_refusal_is_shown_by_the_table_of_the_protocol(kind: type[Refusal]) -> None:
    status, code = shown_as(kind("a sentence"))
    assert 400 <= status < 600
    assert code in {oci for _, oci in TABLE.values()}
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)
