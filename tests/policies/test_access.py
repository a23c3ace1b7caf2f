"""The law, as one table that a reviewer holds against docs/guide/access.md, and what must hold of any such law."""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import casbin
import pytest
from hypothesis import given
from hypothesis import strategies as st

import policies
from policies.access import Law, Level, RulesBroken

HERE = Path(policies.__file__).parent
FROZEN = "flag.suspended"

# An x: whoever holds nothing but the role above may. `frozen`: and still may when the account is suspended.
TABLE = """
                                    repository                          organization                account         platform
                                    public shared read write manage     guest read write manage     member owner    admin       frozen
repository    view                  x      x      x    x     x          .     x    x     x          .      x        x           x
repository    pull                  x      x      x    x     x          .     x    x     x          .      x        .           x
repository    push                  .      .      .    x     x          .     .    x     x          .      x        .           .
repository    update                .      .      .    x     x          .     .    x     x          .      x        x           .
repository    publish               .      .      .    .     x          .     .    .     x          .      x        x           .
repository    delete_tag            .      .      .    .     x          .     .    .     x          .      x        x           x
repository    delete                .      .      .    .     x          .     .    .     x          .      x        x           x
repository    grant                 .      .      .    .     x          .     .    .     x          .      x        x           .
repository    share                 .      .      .    .     x          .     .    .     x          .      x        x           .
organization  view                  .      .      .    .     .          x     x    x     x          .      x        x           x
organization  create_repository     .      .      .    .     .          .     .    x     x          .      x        x           .
organization  delete                .      .      .    .     .          .     .    .     x          .      x        x           x
organization  grant                 .      .      .    .     .          .     .    .     x          .      x        x           .
organization  view_quota            .      .      .    .     .          .     .    .     x          .      x        x           x
organization  request_quota         .      .      .    .     .          .     .    .     x          .      x        .           .
account       view                  .      .      .    .     .          .     .    .     .          x      x        x           x
account       create_organization   .      .      .    .     .          .     .    .     .          .      x        x           .
account       create_user           .      .      .    .     .          .     .    .     .          .      x        x           .
account       manage_users          .      .      .    .     .          .     .    .     .          .      x        x           x
account       view_audit            .      .      .    .     .          .     .    .     .          .      x        x           x
account       view_quota            .      .      .    .     .          .     .    .     .          .      x        x           x
account       request_quota         .      .      .    .     .          .     .    .     .          .      x        .           .
platform      administer            .      .      .    .     .          .     .    .     .          .      .        x           x
platform      view_audit            .      .      .    .     .          .     .    .     .          .      .        x           x
"""  # noqa: E501
GROUPS = {"repository": 5, "organization": 4, "account": 2, "platform": 1}


def _read_table() -> tuple[list[str], dict[tuple[str, str], tuple[frozenset[str], bool]]]:
    """All roles; and for each kind and act the roles that may, and whether suspension leaves it."""
    groups, names, *lines = TABLE.strip().splitlines()
    heads = [head for head in groups.split() for _ in range(GROUPS[head])]
    roles = [f"{head}.{name}" for head, name in zip(heads, names.split(), strict=False)]
    table = {}
    for line in lines:
        kind, act, *marks, frozen = line.split()
        may = {role for role, mark in zip(roles, marks, strict=True) if mark == "x"}
        table[kind, act] = (frozenset(may), frozen == "x")
    return roles, table


ROLES, MAY = _read_table()
KINDS, ACTS = sorted({kind for kind, _ in MAY}), sorted({act for _, act in MAY})
LAW = Law.load()
QUESTIONS = list(product(KINDS, ACTS))
some_roles = st.frozensets(st.sampled_from([*ROLES, FROZEN, "no.such.role"]))
questions = st.sampled_from(QUESTIONS)


def differences(law: Law, asked: Iterable[tuple[str, str]] = QUESTIONS) -> Iterator[str]:
    """Where a law and the table disagree."""
    for kind, act in asked:
        may, stays = MAY.get((kind, act), (frozenset(), False))
        for role in ROLES:
            if law.decide({role}, kind, act).allowed != (role in may):
                yield f"{role} may {act} {kind}"
            if law.decide({role, FROZEN}, kind, act).allowed != (role in may and stays):
                yield f"{role} may {act} {kind} of a suspended account"


def law_of(rules: Iterable[str]) -> Law:
    """A law of these lines of a rule file."""
    enforcer = casbin.Enforcer(str(HERE / "model.conf"))
    for line in rules:
        kind, *words = (word.strip() for word in line.split(","))
        enforcer.add_named_policy("p", words) if kind == "p" else enforcer.add_named_grouping_policy("g", words)
    return Law(enforcer, "a test's")


def rule_lines() -> list[str]:
    return [line for line in (HERE / "rules.csv").read_text().splitlines() if line and not line.startswith("#")]


