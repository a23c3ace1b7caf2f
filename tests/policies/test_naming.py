"""Names: each clause has a sentence of its own, and whatever may be created stays within the OCI grammar."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.naming import (
    RESERVED_ORGANIZATIONS,
    account_clause,
    organization_clause,
    repository_clause,
    user_clause,
)

# Written from OCI distribution-spec 1.1, "Pulling manifests", and not from the code under test.
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
OCI_NAME = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")

unhurried = settings(deadline=None, max_examples=300)
runs = st.text(alphabet="az09", min_size=1, max_size=6)
separated = st.tuples(st.sampled_from([".", "_", "__", "-", "--", "-----"]), runs).map("".join)
components = st.tuples(runs, st.lists(separated, max_size=3).map("".join)).map("".join)
names = st.lists(components, min_size=1, max_size=3).map("/".join)
tricky = st.text(alphabet="ab0._-/A@: \n\u0430", max_size=12) | st.text(max_size=70)

SHARED_CLAUSES = [
    ("", "empty"),
    ("Acme", "start with a lowercase letter"),
    ("1acme", "start with a lowercase letter"),
    (".acme", "start with a lowercase letter"),
    ("_acme", "start with a lowercase letter"),
    ("\u0430cme", "start with a lowercase letter"),
    ("acme-", "end with a lowercase letter or digit"),
    ("acme.", "end with a lowercase letter or digit"),
    ("acme_", "end with a lowercase letter or digit"),
    ("acMe", "not 'M'"),
    ("ac me", "not ' '"),
    ("acme\n", r"not '\n'"),
    ("acme\x00", r"not '\x00'"),
    ("ac/me", "not '/'"),
    ("acm\u0435", r"not '\u0435'"),
    ("ac\u0661", r"not '\u0661'"),
    ("a___b", "at most two underscores"),
    ("a..b", "dots must not stand side by side"),
    ("a._b", "different kinds"),
    ("a-.b", "different kinds"),
    ("a_-b", "different kinds"),
    ("a" * 65, "65 characters, and at most 64"),
]


@pytest.mark.parametrize("clause_of", [organization_clause, account_clause])
@pytest.mark.parametrize(("name", "clause"), SHARED_CLAUSES)
def test_a_bad_organization_or_account_name_is_told_its_clause(
    clause_of: Callable[[str], str | None], name: str, clause: str
) -> None:
    told = clause_of(name)
    assert told is not None
    assert clause in told
    assert told.endswith(".")


@pytest.mark.parametrize(
    "name", ["a", "acme", "a1", "a-b", "a--b", "a-----b", "a.b", "a_b", "a__b", "a.b_c-d", "v2x", "a" * 64]
)
@pytest.mark.parametrize("clause_of", [organization_clause, account_clause, repository_clause, user_clause])
def test_a_good_name_is_good_everywhere(clause_of: Callable[[str], str | None], name: str) -> None:
    assert clause_of(name) is None


@pytest.mark.parametrize("name", sorted(RESERVED_ORGANIZATIONS))
def test_reserved_names_are_refused(name: str) -> None:
    assert "reserved" in (organization_clause(name) or "")
    assert (account_clause(name) is None) == (name == "admin")


def test_the_reserved_list_holds_every_address_of_our_own() -> None:
    addresses = "library v2 token graphql admin api health healthz readyz metrics console audit"
    assert set(addresses.split()) == RESERVED_ORGANIZATIONS


@pytest.mark.parametrize(
    "name",
    [
        "1",
        "web",
        "web/app",
        "0/1/2",
        "a/b/c/d/e",
        "manifests/blobs",
        "tags/list",
        "uploads",
        "library",
        "a" * 128,
    ],
)
def test_good_repository_names(name: str) -> None:
    assert repository_clause(name) is None


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("", "empty"),
        ("/web", "'/' must stand between"),
        ("web/", "'/' must stand between"),
        ("web//app", "'/' must stand between"),
        ("..", "start with a lowercase letter or digit"),
        ("web/../app", "each part between slashes"),
        ("web-/app", "each part between slashes"),
        ("web/-app", "each part between slashes"),
        ("-web", "start with a lowercase letter or digit"),
        ("web-", "end with a lowercase letter or digit"),
        ("Web", "not 'W'"),
        ("web/App", "not 'A'"),
        ("web\\app", r"not '\\'"),
        ("web%2fapp", "not '%'"),
        ("web/a___b", "at most two underscores"),
        ("web/a..b", "dots must not stand side by side"),
        ("web/a-_b", "different kinds"),
        ("a" * 129, "129 characters, and at most 128"),
    ],
)
def test_a_bad_repository_name_is_told_its_clause(name: str, clause: str) -> None:
    assert clause in (repository_clause(name) or "")


@pytest.mark.parametrize("name", ["Alice", "al", "a.b_c-d", "alice@example.com", "0x", "a-", "a" * 64])
def test_good_user_names(name: str) -> None:
    assert user_clause(name) is None


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("", "empty"),
        ("a:b", "not ':'"),
        ("<token>", "not '<'"),
        ("al ice", "not ' '"),
        ("al\u0131ce", r"not '\u0131'"),
        ("alice\n", r"not '\n'"),
        ("@alice", "start with a letter or digit"),
        (".alice", "start with a letter or digit"),
        ("alice@", "must not end with '@'"),
        ("a" * 65, "65 characters, and at most 64"),
    ],
)
def test_a_bad_user_name_is_told_its_clause(name: str, clause: str) -> None:
    assert clause in (user_clause(name) or "")


@unhurried
@given(tricky | components)
def test_organizations_are_oci_components_that_start_with_a_letter(name: str) -> None:
    """The documented rule, written as one pattern, and the clauses never disagree."""
    allowed = len(name) <= 64 and "a" <= name[:1] <= "z" and re.fullmatch(COMPONENT, name) is not None
    assert (organization_clause(name) is None) == (allowed and name not in RESERVED_ORGANIZATIONS)


@unhurried
@given(tricky | names)
def test_repositories_are_oci_names_up_to_128_characters(name: str) -> None:
    assert (repository_clause(name) is None) == (len(name) <= 128 and OCI_NAME.fullmatch(name) is not None)


@unhurried
@given(st.text())
def test_a_good_user_name_survives_basic_authentication(name: str) -> None:
    if user_clause(name) is None:
        assert f"{name}:pass:word".encode("ascii").decode().partition(":")[0] == name


@unhurried
@given(st.text())
def test_every_clause_is_a_sentence_that_any_terminal_can_show(name: str) -> None:
    for clause_of in (organization_clause, account_clause, repository_clause, user_clause):
        told = clause_of(name)
        assert told is None or (told.isprintable() and told.isascii() and told.endswith("."))
