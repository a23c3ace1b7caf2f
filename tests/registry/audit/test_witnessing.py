"""A witness over logs that lie in memory: what it takes, what it keeps, and what it calls a contradiction."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from registry.audit.witnessing import MOST_UNPROVEN, Contradiction, Damaged, SignedByNone, Unproven, visit
from registry.transparency import tiles
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.notes import SignerKey, VerifierKey, sign
from registry.transparency.tiles import Tile

SIGNER = SignerKey.generate("log.example/audit/1")
KEYS = [SIGNER.verifier]
LEAVES = [sha256(b"%d" % number).digest() for number in range(700)]
OTHERS = [*LEAVES[:300], *(sha256(b"other %d" % number).digest() for number in range(400))]


class Log:
    """As it is served. `hidden`: only its checkpoint is."""

    def __init__(
        self,
        leaves: Sequence[bytes],
        size: int,
        *,
        hidden: bool = False,
        signer: SignerKey = SIGNER,
        origin: str | None = None,
    ) -> None:
        growth = tiles.grow(0, [], leaves[:size])
        root = tiles.root_of(size, growth.edge)
        self.note = sign(Checkpoint(origin or signer.name, size, root).text, [signer])
        self._files = {Tile(level, index).path: data for level, index, data in growth.full}
        for level, data in enumerate(growth.edge):
            tile = Tile(level, size >> 8 * (level + 1), len(data) // 32)
            self._files[tile.path] = data
        self._hidden = hidden

    def __call__(self, path: str) -> bytes:
        if path == "checkpoint":
            return self.note.encode()
        if self._hidden or path not in self._files:
            raise OSError(f"{path}: 404")
        return self._files[path]


def remembered(state: Path) -> str:
    note: str = json.loads(state.read_text())[SIGNER.name]
    return note


def unproven(state: Path) -> list[str]:
    path = state.with_name(f"{state.name}.unproven")
    found: list[str] = json.loads(path.read_text()).get(SIGNER.name, []) if path.exists() else []
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "watch.json"


def test_a_log_that_grows_is_followed(state: Path) -> None:
    assert visit(Log(LEAVES, 10), KEYS, state).before is None
    for before, size in ((10, 10), (10, 300), (300, 700)):
        assert visit(log := Log(LEAVES, size), KEYS, state).before == before
        assert remembered(state) == log.note
    assert unproven(state) == []


def test_a_checkpoint_whose_tiles_are_hidden_is_kept_and_not_taken(state: Path) -> None:
    visit(first := Log(LEAVES, 310), KEYS, state)
    hidden = Log(LEAVES, 400, hidden=True)
    for _ in range(2):
        with pytest.raises(Unproven, match=r"not proven that the log of 400 entries continues .* 404"):
            visit(hidden, KEYS, state)
        assert (remembered(state), unproven(state)) == (first.note, [hidden.note])
    assert visit(shown := Log(LEAVES, 500), KEYS, state).before == 310
    assert (remembered(state), unproven(state)) == (shown.note, [])


def test_what_is_shown_later_must_continue_what_was_hidden_too(state: Path) -> None:
    """Else a rewritten log would only have to hide its tiles until it is put back."""
    visit(Log(LEAVES, 310), KEYS, state)
    with pytest.raises(Unproven):
        visit(rewritten := Log(OTHERS, 400, hidden=True), KEYS, state)
    with pytest.raises(Contradiction, match="first 400 entries") as found:
        visit(honest := Log(LEAVES, 500), KEYS, state)
    assert found.value.notes == (rewritten.note, honest.note)
    assert unproven(state) == [rewritten.note]


@pytest.mark.parametrize(
    ("then", "sentence"),
    [(Log(LEAVES, 400, hidden=True), "Two logs of 400 entries"), (Log(LEAVES, 390, hidden=True), "was cut off")],
)
def test_two_signatures_contradict_each_other_without_any_tile(state: Path, then: Log, sentence: str) -> None:
    visit(Log(LEAVES, 310), KEYS, state)
    with pytest.raises(Unproven):
        visit(rewritten := Log(OTHERS, 400, hidden=True), KEYS, state)
    with pytest.raises(Contradiction, match=sentence) as found:
        visit(then, KEYS, state)
    assert found.value.notes == (rewritten.note, then.note)


def test_all_that_was_hidden_is_kept_and_compared(state: Path) -> None:
    visit(Log(LEAVES, 310), KEYS, state)
    for leaves, size in ((LEAVES, 400), (OTHERS, 410), (LEAVES, 420)):
        with pytest.raises(Unproven):
            visit(Log(leaves, size, hidden=True), KEYS, state)
    assert len(unproven(state)) == 3
    with pytest.raises(Contradiction, match="first 410 entries"):
        visit(Log(LEAVES, 500), KEYS, state)


def test_a_server_that_hides_for_ever_does_not_fill_the_disk(state: Path) -> None:
    visit(Log(LEAVES, 310), KEYS, state)
    for size in range(311, 315 + MOST_UNPROVEN):
        with pytest.raises(Unproven, match="is kept" if size < 311 + MOST_UNPROVEN else "no more are kept"):
            visit(Log(LEAVES, size, hidden=True), KEYS, state)
    assert len(unproven(state)) == MOST_UNPROVEN


NEXT = SignerKey.generate("log.example/audit/2")
BOTH = [*KEYS, NEXT.verifier]


@pytest.mark.parametrize("origin", [NEXT.name, "log.example/audit/one", "x"])
@pytest.mark.parametrize("keys", [KEYS, BOTH], ids=["its key", "both keys"])
def test_a_key_signs_for_no_log_of_another_name(origin: str, keys: list[VerifierKey], state: Path) -> None:
    """Else a rewritten log needed only another first line to pass for one that was opened later."""
    visit(first := Log(LEAVES, 310), KEYS, state)
    with pytest.raises(SignedByNone):
        visit(Log(OTHERS, 200, origin=origin), keys, state)
    assert json.loads(state.read_text()) == {SIGNER.name: first.note}


def test_a_log_that_was_opened_anew_is_followed_and_the_one_before_does_not_come_back(state: Path) -> None:
    visit(Log(LEAVES, 310), KEYS, state)
    ended = visit(new := Log(OTHERS, 200, signer=NEXT), BOTH, state).ended
    assert ended is not None
    assert (ended.origin, ended.size) == (SIGNER.name, 310)
    for size in (310, 400):
        with pytest.raises(Contradiction, match="had ended") as found:
            visit(old := Log(LEAVES, size), BOTH, state)
        assert found.value.notes == (new.note, old.note)
    assert visit(Log(OTHERS, 300, signer=NEXT), BOTH, state).before == 200


DEEP = b"[" * 200_000 + b"]" * 200_000
NO_NOTES = {
    "text": "x",
    "number": 5,
    "surrogates": "\udc80\n1\n\n",
    "no checkpoint": sign("hello\n", [SIGNER]),
    "another log's": Log(LEAVES, 10, origin=NEXT.name).note,
    "a surrogate in a note": Log(LEAVES, 10).note.replace("\n\n", "\n\ud800\n\n"),
    "another size": Log(LEAVES, 10).note.replace("\n10\n", "\n11\n"),
}


@pytest.mark.parametrize("suffix", ["", ".unproven"])
@pytest.mark.parametrize("content", [*NO_NOTES, b"\xff", DEEP, b"{", b"[]"], ids=lambda one: str(one)[:20])
def test_what_was_damaged_here_accuses_no_log(suffix: str, content: str | bytes, state: Path) -> None:
    path = state.with_name(f"{state.name}{suffix}")
    if isinstance(content, str):
        note = NO_NOTES[content]
        content = json.dumps({SIGNER.name: [note] if suffix else note}).encode()
    path.write_bytes(content)
    with pytest.raises(Damaged) as found:
        visit(Log(LEAVES, 20), KEYS, state)
    assert str(path) in str(found.value)
    assert path.read_bytes() == content
