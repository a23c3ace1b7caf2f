"""The tables that begin tests/registry/quotas/test_known_bugs.py, what went wrong in other registries, and
test_invariants.py, what must hold of quotas, name tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HOME = TESTS / "registry" / "quotas"
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def named(home: str) -> list[tuple[str, str, str]]:
    """The table's module, and each row with each of its tests: the name alone of those that are there, behind the
    module that of those beside it, or elsewhere."""
    table = ast.get_docstring(ast.parse((HOME / f"{home}.py").read_text())) or ""
    rows = ROW.findall(table)[1:]
    return [(home, where, test) for where, tests in rows for test in tests.split(", ")]


def test_no_row_is_missing() -> None:
    assert {"Harbor #8888", "harbor-next#712", "Quay 12368"} <= {where for _, where, _ in named("test_known_bugs")}
    assert {where for _, where, _ in named("test_invariants")} == {f"Q{number}" for number in range(1, 14)}


@pytest.mark.parametrize(("home", "where", "test"), [*named("test_known_bugs"), *named("test_invariants")])
def test_each_row_has_a_test_that_exists(home: str, where: str, test: str) -> None:
    module, _, name = test.rpartition(".")
    places = [folder / f"{module or home}.py" for folder in (HOME, TESTS, TESTS / "registry")]
    (path,) = (place for place in places if place.is_file())
    functions = (each for each in ast.parse(path.read_text()).body if isinstance(each, ast.AsyncFunctionDef))
    assert name in {each.name for each in functions}, where
