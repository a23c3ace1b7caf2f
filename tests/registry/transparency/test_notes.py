"""Signed notes, checkpoints and proofs as texts: what is accepted, and what is not."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry.transparency import checkpoints, proofs, tiles
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.merkle import EMPTY_ROOT, ProofInvalid, leaf_hash, verify_inclusion
from registry.transparency.notes import (
    KeyInvalid,
    NoteInvalid,
    NoteUnverified,
    SignerKey,
    VerifierKey,
    open_note,
    sign,
)
from registry.transparency.proofs import Proof

OLD, NEW, OTHER = (SignerKey.generate(name) for name in ("log.example/audit/1", "log.example/audit/1", "witness"))
TEXT = "log.example/audit/1\n7\n" + "A" * 43 + "=\n"
NOTE = sign(TEXT, [OLD])

# The key of the examples in the documentation of golang.org/x/mod/sumdb/note, whose text is well known.
GO_KEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_keys_and_notes_are_those_of_go() -> None:
    """Ed25519 is deterministic, so the note is the same to the byte."""
    key = SignerKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    assert str(key.verifier) == GO_VERIFIER
    assert sign(GO_TEXT, [key]) == f"{GO_TEXT}\n{GO_SIGNATURE}"
    assert open_note(f"{GO_TEXT}\n{GO_SIGNATURE}", [VerifierKey.parse(GO_VERIFIER)]).text == GO_TEXT


def test_a_note_is_opened_by_any_key_that_signed_it_and_strangers_are_ignored() -> None:
    note = sign(TEXT, [NEW, OTHER, OLD])
    for key in (OLD, NEW):
        assert open_note(note, [key.verifier]).keys == (key.verifier,)
    opened = open_note(note, [OLD.verifier, NEW.verifier])
    assert (opened.text, opened.keys) == (TEXT, (NEW.verifier, OLD.verifier))


def test_a_note_nobody_we_know_has_signed_is_refused() -> None:
    with pytest.raises(NoteUnverified, match="None of the keys"):
        open_note(NOTE, [NEW.verifier, OTHER.verifier])
    with pytest.raises(NoteUnverified):
        open_note(NOTE, [])


def test_a_wrong_signature_of_a_known_key_is_refused_though_another_is_right() -> None:
    both = sign(TEXT, [NEW, OLD])
    forged = both.replace(sign(TEXT, [OLD]).split("\n\n")[1], sign("else\n", [OLD]).split("\n\n")[1])
    assert forged != both
    with pytest.raises(NoteUnverified, match="is wrong"):
        open_note(forged, [NEW.verifier, OLD.verifier])
    assert open_note(forged, [NEW.verifier]).text == TEXT


def test_a_changed_text_is_refused() -> None:
    with pytest.raises(NoteUnverified, match="is wrong"):
        open_note(NOTE.replace("\n7\n", "\n8\n"), [OLD.verifier])


def test_empty_lines_belong_to_the_text() -> None:
    text = "first\n\nsecond\n"
    assert open_note(sign(text, [OLD]), [OLD.verifier]).text == text


def test_sixteen_signatures_are_accepted() -> None:
    strangers = [SignerKey.generate(f"w{number}") for number in range(15)]
    assert open_note(sign(TEXT, [*strangers, OLD]), [OLD.verifier]).text == TEXT


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "more\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("log.example/audit/1 ", "log example/audit/1 "),
        NOTE.replace("log.example/audit/1 ", "log+example/audit/1 "),
        NOTE.replace("A", "\t", 1),
        NOTE.replace("\n", "\r\n"),
        NOTE[:-3] + "*=\n",
        sign(TEXT, [OTHER] * 65),
        "x" * 300_000 + "\n\n" + NOTE.split("\n\n")[1],
    ],
    ids=range(15),
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteInvalid):
        open_note(note, [OLD.verifier])


@pytest.mark.parametrize("text", ["", "no end", "a\tb\n", "a\r\n", "\x00\n"])
def test_what_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError, match="newline"):
        sign(text, [OLD])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        "name+00000000+AAAA",
        GO_VERIFIER.replace("c74f20a3", "c74f20a4"),
        GO_VERIFIER.replace("Peter", "Pieter"),
        GO_VERIFIER.replace("PeterNeumann", "Peter Neumann"),
        GO_VERIFIER[:-4],
        GO_VERIFIER.replace("+AR", "+BR"),
        GO_KEY,
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(KeyInvalid):
        VerifierKey.parse(text)


@pytest.mark.parametrize("text", ["", GO_VERIFIER, GO_KEY[:-4], GO_KEY.replace("c74f20a3", "c74f20a4")])
def test_what_is_no_signing_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(KeyInvalid) as refused:
        SignerKey.parse(text)
    assert "AYEKFALV" not in str(refused.value)


def test_a_signing_key_does_not_show_itself() -> None:
    key = SignerKey("n", Ed25519PrivateKey.generate())
    assert str(key).rpartition("+")[2] not in repr(key)
    for name in ("", "a b", "a+b", "a\u2003b"):
        with pytest.raises(KeyInvalid):
            SignerKey.generate(name)


def test_a_checkpoint_is_written_and_read() -> None:
    checkpoint = Checkpoint("log.example/audit/1", 0, EMPTY_ROOT)
    assert checkpoint.text == "log.example/audit/1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert checkpoints.parse(checkpoint.text) == checkpoint
    further = Checkpoint("o", 2**62, EMPTY_ROOT, ("more", "and more"))
    assert checkpoints.parse(further.text) == further


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT.replace("\n7\n", "\n07\n"),
        TEXT.replace("\n7\n", "\n-7\n"),
        TEXT.replace("\n7\n", "\n7 \n"),
        TEXT.replace("\n7\n", "\n٧\n"),
        TEXT.replace("\n7\n", "\n" + "9" * 20 + "\n"),
        TEXT.replace("A=", "B="),
        TEXT.replace("A=", "A"),
        TEXT.replace("log.example/audit/1", ""),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        checkpoints.parse(text)


def proof_of(index: int, size: int = 9) -> Proof:
    growth = tiles.grow(0, [], [leaf_hash(str(number).encode()) for number in range(size)])
    edge = {(level, 0): data for level, data in enumerate(growth.edge)}
    checkpoint = Checkpoint(OLD.name, size, tiles.root_of(size, growth.edge))
    return Proof(index, tuple(tiles.inclusion_proof(index, size, edge)), sign(checkpoint.text, [OLD]))


@pytest.mark.parametrize("index", range(9))
def test_a_proof_stands_alone(index: int) -> None:
    proof = proof_of(index)
    assert proof.text.startswith(f"c2sp.org/tlog-proof@v1\nindex {index}\n")
    assert proofs.parse(proof.text) == proof
    checkpoint = checkpoints.parse(open_note(proof.note, [OLD.verifier]).text)
    leaf = leaf_hash(str(index).encode())
    verify_inclusion(index, checkpoint.size, leaf, proof.hashes, checkpoint.root)


@pytest.mark.parametrize("extra", [b"", b"0", b"a\nb" * 30_000])
def test_a_proof_carries_what_is_given_with_it(extra: bytes) -> None:
    proof = replace(proof_of(3), extra=extra)
    assert proof.text.startswith("c2sp.org/tlog-proof@v1\nextra ")
    assert proofs.parse(proof.text) == proof


def test_a_proof_of_a_log_of_one_entry_has_no_hashes() -> None:
    proof = proof_of(0, 1)
    assert proof.hashes == ()
    assert proofs.parse(proof.text) == proof


SOUND = proof_of(3).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        SOUND.replace("@v1", "@v2"),
        SOUND.replace("index 3", "index 03"),
        SOUND.replace("index 3", "index -3"),
        SOUND.replace("index 3\n", ""),
        SOUND.replace("\n\n", "\n", 1),
        SOUND.replace("index 3\n", "index 3\nAAAA\n"),
        SOUND.replace("index 3\n", "index 3\n" + (("A" * 43 + "=\n") * 64)),
        SOUND.replace("index 3", "extra !\nindex 3"),
        SOUND.replace("index 3", "extra MA==\nextra MA==\nindex 3"),
    ],
    ids=range(10),
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        proofs.parse(text)
