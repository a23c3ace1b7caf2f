"""Repository paths and tags. Rows are those of "hostile and edge inputs" in the project's protocol notes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.naming import organization_clause, repository_clause
from registry.oci.errors import NameInvalid, TagInvalid
from registry.oci.reference import check_repository_path, check_tag

# Written from OCI distribution-spec 1.1, "Pulling manifests", and not from the code under test.
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
OCI_NAME = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")
OCI_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

unhurried = settings(deadline=None, max_examples=300)
runs = st.text(alphabet="az09", min_size=1, max_size=6)
separated = st.tuples(st.sampled_from([".", "_", "__", "-", "--", "-----"]), runs).map("".join)
components = st.tuples(runs, st.lists(separated, max_size=3).map("".join)).map("".join)
names = st.lists(components, min_size=1, max_size=3).map("/".join)

BAD_PATHS = {
    "row 1: two dots": ("acme/../etc", "each part"),
    "row 1: encoded slash": ("acme/web%2fapp", "not '%'"),
    "row 1: backslash": ("acme\\web", "not '\\\\'"),
    "row 1: NUL": ("acme/web\x00", r"not '\x00'"),
    "row 1: leading slash": ("/acme/web", "'/' must stand between"),
    "row 1: trailing slash": ("acme/web/", "'/' must stand between"),
    "row 1: two slashes": ("acme//web", "'/' must stand between"),
    "row 2: upper case": ("Acme/web", "not 'A'"),
    "row 2: look-alike letter": ("acme/w\u0435b", r"not '\u0435'"),
    "row 2: percent-encoded letter": ("acme/%77eb", "not '%'"),
    "row 2: newline at the end": ("acme/web\n", r"not '\n'"),
    "row 3: 256 characters": ("acme/" + "a" * 251, "256 characters, and at most 255"),
    "row 3: 150 components": ("/".join("a" * 150), "299 characters, and at most 255"),
    "one component": ("acme", "needs an organization and a name"),
    "empty": ("", "empty"),
    "separator at the start": ("acme/-web", "each part"),
    "separator at the end": ("acme/web_", "end with"),
    "three underscores": ("acme/a___b", "at most two underscores"),
    "separators mixed": ("acme/a.-b", "different kinds"),
}


@pytest.mark.parametrize("case", BAD_PATHS)
def test_a_bad_path_is_told_its_clause(case: str) -> None:
    path, clause = BAD_PATHS[case]
    with pytest.raises(NameInvalid) as refused:
        check_repository_path(path)
    assert refused.value.code == "NAME_INVALID"
    assert clause in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("path", "organization", "repository"),
    [
        ("acme/web", "acme", "web"),
        ("acme/web/app", "acme", "web/app"),
        ("acme/blobs/uploads", "acme", "blobs/uploads"),
        ("manifests/tags/list", "manifests", "tags/list"),
        ("acme/index.json", "acme", "index.json"),
        ("0/a__b/c--d/e.f", "0", "a__b/c--d/e.f"),
        ("acme/" + "a" * 250, "acme", "a" * 250),
        ("/".join("a" * 128), "a", "/".join("a" * 127)),
    ],
)
def test_a_path_is_an_organization_and_the_rest(path: str, organization: str, repository: str) -> None:
    """Row 4 too: keywords of the protocol are fine as names."""
    assert check_repository_path(path) == (organization, repository)


def test_the_catalog_of_the_protocol_is_no_repository() -> None:
    """Row 4: `_catalog` starts with a separator, which the grammar leaves free for such words."""
    with pytest.raises(NameInvalid):
        check_repository_path("acme/_catalog")


@unhurried
@given(st.text(alphabet="ab0._-/A\n", max_size=12) | names | st.text())
def test_exactly_the_grammar_is_accepted(path: str) -> None:
    try:
        assert "/".join(check_repository_path(path)) == path
        accepted = True
    except NameInvalid:
        accepted = False
    assert accepted == (OCI_NAME.fullmatch(path) is not None and "/" in path and len(path) <= 255)


@unhurried
@given(components, names)
def test_what_may_be_created_can_be_pulled(ending: str, repository: str) -> None:
    organization = f"o{ending}"
    assert organization_clause(organization) is None
    assert repository_clause(repository) is None
    assert check_repository_path(f"{organization}/{repository}") == (organization, repository)


@unhurried
@given(st.text(alphabet="ab0._-/", max_size=8), st.text(alphabet="ab0._-/", max_size=8))
def test_what_cannot_be_pulled_may_not_be_created(organization: str, repository: str) -> None:
    try:
        check_repository_path(f"{organization}/{repository}")
    except NameInvalid:
        assert organization_clause(organization) is not None or repository_clause(repository) is not None


def test_the_longest_names_fit_into_a_path() -> None:
    organization, repository = "o" * 64, "r" * 128
    assert organization_clause(organization) is None and repository_clause(repository) is None
    assert check_repository_path(f"{organization}/{repository}") == (organization, repository)


BAD_TAGS = {
    "row 6: 129 characters": ("a" * 129, "129 characters"),
    "row 6: space": ("a b", "hold only"),
    "row 6: slash": ("a/b", "hold only"),
    "row 6: at sign": ("a@b", "hold only"),
    "row 6: newline": ("1.0\n", "hold only"),
    "row 6: empty": ("", "empty"),
    "row 7: digest-like": ("sha256:garbage", "colon"),
    "starts with a dot": (".hidden", "start with"),
    "starts with a hyphen": ("-f", "start with"),
    "Arabic digit": ("1.\u0660", "hold only"),
}


@pytest.mark.parametrize("case", BAD_TAGS)
def test_a_bad_tag_is_told_its_clause(case: str) -> None:
    tag, clause = BAD_TAGS[case]
    with pytest.raises(TagInvalid) as refused:
        check_tag(tag)
    assert refused.value.code == "TAG_INVALID"
    assert clause in refused.value.message


@pytest.mark.parametrize("tag", ["latest", "1.0", "_", "V1", "a" * 128, "sha256-" + "0" * 64, "a..b", "a-"])
def test_good_tags(tag: str) -> None:
    """Row 7 too: the fallback tag of referrers is a tag like any other."""
    assert check_tag(tag) == tag


@unhurried
@given(st.text(alphabet="aA0._-:/\n", max_size=6) | st.from_regex(OCI_TAG, fullmatch=True) | st.text())
def test_exactly_the_grammar_of_tags_is_accepted(tag: str) -> None:
    try:
        accepted = check_tag(tag) == tag
    except TagInvalid:
        accepted = False
    assert accepted == (OCI_TAG.fullmatch(tag) is not None)
