"""One entry, proven by a text that stands alone: what a tenant or a court is handed, and checks with the public key."""

from collections.abc import Sequence

import orjson

from registry.audit.entries import Wrapped, unwrap
from registry.audit.kept import NONE, Known, of_log, opened
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Incomplete, SignedByNone, Tampered, Verdict
from registry.transparency import proofs
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import ProofInvalid, leaf_hash, verify_inclusion
from registry.transparency.notes import NoteInvalid, VerifierKey, split_note
from registry.transparency.proofs import Proof


def verify_entry(text: str, keys: Sequence[VerifierKey], known: Known = NONE, entry: bytes | None = None) -> Verdict:
    """`text` is a C2SP tlog-proof, with line ends of whatever kind; `entry` the bytes that it should prove, where those
    are not in it; `known` the checkpoints that were kept elsewhere, of which those of the same log and size can be
    compared."""
    try:
        proof = _parsed(text)
        bytes_of_entry = _entry(proof, entry)
        checkpoint, signers = opened(proof.note, keys, "The checkpoint of the proof")
        ours, others = of_log(known, checkpoint.origin)
        compared = _compare(checkpoint, ours.pop(checkpoint.size, ()))
        _check(proof, checkpoint, bytes_of_entry)
        wrapped = unwrap(bytes_of_entry)
        return _sound(proof.index, wrapped, checkpoint, signers, compared, tuple(sorted({*ours, *others})))
    except Tampered as found:
        return Verdict(TAMPERED, str(found), found.index, wrong_key=isinstance(found, SignedByNone))
    except (Incomplete, ValueError) as found:
        return Verdict(INCOMPLETE, str(found))


def _parsed(text: str) -> Proof:
    try:
        proof = proofs.parse(text.replace("\r\n", "\n").strip("\n\ufeff") + "\n")
        split_note(proof.note)
    except (ProofInvalid, NoteInvalid) as error:
        raise Incomplete(f"It is no proof, or was damaged in copying: {error}") from error
    return proof


def _entry(proof: Proof, given: bytes | None) -> bytes:
    entry = proof.extra if given is None else given
    if entry is None:
        raise Incomplete(
            "The proof does not hold the entry: give it with --entry, as it stands in an export, or in the archive of "
            "its month."
        )
    if given is not None:
        unwrap(given)
    return entry


def _compare(checkpoint: Checkpoint, known: Sequence[Checkpoint]) -> int:
    if any(one.root != checkpoint.root for one in known):
        raise Tampered(
            f"A checkpoint kept elsewhere is of {checkpoint.size} entries too, but not of these: two logs were signed "
            "under one name."
        )
    return len(known)


def _check(proof: Proof, checkpoint: Checkpoint, entry: bytes) -> None:
    try:
        verify_inclusion(proof.index, checkpoint.size, leaf_hash(entry), proof.hashes, checkpoint.root)
    except ProofInvalid as error:
        raise Tampered(f"Entry {proof.index} of the log is not this one: {error}", proof.index) from error


def _sound(
    index: int,
    wrapped: Wrapped,
    checkpoint: Checkpoint,
    signers: Sequence[VerifierKey],
    compared: int,
    passed_over: tuple[int, ...],
) -> Verdict:
    return Verdict(
        SOUND,
        "Sound.",
        origin=checkpoint.origin,
        size=checkpoint.size,
        since=index,
        entries=1,
        root=checkpoint.root,
        keys=tuple(map(str, signers)),
        compared=compared,
        compared_to=checkpoint.size if compared else 0,
        passed_over=passed_over,
        first_at=wrapped.logged_at,
        last_at=wrapped.logged_at,
        event=orjson.loads(wrapped.body),
    )
