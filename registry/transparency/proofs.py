"""Proofs that stand alone (C2SP tlog-proof): with the verifier key they need neither us nor a network. The extra data
of ours are the bytes of the entry itself, so that one file holds what is proven and its proof."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from registry.transparency.checkpoints import SIZE, CheckpointInvalid, read_hash
from registry.transparency.merkle import ProofInvalid

FIRST_LINE = "c2sp.org/tlog-proof@v1"
EXTRA = "extra "
MOST_HASHES = 63


@dataclass(frozen=True, slots=True)
class Proof:
    """Of the entry of that index, in the tree whose checkpoint the signed note is."""

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    @property
    def text(self) -> str:
        extra = "" if self.extra is None else f"extra {b64encode(self.extra).decode()}\n"
        hashes = "".join(f"{b64encode(one).decode()}\n" for one in self.hashes)
        return f"{FIRST_LINE}\n{extra}index {self.index}\n{hashes}\n{self.note}"


def parse(text: str) -> Proof:
    """Raises `ProofInvalid`."""
    head, gap, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    extra = _extra(lines.pop(0)) if lines and lines[0].startswith(EXTRA) else None
    if first != FIRST_LINE or not gap or not lines or not lines[0].startswith("index "):
        raise ProofInvalid(f"A proof begins with {FIRST_LINE} and the index of the entry.")
    index = lines[0].removeprefix("index ")
    if not SIZE.fullmatch(index) or len(lines) > MOST_HASHES + 1:
        raise ProofInvalid("The index of a proof is a number, and at most 63 hashes follow it.")
    return Proof(int(index), _hashes(lines[1:]), note, extra)


def _extra(line: str) -> bytes:
    try:
        return b64decode(line.removeprefix(EXTRA), validate=True)
    except ValueError as error:
        raise ProofInvalid("The extra data of a proof are in base64.") from error


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return tuple(read_hash(line) for line in lines)
    except CheckpointInvalid as error:
        raise ProofInvalid(str(error)) from error