def test_the_law_is_the_table() -> None:
    assert list(differences(LAW)) == []


def test_the_table_knows_every_role_kind_and_act_of_the_rules() -> None:
    assert LAW.roles <= {*ROLES, FROZEN}
    assert {(kind, act) for _, kind, act, _ in LAW.rules} == set(MAY)


def about(line: str) -> list[tuple[str, str]]:
    """What a line can have to do with."""
    kind, *words = (word.strip() for word in line.split(","))
    return [(words[1], words[2])] if kind == "p" else QUESTIONS


@pytest.mark.parametrize("gone", rule_lines())
def test_no_rule_can_be_left_out(gone: str) -> None:
    """Each deletion is seen, so no rule stands there for nothing, and none can be lost unseen."""
    assert any(differences(law_of(line for line in rule_lines() if line != gone), about(gone)))


@pytest.mark.parametrize("line", [line for line in rule_lines() if line.startswith("p")])
def test_no_rule_can_be_given_to_another_role(line: str) -> None:
    _, role, *rest = (word.strip() for word in line.split(","))
    for other in {*ROLES, FROZEN} - {role}:
        changed = ", ".join(("p", other, *rest))
        if changed not in rule_lines():
            law = law_of(changed if each == line else each for each in rule_lines())
            assert any(differences(law, about(line))), changed


def test_rules_that_are_too_few_are_no_law() -> None:
    with pytest.raises(RulesBroken):
        law_of(rule_lines()[:30])


@given(some_roles, some_roles, questions)
def test_another_role_never_takes_a_right_away(
    held: frozenset[str], more: frozenset[str], asked: tuple[str, str]
) -> None:
    """Only the suspension does."""
    if LAW.decide(held, *asked).allowed and FROZEN not in more:
        assert LAW.decide(held | more, *asked).allowed


@given(some_roles, questions)
def test_what_many_roles_allow_one_of_them_allows(held: frozenset[str], asked: tuple[str, str]) -> None:
    """No two facts together give what neither gives."""
    if LAW.decide(held, *asked).allowed:
        assert any(LAW.decide({role} | (held & {FROZEN}), *asked).allowed for role in held)


@given(some_roles, questions)
def test_suspension_only_takes_away(held: frozenset[str], asked: tuple[str, str]) -> None:
    if LAW.decide(held | {FROZEN}, *asked).allowed:
        assert LAW.decide(held - {FROZEN}, *asked).allowed


@given(some_roles, st.text(max_size=20), st.text(max_size=20))
def test_what_the_rules_do_not_name_is_refused(held: frozenset[str], kind: str, act: str) -> None:
    if (kind, act) not in MAY:
        assert not LAW.decide(held, kind, act).allowed


@given(some_roles, questions)
def test_a_role_without_rules_changes_nothing(held: frozenset[str], asked: tuple[str, str]) -> None:
    assert LAW.decide(held | {"no.such.role"}, *asked) == LAW.decide(held - {"no.such.role"}, *asked)


@pytest.mark.parametrize("kind", ["repository", "organization"])
@pytest.mark.parametrize(("lower", "higher"), [(Level.READ, Level.WRITE), (Level.WRITE, Level.MANAGE)])
def test_a_higher_level_holds_all_of_a_lower(kind: str, lower: Level, higher: Level) -> None:
    for asked in QUESTIONS:
        if LAW.decide({f"{kind}.{lower.name.lower()}"}, *asked).allowed:
            assert LAW.decide({f"{kind}.{higher.name.lower()}"}, *asked).allowed


@given(questions)
def test_what_is_open_to_all_or_shared_is_seen_and_pulled_and_no_more(asked: tuple[str, str]) -> None:
    held = {"repository.public", "repository.shared"}
    assert LAW.decide(held, *asked).allowed == (asked in {("repository", "view"), ("repository", "pull")})


@given(questions)
def test_a_verdict_names_the_rule_that_spoke(asked: tuple[str, str]) -> None:
    kind, act = asked
    for role in ROLES:
        verdict = LAW.decide({role}, kind, act)
        assert bool(verdict.rule) == verdict.allowed
        if verdict.allowed:
            assert verdict.rule[1:] == (kind, act, "allow")
        frozen = LAW.decide({role, FROZEN}, kind, act)
        assert frozen.frozen == (frozen.rule[:1] == (FROZEN,))


@pytest.mark.parametrize(
    ("kind", "act", "level"),
    [
        ("repository", "pull", Level.READ),
        ("repository", "push", Level.WRITE),
        ("repository", "share", Level.MANAGE),
        ("organization", "create_repository", Level.WRITE),
        ("organization", "grant", Level.MANAGE),
        ("account", "create_user", None),
        ("platform", "administer", None),
    ],
)
def test_the_lowest_level_that_is_enough(kind: str, act: str, level: Level | None) -> None:
    assert LAW.needed(kind, act) is level
