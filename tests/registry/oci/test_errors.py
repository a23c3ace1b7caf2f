"""The codes that clients see."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import Invalid
from registry.oci import errors
from registry.oci.errors import shown


@pytest.mark.parametrize(
    "name",
    [
        "DigestInvalid",
        "ManifestInvalid",
        "NameInvalid",
        "SizeInvalid",
        "TagInvalid",
        "RangeInvalid",
        "ScopeInvalid",
    ],
)
def test_a_code_is_the_name_of_its_class(name: str) -> None:
    refusal = getattr(errors, name)
    assert issubclass(refusal, Invalid)
    assert refusal.code == re.sub("(?<!^)(?=[A-Z])", "_", name).upper()


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_foreign_text_is_shown_in_one_short_printable_line(text: str) -> None:
    assert shown(text).isascii() and shown(text).isprintable()
    assert len(shown(text)) <= 80 * len(r"\U00000000") + 2
