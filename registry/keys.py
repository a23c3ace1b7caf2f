"""The secrets of an installation: what signs registry tokens, what keys the hashes of random secrets, what signs the
audit log, and what wraps the keys under which persons are sealed in it.

They lie in files of mode 0600 under the data folder, made at the first start. All servers of one installation need
the same files; without the database they open nothing, and without them the database opens nothing. So one that a
database was used with is never made anew: it would pass for the one that is lost.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from joserfc.jwk import OKPKey

from registry.errors import Unable
from registry.transparency.notes import KeyInvalid, SignerKey, VerifierKey

SIGNING, HASHING = "token-signing.pem", "secret-hashing.key"
AUDIT_SIGNING, AUDIT_SEALING = "audit-signing.key", "audit-sealing.key"
AUDIT_RETIRED = "audit-retired.vkeys"
GONE = {
    AUDIT_SIGNING: "it signs the audit log in this database, and another would be a stranger's. If it is lost for "
    "good, 'tidewaiter audit reopen --lost-key' opens a new log over the entries as they stand.",
    AUDIT_SEALING: "persons are sealed under it in this database, and no other opens that or goes on with it.",
}
T = TypeVar("T")


class KeyMissing(Unable):
    """A file of a key is not there, though the database was used with it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is missing, and is not made anew. Put it back from a backup, or from another server of this "
            f"installation: {GONE[path.name]}"
        )


class KeyDamaged(Unable):
    """A file of a key holds something else."""


@dataclass(frozen=True, slots=True)
class Keys:
    """`audit_signing` are the keys that sign checkpoints, the newest first; more than one while keys are changed."""

    signing: OKPKey
    hashing: bytes
    audit_signing: tuple[SignerKey, ...]
    audit_sealing: bytes

    def hash_secret(self, secret: str) -> bytes:
        """For secrets of 256 random bits only: guessing is hopeless, so speed does no harm."""
        return hmac.digest(self.hashing, secret.encode(), hashlib.sha256)


def missing(folder: Path) -> list[str]:
    """Of the files that a database may have been used with."""
    return [name for name in GONE if not (folder / name).exists()]


def load_keys(folder: Path, host: str, used: Collection[str] = ()) -> Keys:
    """`host` becomes part of the audit log's name, at the first start, for good. The files that the database is `used`
    with have to be there. Raises `KeyDamaged`, `KeyMissing`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in missing(folder):
        if name in used:
            raise KeyMissing(folder / name)
    signing = _kept(folder / SIGNING, lambda: bytes(OKPKey.generate_key("Ed25519").as_pem(private=True)))
    hashing = _kept(folder / HASHING, lambda: os.urandom(32).hex().encode())
    _kept(folder / AUDIT_SEALING, lambda: os.urandom(32).hex().encode())
    _kept(folder / AUDIT_SIGNING, lambda: f"{SignerKey.generate(f'{host}/audit/1')}\n".encode())
    return Keys(
        _parsed(folder / SIGNING, lambda: OKPKey.import_key(signing)),
        _parsed(folder / HASHING, lambda: _secret(hashing.decode())),
        _parsed(folder / AUDIT_SIGNING, lambda: read_signers(folder)),
        _parsed(folder / AUDIT_SEALING, lambda: read_sealing(folder)),
    )


def read_sealing(folder: Path) -> bytes:
    """Raises `KeyInvalid`, and OSError before the first start."""
    try:
        return _secret((folder / AUDIT_SEALING).read_text())
    except ValueError:
        raise KeyInvalid(f"{folder / AUDIT_SEALING} holds no key: it is 64 hexadecimal digits.") from None


def read_signers(folder: Path) -> tuple[SignerKey, ...]:
    """The keys that sign checkpoints now, the newest first. Raises `KeyInvalid`, and OSError before the first start."""
    if signers := _lines_of(folder / AUDIT_SIGNING, SignerKey.parse):
        return signers
    raise KeyInvalid(f"{folder / AUDIT_SIGNING} holds no key.")


def read_retired(folder: Path) -> tuple[VerifierKey, ...]:
    """The verifier keys of those that signed once, the newest first: what they signed is still to be recognised.

    Raises `KeyInvalid`.
    """
    with suppress(FileNotFoundError):
        return _lines_of(folder / AUDIT_RETIRED, VerifierKey.parse)
    return ()


def keep_retired(folder: Path, retired: Iterable[VerifierKey]) -> None:
    """Adds them to those that are there, before they sign no more."""
    known = dict.fromkeys((*retired, *read_retired(folder)))
    _fresh(folder / AUDIT_RETIRED, "".join(f"{key}\n" for key in known).encode()).replace(folder / AUDIT_RETIRED)


def keep_signers(folder: Path, signers: Iterable[SignerKey]) -> None:
    """Puts these keys in the place of those that are there, all at once."""
    content = "".join(f"{signer}\n" for signer in signers).encode()
    _fresh(folder / AUDIT_SIGNING, content).replace(folder / AUDIT_SIGNING)


def _lines_of(path: Path, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Raises `KeyInvalid`, naming the file."""
    try:
        return tuple(parse(line) for line in path.read_text().splitlines() if line)
    except ValueError as error:
        why = str(error) if isinstance(error, KeyInvalid) else "It is no text."
        raise KeyInvalid(f"{path} holds a line that is no key. {why}") from None


def _secret(text: str) -> bytes:
    """Of 32 bytes, in hexadecimal digits. Raises ValueError."""
    secret = bytes.fromhex(text)
    if len(secret) != 32:
        raise ValueError("a secret has 32 bytes")
    return secret


def _parsed(path: Path, parse: Callable[[], T]) -> T:
    """Raises `KeyDamaged`."""
    try:
        return parse()
    except ValueError as error:
        raise KeyDamaged(f"{path} does not hold the key that it should: put it back from a backup.") from error


def _kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file that is written once, whole, and by one of those who start at the same time."""
    if not path.exists():
        fresh = _fresh(path, make())
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    return path.read_bytes()


def _fresh(path: Path, content: bytes) -> Path:
    """A file beside the path, with this content on the disk."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh
