"""docs/reference/audit-actions.md lists every action that the code records, and no other. The actions are read from the
source: what stands in `attempt(…)`, `also(…)`, `look(…)` and `looked(…)`, what the log says of itself, and what
`require(…)` records of a look that nobody announced."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from policies.access import Law
from registry.access.granting import TABLES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "audit-actions.md"
ROW = re.compile(r"^\| `(?P<action>[a-z_.]+)` \|", re.MULTILINE)
# They decide for callers that have said what they are about to do.
ANNOUNCED_BY_CALLERS = {"ensure", "_create", "_managed"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def documented() -> tuple[set[str], set[str]]:
    """Actions that are done or looked at, and those of denied looks."""
    allowed, denied = PAGE.read_text().split("### When it is refused")
    return set(ROW.findall(allowed)), set(ROW.findall(denied))


def modules() -> Iterator[ast.Module]:
    for house in ("registry", "api"):
        for path in sorted((ROOT / house).rglob("*.py")):
            yield ast.parse(path.read_text())


def calls(node: ast.AST, *names: str) -> Iterator[ast.Call]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in names:
            yield each


def actions_recorded() -> set[str]:
    found = set()
    for module in modules():
        for call in calls(module, "attempt", "also", "look", "looked"):
            if not isinstance(call.args[0], ast.Name):  # a name: said elsewhere, and passed on
                found.update(texts(call.args[0]))
        found.update(passed_on(module))
        found.update(of_itself(module))
    return found


def passed_on(module: ast.Module) -> Iterator[str]:
    """Actions that a function of the module is given, to attempt them."""
    for function in ast.walk(module):
        if not isinstance(function, Function):
            continue
        given = [each.arg for each in function.args.args]
        for attempt in calls(function, "attempt", "also", "look", "looked"):
            if isinstance(attempt.args[0], ast.Name) and attempt.args[0].id in given:
                place = given.index(attempt.args[0].id)
                for call in ast.walk(module):
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function.name:
                        yield from texts(call.args[place])


def of_itself(module: ast.Module) -> Iterator[str]:
    """What the log says of itself: bodies of the system's own, and events that are made of others."""
    for call in ast.walk(module):
        match call:
            case ast.Call(func=ast.Name(id="system_body"), args=[ast.Constant(value=str(action)), *_]):
                yield action
            case ast.Call(
                func=ast.Name(id="_body"), args=[ast.Name(id="foundation"), ast.Constant(value=str(action)), *_]
            ):
                yield action
            case ast.Call(func=ast.Name(id="replace")):
                said = (each.value for each in call.keywords if each.arg == "action")
                yield from (each.value for each in said if isinstance(each, ast.Constant))


def acts_of_looks() -> set[str]:
    """Acts that are required where no attempt was made."""
    found = set()
    for module in modules():
        functions = {each.name: each for each in ast.walk(module) if isinstance(each, Function)}
        for name, function in functions.items():
            if name not in ANNOUNCED_BY_CALLERS and not any(calls(function, "attempt")):
                for call in calls(function, "require"):
                    found.update(texts(call.args[0], functions))
    return found


def texts(node: ast.expr, functions: dict[str, Function] | None = None) -> Iterable[str]:
    """Every text an expression may come to. Raises AssertionError where the source does not tell."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=yes, orelse=no):
            return [*texts(yes), *texts(no)]
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(rest))]):
            return [f"{kind}{rest}" for kind in TABLES]
        case ast.Call(func=ast.Name(id=name)) if functions and name in functions:
            returned = [each for each in ast.walk(functions[name]) if isinstance(each, ast.Return) and each.value]
            return [text for each in returned for text in texts(each.value)]
    raise AssertionError(f"an action that the source does not tell: {ast.unparse(node)}")


def test_every_action_that_is_recorded_stands_on_the_page_and_no_other() -> None:
    found = actions_recorded()
    assert {"image.push", "user.resume", "repository_permission.set", "tag.create"} <= found
    assert {"share.list", "organization_permission.show", "blob.pull", "denial.flood", "audit.clock"} <= found
    assert documented()[0] == found


def test_every_denied_look_is_an_act_of_the_law() -> None:
    law = {(kind, act) for _, kind, act, _ in Law.load().rules}
    assert all(tuple(action.split(".")) in law for action in documented()[1])


def test_every_act_that_is_only_looked_at_stands_on_the_page_and_no_other() -> None:
    found = acts_of_looks()
    assert {"view_quota", "share", "pull"} <= found
    assert {action.partition(".")[2] for action in documented()[1]} == found


def test_no_action_stands_on_the_page_twice() -> None:
    named = ROW.findall(PAGE.read_text())
    assert sorted(named) == sorted(set(named))
