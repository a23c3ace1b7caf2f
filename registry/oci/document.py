"""JSON from strangers, read so that nobody who reads it later can understand something else.

Refused are the places where parsers differ: keys that stand twice or differ from a known field in case only
(Go's reader takes `Layers` for `layers`), NaN and Infinity, numbers of absurd length, other encodings than
UTF-8. Depth is bounded before the parser, which is recursive, sees the text. Strings that PostgreSQL or UTF-8
could not hold are refused where they are read. A field that is null counts as absent, as in Go, whose clients
write both.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from registry.oci.errors import ManifestInvalid, shown

MAX_DEPTH = 32
MAX_DIGITS = 32
_BOM = b"\xef\xbb\xbf"

# Possessive, and with an optional end, so that it runs in linear time over any bytes.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")


def read_object(body: bytes) -> dict[str, Any]:
    """The object that the body is. Raises `ManifestInvalid`."""
    _check_start(body)
    _check_depth(body)
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"The manifest is not UTF-8 text: byte {error.start} does not fit.") from None
    except json.JSONDecodeError as error:
        raise ManifestInvalid(f"The manifest is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ManifestInvalid("The manifest must be a JSON object.")
    return value


def check_spelling(value: Mapping[str, Any], fields: Iterable[str], where: str = "") -> None:
    """Raises `ManifestInvalid` for a key that only some clients would take for one of the fields."""
    known = {field.casefold(): field for field in fields}
    for key in value:
        field = known.get(key.casefold(), key)
        if field != key:
            refuse(within(where, field), f"is spelled {shown(key)}; upper and lower case matter here.")


def read_text(value: Any, where: str) -> str:
    """Raises `ManifestInvalid`, naming `where`; as do all readers below."""
    if not isinstance(value, str):
        refuse(where, f"must be a string, not {_kind(value)}.")
    if _UNKEEPABLE.search(value):
        refuse(where, "holds a NUL or half a surrogate pair, which cannot be stored.")
    return value


def read_optional_text(value: Any, where: str) -> str | None:
    """None for an empty string too: Go's clients write one for a field that is not set."""
    return None if value is None else read_text(value, where) or None


def read_texts(value: Any, where: str) -> dict[str, str]:
    """A map of strings, as annotations are."""
    return {
        read_text(key, f"a key of {where}"): read_text(item, f"{where}[{shown(key)}]")
        for key, item in read_map(value, where).items()
    }


def read_map(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        refuse(where, f"must be an object, not {_kind(value)}.")
    return value or {}


def read_list(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        refuse(where, f"must be a list, not {_kind(value)}.")
    return value or []


def within(where: str, field: str) -> str:
    return f"{where}.{field}" if where else field


def refuse(where: str, why: str) -> NoReturn:
    raise ManifestInvalid(f"The manifest is invalid: {where} {why}", field=where)


def _check_start(body: bytes) -> None:
    if not body.strip():
        raise ManifestInvalid("The manifest is empty.")
    if body.startswith(_BOM):
        raise ManifestInvalid("The manifest starts with a byte order mark, which JSON has not (RFC 8259, 8.1).")


def _check_depth(body: bytes) -> None:
    """Each round takes the innermost brackets away; what is left in the end lies deeper, or never closes."""
    brackets = _STRINGS.sub(b"", body).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ManifestInvalid(
            f"The manifest is not JSON: its brackets do not match, or lie deeper than {MAX_DEPTH} levels."
        )


def _read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ManifestInvalid(f"The manifest has the key {shown(key)} twice in one object.")
        value[key] = item
    return value


def _read_integer(digits: str) -> int:
    _check_digits(digits)
    return int(digits)


def _read_float(digits: str) -> float:
    _check_digits(digits)
    return float(digits)


def _check_digits(digits: str) -> None:
    if len(digits) > MAX_DIGITS:
        raise ManifestInvalid(f"The manifest has a number of {len(digits)} digits; {MAX_DIGITS} are allowed.")


def _read_constant(name: str) -> NoReturn:
    raise ManifestInvalid(f"The manifest is not JSON: {name} is no JSON number.")


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS[type(value)]


_KINDS = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    dict: "an object",
    list: "a list",
}
_DECODER = json.JSONDecoder(
    object_pairs_hook=_read_pairs,
    parse_int=_read_integer,
    parse_float=_read_float,
    parse_constant=_read_constant,
)
