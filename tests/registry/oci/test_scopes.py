"""Scopes of registry tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.errors import ScopeInvalid
from registry.oci.scopes import Scope, format_scope, parse_scopes

unhurried = settings(deadline=None)
names = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
actions = st.frozensets(st.sampled_from(["pull", "push", "delete", "*", "scan", "apply"]))
scopes = st.builds(Scope, st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True), names, actions)


def scope(name: str, *allowed: str, kind: str = "repository") -> Scope:
    return Scope(kind, name, frozenset(allowed))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["repository:acme/web:pull"], [scope("acme/web", "pull")]),
        (["repository:acme/web:push,pull"], [scope("acme/web", "pull", "push")]),
        (["registry:catalog:*"], [scope("catalog", "*", kind="registry")]),
        (["repository(plugin):acme/web:pull"], [scope("acme/web", "pull")]),
        (["repository:localhost:5000/acme/web:pull"], [scope("localhost:5000/acme/web", "pull")]),
        (["repository:a/b:pull repository:c/d:push"], [scope("a/b", "pull"), scope("c/d", "push")]),
        (["repository:a/b:pull", "repository:c/d:push"], [scope("a/b", "pull"), scope("c/d", "push")]),
        (["  repository:a/b:pull  "], [scope("a/b", "pull")]),
        (["repository:a/b:"], [scope("a/b")]),
        (["repository:a/b:pull,pull,"], [scope("a/b", "pull")]),
    ],
)
def test_what_clients_ask_for(values: list[str], expected: list[Scope]) -> None:
    assert parse_scopes(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "repository",
        "repository:",
        "repository:acme/web",
        ":acme/web:pull",
        "repository::pull",
        "Repository:acme/web:pull",
        "repository():acme/web:pull",
        "repository(plugin:acme/web:pull",
        "repository:acme/web:PULL",
        "repository:acme/web:pull;push",
        "repository:acme/web:pull\n",
        "repository:acme/web:pull\trepository:a/b:pull",
        "repository:\u0430cme/web:pull",
        "repository:acme/web:**",
        "repository:a/b:pull nonsense",
    ],
)
def test_what_is_no_scope(value: str) -> None:
    with pytest.raises(ScopeInvalid) as refused:
        parse_scopes([value])
    assert refused.value.code == "SCOPE_INVALID"
    assert refused.value.message.isprintable()


def test_actions_are_written_in_one_order() -> None:
    """containerd compares the text it sent with the text it gets."""
    assert format_scope(scope("acme/web", "push", "pull")) == "repository:acme/web:pull,push"
    every = scope("acme/web", "scan", "*", "delete", "apply", "push", "pull")
    assert format_scope(every) == "repository:acme/web:pull,push,delete,*,apply,scan"


@unhurried
@given(st.lists(scopes))
def test_what_is_written_reads_the_same(written: list[Scope]) -> None:
    texts = [format_scope(one) for one in written]
    assert parse_scopes(texts) == parse_scopes([" ".join(texts)]) == written


@unhurried
@given(st.lists(st.text() | st.text(alphabet="ab(): ,*\n")))
def test_any_text_gives_scopes_or_a_refusal(values: list[str]) -> None:
    try:
        read = parse_scopes(values)
    except ScopeInvalid:
        return
    assert parse_scopes(map(format_scope, read)) == read
