"""What the documentation says can be followed: its links lead somewhere, its GraphQL fits the schema, and the commands,
settings, modules and functions it names exist."""

import ast
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from graphql import GraphQLSchema, parse, validate
from typer.core import TyperGroup

from api.cli import app
from api.schema.whole import schema
from registry.settings import variables

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
CURL = re.compile(r"--json '(\{.*?\})'$", re.MULTILINE)
IDS = {"argvalues": PAGES, "ids": lambda page: str(page.relative_to(ROOT))}


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text())


def blocks(page: Path, kind: str) -> list[str]:
    return [found["text"] for found in BLOCK.finditer(page.read_text()) if found["kind"] == kind]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lowercase, spaces to dashes, other signs left out."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", **IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_another() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in LINK.findall(prose(page))}
    assert set(PAGES[1:]) <= linked


# GraphQL


def whole_schema() -> GraphQLSchema:
    return schema._schema


@pytest.mark.parametrize("page", **IDS)
def test_graphql_fits_the_schema(page: Path) -> None:
    sent = [json.loads(body)["query"] for text in blocks(page, "sh") for body in CURL.findall(text)]
    for document in [*blocks(page, "graphql"), *sent]:
        assert not validate(whole_schema(), parse(document)), document


def test_there_is_graphql_to_look_at() -> None:
    assert sum(len(blocks(page, "graphql")) for page in PAGES) > 8
    assert CURL.search(PAGES[0].read_text())


# Commands


def commands() -> dict[str, set[str]]:
    """Each command's words, with its options."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, words: list[str]) -> None:
        if not isinstance(command, TyperGroup):
            options = {option for each in command.params for option in each.opts if option.startswith("-")}
            found[" ".join(words)] = options | {"--help"}
            return
        context = typer.Context(command)
        for name in command.list_commands(context):
            walk(command.get_command(context, name), [*words, name])

    walk(app, ["tidewaiter"])
    return found


def test_every_command_and_option_stands_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert {"tidewaiter serve", "tidewaiter user password"} <= set(commands())
    for command, options in commands().items():
        row = re.search(rf"^\| `{command}( [A-Z]+)*` \|.*$", text, re.MULTILINE)
        assert row is not None, command
        assert all(option in row[0] for option in options - {"--help"}), command


def test_the_reference_names_no_command_that_is_not_there() -> None:
    rows = re.findall(r"^\| `(tidewaiter [a-z ]+?)( [A-Z]+)*` \|", (ROOT / "docs/reference/cli.md").read_text(), re.M)
    assert {command for command, _ in rows} == set(commands())


def lines_of_commands(page: Path) -> Iterator[list[str]]:
    """Words of each command in blocks and in spans that begins with `tidewaiter` or `make`."""
    texts = [line for text in blocks(page, "sh") for line in text.splitlines()] + SPAN.findall(prose(page))
    for text in texts:
        for part in re.split(r"&&|\|", text):
            words = shlex.split(part.strip()) if re.match(r"\s*(\S+=\S+ )*(tidewaiter|make) ", part) else []
            while words and "=" in words[0]:
                words.pop(0)
            if words:
                yield words


@pytest.mark.parametrize("page", **IDS)
def test_commands_of_ours_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in lines_of_commands(page):
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        else:
            known = [name for name in commands() if words[: len(name.split())] == name.split()]
            assert known or words == ["tidewaiter", "--help"], words
            assert all(word in commands()[known[0]] for word in words if word.startswith("-")), words


@pytest.mark.parametrize("page", **IDS)
def test_settings_exist(page: Path) -> None:
    named = set(re.findall(r"TIDEWAITER_[A-Z_]*[A-Z]\b(?!_)", page.read_text()))
    assert named <= variables()


# Names of the code


@cache
def names_by_module() -> dict[str, set[str]]:
    """What each module defines, by its last name: functions, classes and their methods, and constants."""
    found = defaultdict(set)
    for house in ("api", "registry", "policies"):
        for path in (ROOT / house).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    found[path.stem].add(node.name)
                if isinstance(node, ast.ClassDef):
                    found[node.name] |= {each.name for each in node.body if hasattr(each, "name")}
                if isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    found[path.stem] |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


@pytest.mark.parametrize("page", **IDS)
def test_modules_and_functions_exist(page: Path) -> None:
    """`pushing.push`, `Work.require`, `registry/work.py`: whoever follows a name finds it."""
    for span in SPAN.findall(prose(page)):
        if re.match(r"(api|registry|policies|tests|docs|requirements)/", span):
            assert (ROOT / span).exists(), span
        for module, name in dotted(span) if span not in actions() else ():
            assert module not in names_by_module() or name in names_by_module()[module], span


@cache
def actions() -> frozenset[str]:
    """Those of the audit log, which look alike; a test of their own keeps their page."""
    return frozenset(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/reference/audit-actions.md").read_text(), re.M))


def dotted(span: str) -> list[tuple[str, str]]:
    """`pushing.push` as a pair; names of files are none."""
    return [pair for pair in re.findall(r"^(\w+)\.(\w+)(?=$|\()", span) if pair[1] not in {"py", "yml", "csv"}]


def test_every_name_on_the_tour_is_one_of_the_code() -> None:
    """Also what stands there without its module: a class, a constant, a function, a mutation."""
    spans = SPAN.findall(prose(ROOT / "docs" / "tour.md"))
    functions = [pair for span in spans for pair in dotted(span)]
    assert len(functions) > 30
    assert {module for module, _ in functions} <= set(names_by_module())
    mutation = whole_schema().mutation_type
    assert mutation is not None
    known = set().union(*names_by_module().values()) | set(mutation.fields)
    bare = {span for span in spans if re.fullmatch(r"\w*[A-Z_]\w*", span)}
    assert len(bare) > 10
    assert bare <= known
