"""One entry and its proof, in the hands of who has nothing but the public key."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.audit.entries import Wrapped, wrap
from registry.audit.kept import known_elsewhere
from registry.audit.proven import verify_entry
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED
from registry.transparency import tiles
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import leaf_hash
from registry.transparency.notes import SignerKey, sign
from registry.transparency.proofs import Proof

SIZE, AT = 300, "2026-11-26T00:00:00.000000Z"
KEY, OTHER = SignerKey.generate("log.example/audit/1"), SignerKey.generate("log.example/audit/1")
ENTRIES = [wrap(Wrapped(orjson.dumps({"action": "image.pull", "id": f"{number}"}), AT)) for number in range(SIZE)]
GROWTH = tiles.grow(0, [], [leaf_hash(entry) for entry in ENTRIES])
FULL = {(level, index): data for level, index, data in GROWTH.full}
TILES = FULL | {(level, SIZE >> 8 * (level + 1)): data for level, data in enumerate(GROWTH.edge)}


def note(root: bytes | None = None, key: SignerKey = KEY, size: int = SIZE) -> str:
    return sign(Checkpoint(key.name, size, root or tiles.root_at(SIZE, TILES)).text, [key])


def proof(index: int) -> Proof:
    return Proof(index, tuple(tiles.inclusion_proof(index, SIZE, TILES)), note(), ENTRIES[index])


@pytest.mark.parametrize("index", [0, 1, 255, 256, 299])
def test_an_entry_is_proven_and_told(index: int) -> None:
    verdict = verify_entry(proof(index).text, [OTHER.verifier, KEY.verifier])
    assert (verdict.status, verdict.since, verdict.entries, verdict.size) == (SOUND, index, 1, SIZE)
    assert (verdict.origin, verdict.keys, verdict.last_at) == (KEY.name, (str(KEY.verifier),), AT)
    assert verdict.event == {"action": "image.pull", "id": str(index)}


def test_another_entry_is_not_the_one_that_is_there() -> None:
    forged = replace(proof(7), extra=ENTRIES[8])
    assert (verify_entry(forged.text, [KEY.verifier]).status, verify_entry(forged.text, [KEY.verifier]).index) == (
        TAMPERED,
        7,
    )
    assert verify_entry(proof(7).text, [KEY.verifier], entry=ENTRIES[8]).status == TAMPERED
    assert verify_entry(replace(proof(7), index=8).text, [KEY.verifier]).index == 8


def test_an_entry_may_be_given_beside_its_proof() -> None:
    bare = replace(proof(7), extra=None).text
    assert verify_entry(bare, [KEY.verifier], entry=ENTRIES[7]).status == SOUND
    alone = verify_entry(bare, [KEY.verifier])
    assert (alone.status, "--entry" in alone.sentence) == (INCOMPLETE, True)


def test_a_proof_that_none_of_the_keys_signed_is_told_apart() -> None:
    verdict = verify_entry(proof(7).text, [OTHER.verifier])
    assert (verdict.status, verdict.wrong_key) == (TAMPERED, True)


def test_a_checkpoint_kept_elsewhere_of_that_size_is_compared() -> None:
    text = proof(7).text
    assert verify_entry(text, [KEY.verifier], known_elsewhere([note()], [KEY.verifier])).compared == 1
    assert verify_entry(text, [KEY.verifier], known_elsewhere([note(size=SIZE + 1)], [KEY.verifier])).compared == 0
    assert "two logs" in verify_entry(text, [KEY.verifier], known_elsewhere([note(bytes(32))], [KEY.verifier])).sentence


@pytest.mark.parametrize("text", ["", "hello", proof(7).text[:40], proof(7).text.replace("index", "number")])
def test_what_is_no_proof_proves_nothing(text: str) -> None:
    assert verify_entry(text, [KEY.verifier]).status == INCOMPLETE


@given(st.integers(0, len(proof(7).text) - 1), st.characters(codec="ascii"))
def test_no_other_text_proves_anything_else(place: int, letter: str) -> None:
    """Whatever letter is changed: what is called sound is still the entry that is there."""
    sound = proof(7).text
    verdict = verify_entry(sound[:place] + letter + sound[place + 1 :], [KEY.verifier])
    if verdict.status == SOUND:
        assert (verdict.since, verdict.event) == (7, {"action": "image.pull", "id": "7"})


NEXT = SignerKey.generate("log.example/audit/2")


def test_a_key_signs_for_no_log_of_another_name_and_tells_nothing_of_one() -> None:
    other, both = note(bytes(32), NEXT), [KEY.verifier, NEXT.verifier]
    verdict = verify_entry(proof(7).text, both, known_elsewhere([other, note()], both))
    assert (verdict.status, verdict.compared, verdict.passed_over) == (SOUND, 1, (SIZE,)), verdict
    forged = sign(Checkpoint(KEY.name, SIZE, tiles.root_at(SIZE, TILES)).text, [NEXT])
    verdict = verify_entry(replace(proof(7), note=forged).text, both)
    assert (verdict.status, verdict.wrong_key) == (TAMPERED, True)
