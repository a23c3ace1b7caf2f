"""The table of what went wrong in other registries, which begins tests/registry/quotas/test_known_bugs.py, names tests
that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HOME = TESTS / "registry" / "quotas"
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def named() -> list[tuple[str, str]]:
    """Each row with each of its tests: the name alone of those that are there, behind the module that of those beside
    it, or elsewhere."""
    table = ast.get_docstring(ast.parse((HOME / "test_known_bugs.py").read_text())) or ""
    rows = ROW.findall(table)[2:]
    return [(where, test) for where, tests in rows for test in tests.split(", ")]


def test_there_are_rows() -> None:
    assert {"Harbor #8888", "harbor-next#712", "Quay 12368", "HDDS-7006"} <= {where for where, _ in named()}
    assert len(named()) > 30


@pytest.mark.parametrize(("where", "test"), named())
def test_each_bug_has_a_test_that_exists(where: str, test: str) -> None:
    module, _, name = test.rpartition(".")
    places = [folder / f"{module or 'test_known_bugs'}.py" for folder in (HOME, TESTS, TESTS / "registry")]
    (path,) = (place for place in places if place.is_file())
    functions = (each for each in ast.parse(path.read_text()).body if isinstance(each, ast.AsyncFunctionDef))
    assert name in {each.name for each in functions}, where
