"""Proofs that stand alone (C2SP tlog-proof): with the entry and the verifier key they need neither us nor a network."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from registry.transparency import checkpoints
from registry.transparency.checkpoints import SIZE, Checkpoint, CheckpointInvalid, read_hash
from registry.transparency.merkle import ProofInvalid, leaf_hash, verify_inclusion
from registry.transparency.notes import VerifierKey, open_note

FIRST_LINE = "c2sp.org/tlog-proof@v1"
MOST_HASHES = 63


@dataclass(frozen=True, slots=True)
class Proof:
    """Of the entry of that index, in the tree whose checkpoint the signed note is."""

    index: int
    hashes: tuple[bytes, ...]
    note: str

    @property
    def text(self) -> str:
        hashes = "".join(f"{b64encode(one).decode()}\n" for one in self.hashes)
        return f"{FIRST_LINE}\nindex {self.index}\n{hashes}\n{self.note}"


def parse(text: str) -> Proof:
    """The optional line of extra data is passed over: nothing proves it. Raises `ProofInvalid`."""
    head, gap, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    if lines and lines[0].startswith("extra "):
        lines = lines[1:]
    if first != FIRST_LINE or not gap or not lines or not lines[0].startswith("index "):
        raise ProofInvalid(f"A proof begins with {FIRST_LINE} and the index of the entry.")
    index = lines[0].removeprefix("index ")
    if not SIZE.fullmatch(index) or len(lines) > MOST_HASHES + 1:
        raise ProofInvalid("The index of a proof is a number, and at most 63 hashes follow it.")
    return Proof(int(index), _hashes(lines[1:]), note)


def verify_proof(text: str, entry: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The checkpoint under which the entry stands. Raises `ProofInvalid`, `NoteInvalid`, `CheckpointInvalid`."""
    proof = parse(text)
    checkpoint = checkpoints.parse(open_note(proof.note, keys).text)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(entry), proof.hashes, checkpoint.root)
    return checkpoint


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return tuple(read_hash(line) for line in lines)
    except CheckpointInvalid as error:
        raise ProofInvalid(str(error)) from error
