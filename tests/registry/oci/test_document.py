"""JSON from strangers: one meaning or a refusal, and never more work than its size is worth."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.document import MAX_DEPTH, check_spelling, read_object, read_text, read_texts
from registry.oci.errors import ManifestInvalid

unhurried = settings(deadline=None, max_examples=200)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(), values, max_size=5)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """An object that is `depth` levels deep, itself included."""
    return ('{"a":' + opening * (depth - 1) + closing * (depth - 1) + "}").encode()


# Row 28 of "hostile and edge inputs".
BAD = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t ", "is empty"),
    "not JSON": (b"blablabla", "is not JSON"),
    "cut off": (b'{"schemaVersion": 2', "brackets do not match"),
    "cut off within a string": (b'{"a": "b', "brackets do not match"),
    "string that ends in a backslash": (b'{"a": "\\', "brackets do not match"),
    "more after the end": (b"{} {}", "is not JSON"),
    "comment": (b"{/* hello */}", "is not JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16-le"), "is not JSON"),
    "UTF-16 with a mark": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "not UTF-8 text: byte 7"),
    "NUL bytes": (b'{"a": 1}\x00', "is not JSON"),
    "raw newline in a string": (b'{"a": "\n"}', "is not JSON"),
    "NaN": (b'{"a": NaN}', "NaN is no JSON number"),
    "Infinity": (b'{"a": Infinity}', "Infinity is no JSON number"),
    "-Infinity": (b'{"a": -Infinity}', "-Infinity is no JSON number"),
    "list": (b"[]", "must be a JSON object"),
    "string": (b'"{}"', "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "200,000 brackets": (b"[" * 200_000, "lie deeper"),
    "200,000 levels": (nested(200_000), "lie deeper"),
    "200,000 objects": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "lie deeper"),
    "brackets of both kinds": (nested(400, '[{"a":', "}]"), "lie deeper"),
    "one level too many": (nested(MAX_DEPTH + 1), "lie deeper"),
    "brackets that cross": (b'{"a": [}]', "is not JSON"),
    "duplicate key": (b'{"a": 1, "a": 1}', "has the key 'a' twice"),
    "duplicate key in a list": (b'{"x": [{"a": 1, "b": 2, "a": 3}]}', "has the key 'a' twice"),
    "duplicate key, once escaped": (b'{"a": 1, "\\u0061": 2}', "has the key 'a' twice"),
    "5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "number of 5000 digits"),
    "negative, 5,000 digits": (b'{"a": -' + b"9" * 5000 + b"}", "number of 5001 digits"),
    "fraction of 5,000 digits": (b'{"a": 0.' + b"9" * 5000 + b"}", "number of 5002 digits"),
}


@pytest.mark.parametrize("case", BAD)
def test_row_28_what_is_no_document_is_refused(case: str) -> None:
    body, why = BAD[case]
    with pytest.raises(ManifestInvalid) as refused:
        read_object(body)
    assert why in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "body", [b'"' * 999_999, b'{"' + b'\\"' * 500_000, b"[]" * 500_000, b'{"a": "' + b"[" * 500_000]
)
def test_a_hostile_megabyte_is_refused(body: bytes) -> None:
    """Each makes a careless tokenizer take quadratic time; a test that hangs here has found one."""
    with pytest.raises(ManifestInvalid):
        read_object(body)


def test_the_deepest_document() -> None:
    assert read_object(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


def test_brackets_within_strings_are_text() -> None:
    text = '[{"\\' * 100
    assert read_object(json.dumps({"a": text, text: "]"}).encode()) == {"a": text, text: "]"}


@unhurried
@given(objects)
def test_what_is_json_reads_as_json(value: dict[str, Any]) -> None:
    assert read_object(json.dumps(value).encode()) == value
    assert read_object(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@unhurried
@given(st.binary() | st.text(alphabet='{}[]",:\\u0aN-1.e \n').map(str.encode))
def test_any_bytes_give_an_object_or_a_refusal(body: bytes) -> None:
    try:
        value = read_object(body)
    except ManifestInvalid:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize("key", ["Layers", "LAYERS", "layer\u017f"])
def test_a_field_in_other_letters_is_refused(key: str) -> None:
    """Go's reader would take each of them for `layers`, and the last one wins."""
    with pytest.raises(ManifestInvalid, match="layers is spelled"):
        check_spelling({"layers": [], key: []}, ["layers"])


def test_other_fields_are_nobodys_business() -> None:
    check_spelling({"layers": [], "org.example": 1, "Label": 2, "label": 3}, ["layers"])


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\udfff", "\ude00\ud83d"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(ManifestInvalid, match="cannot be stored") as refused:
        read_text(text, "annotations['a']")
    assert refused.value.detail == {"field": "annotations['a']"}
    for annotations in ({"a": text}, {text: "a"}):
        with pytest.raises(ManifestInvalid, match="cannot be stored"):
            read_texts(annotations, "annotations")


def test_row_49_markup_and_control_characters_are_kept() -> None:
    annotations = {"<b>": "<script>\x01\x1b[31m\u202e\U0001f600"}
    assert read_texts(annotations, "annotations") == annotations


@unhurried
@given(values)
def test_a_map_of_texts_is_one_or_is_refused(value: Any) -> None:
    try:
        read = read_texts(value, "annotations")
    except ManifestInvalid as refused:
        assert refused.detail["field"].startswith(("annotations", "a key of annotations"))
    else:
        assert read == (value or {})
        assert all(isinstance(text, str) for item in read.items() for text in item)
