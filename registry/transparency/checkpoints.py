"""Checkpoints (C2SP tlog-checkpoint): the text that is signed, which says how large a log is and what its root is."""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from registry.transparency.merkle import HASH_BYTES

SIZE = re.compile("0|[1-9][0-9]{0,18}")
HASH = re.compile("[A-Za-z0-9+/]{43}=")


class CheckpointInvalid(ValueError):
    """Not the text of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`origin` names the log; `extensions` are further lines, whose meaning is not ours to know."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> Checkpoint:
    """Raises `CheckpointInvalid`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise CheckpointInvalid("A checkpoint has three lines or more, and no empty one.")
    origin, size, root, *extensions = lines[:-1]
    if not SIZE.fullmatch(size):
        raise CheckpointInvalid("The second line of a checkpoint is the number of entries, without leading zeros.")
    return Checkpoint(origin, int(size), read_hash(root), tuple(extensions))


def read_hash(text: str) -> bytes:
    """A SHA-256 hash in base64, written as it is always written. Raises `CheckpointInvalid`."""
    if HASH.fullmatch(text):
        data = b64decode(text)
        if len(data) == HASH_BYTES and b64encode(data).decode() == text:
            return data
    raise CheckpointInvalid("A hash is 32 bytes in base64.")
