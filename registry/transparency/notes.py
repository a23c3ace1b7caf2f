"""Signed notes (C2SP signed-note): text with lines of signatures under it, and the keys that make and check them.

Signatures of keys that nobody told us of are ignored, so keys can overlap while one takes the place of another, and
witnesses may add theirs.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519, COSIGNATURE = b"\x01", b"\x04"
MARK = "— "
LONGEST_NOTE = 256 * 1024
MOST_SIGNATURES = 64


class NoteInvalid(ValueError):
    """Not a signed note, or not one signed by a known key."""


class NoteUnverified(NoteInvalid):
    """No known key has signed it, or the signature of one is wrong."""


class KeyInvalid(ValueError):
    """Not the text of a key."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Its text is `name+hash+key`, as C2SP's and Go's tools take it."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises `KeyInvalid`."""
        name, hashed, key = _three_parts(text)
        found = cls(name, _key_bytes(key))
        if found.id.hex() != hashed:
            raise KeyInvalid("The verifier key is damaged: its hash is not that of its key.")
        return found

    def accepts(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SignerKey:
    """Its text is a secret: `PRIVATE+KEY+name+hash+key`, as Go's tools take it."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> "SignerKey":
        _check_name(name)
        return cls(name, Ed25519PrivateKey.generate())

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def __str__(self) -> str:
        secret = b64encode(ED25519 + self.private.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.id.hex()}+{secret}"

    def __repr__(self) -> str:
        return f"SignerKey({self.name!r})"

    @classmethod
    def parse(cls, text: str) -> "SignerKey":
        """Raises `KeyInvalid`, whose text holds nothing of the key."""
        if not text.startswith("PRIVATE+KEY+"):
            raise KeyInvalid("A signing key begins with PRIVATE+KEY+.")
        name, hashed, key = _three_parts(text.removeprefix("PRIVATE+KEY+"))
        _check_name(name)
        found = cls(name, Ed25519PrivateKey.from_private_bytes(_key_bytes(key)))
        if found.verifier.id.hex() != hashed:
            raise KeyInvalid("The signing key is damaged: its hash is not that of its key.")
        return found


@dataclass(frozen=True, slots=True)
class Opened:
    """The text that was signed, and the known keys that signed it."""

    text: str
    keys: tuple[VerifierKey, ...]


def sign(text: str, signers: Iterable[SignerKey]) -> str:
    """Raises ValueError for a text that no note can hold."""
    if not text.endswith("\n") or any(ord(sign) < 0x20 and sign != "\n" for sign in text):
        raise ValueError("The text of a note ends with a newline and holds no other control characters.")
    lines = (_signature_line(key.name, key.verifier.id, key.private.sign(text.encode())) for key in signers)
    return f"{text}\n{''.join(lines)}"


def cosignature(text: str, signer: SignerKey, seconds: int) -> str:
    """The line by which a witness says that it saw this checkpoint, and when (C2SP tlog-cosignature, v1)."""
    name, public = signer.name, signer.verifier.public
    id = hashlib.sha256(name.encode() + b"\n" + COSIGNATURE + public).digest()[:4]
    signature = signer.private.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    return _signature_line(name, id, seconds.to_bytes(8, "big") + signature)


def open_note(note: str, keys: Sequence[VerifierKey]) -> Opened:
    """Raises `NoteInvalid`, `NoteUnverified`."""
    text, signatures = split_note(note)
    verified: list[VerifierKey] = []
    for name, signature in signatures:
        for key in keys:
            if key.name != name or key.id != signature[:4] or key in verified:
                continue
            if not key.accepts(text, signature[4:]):
                raise NoteUnverified(f"The signature of the known key {name}+{key.id.hex()} is wrong.")
            verified.append(key)
    if not verified:
        raise NoteUnverified("None of the keys given has signed this note.")
    return Opened(text, tuple(verified))


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and the name and the bytes of each signature, of which the first four are the key's id. Nothing is
    verified. Raises `NoteInvalid`."""
    if len(note) > LONGEST_NOTE or any(ord(sign) < 0x20 and sign != "\n" for sign in note):
        raise NoteInvalid("The note is too long, or holds control characters.")
    text, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n") or tail.count("\n") > MOST_SIGNATURES:
        raise NoteInvalid("A note is text, an empty line, and lines of signatures.")
    return text + "\n", [_read_signature(line) for line in tail[:-1].split("\n")]


def _signature_line(name: str, id: bytes, signature: bytes) -> str:
    return f"{MARK}{name} {b64encode(id + signature).decode()}\n"


def _read_signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(MARK).partition(" ")
    signature = _decoded(encoded)
    if not line.startswith(MARK) or not space or not _is_name(name) or signature is None or len(signature) < 5:
        raise NoteInvalid("A line of a signature is a dash, the name of a key and the signature in base64.")
    return name, signature


def _three_parts(text: str) -> list[str]:
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise KeyInvalid("A key is written as its name, eight hexadecimal digits and base64, with + between them.")
    return parts


def _key_bytes(encoded: str) -> bytes:
    data = _decoded(encoded)
    if data is None or len(data) != 33 or data[:1] != ED25519:
        raise KeyInvalid("The key is not an Ed25519 key in base64.")
    return data[1:]


def _decoded(encoded: str) -> bytes | None:
    """Only what base64 would be written as, so that no note can be written in two ways."""
    try:
        data = b64decode(encoded, validate=True)
    except (Error, ValueError):
        return None
    return data if b64encode(data).decode() == encoded else None


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise KeyInvalid("The name of a key has no spaces and no +.")


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(sign.isspace() or ord(sign) < 0x20 for sign in name)
