"""The files of keys: made once, and never taken for what they are not."""

from pathlib import Path

import pytest

from registry.keys import KeyDamaged, KeyMissing, load_keys, missing

FILES = ("token-signing.pem", "secret-hashing.key", "audit-signing.key", "audit-sealing.key")


@pytest.mark.parametrize("content", [b"", b"garbage", "é".encode(), b"\xff\xfe"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, name: str, content: bytes) -> None:
    load_keys(tmp_path, "registry.example")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KeyDamaged, match=name):
        load_keys(tmp_path, "registry.example")
    assert (tmp_path / name).read_bytes() == content


def test_they_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    first = load_keys(tmp_path, "registry.example")
    again = load_keys(tmp_path, "another.example")
    assert (first.hashing, first.audit_sealing) == (again.hashing, again.audit_sealing)
    assert [str(key) for key in first.audit_signing] == [str(key) for key in again.audit_signing]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["audit-signing.key", "audit-sealing.key"])
def test_one_that_the_database_was_used_with_is_not_made_anew(tmp_path: Path, name: str) -> None:
    load_keys(tmp_path, "registry.example")
    kept = (tmp_path / name).read_text()
    (tmp_path / name).unlink()
    assert missing(tmp_path) == [name]
    with pytest.raises(KeyMissing, match=f"{name} is missing, and is not made anew. Put it back from a backup"):
        load_keys(tmp_path, "registry.example", [name])
    assert not (tmp_path / name).exists()
    (tmp_path / name).write_text(kept)
    load_keys(tmp_path, "registry.example", [name])
