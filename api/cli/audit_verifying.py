"""audit verify: how anybody checks the log, with an export of it and its verifier key.

It needs no settings, no database and no server, and loads nothing of them unless `--database` asks for it: it is what
an auditor runs elsewhere. It exits with 0 when all is sound, with 1 when something was tampered with, and with 2 when
what was given is not enough to tell.
"""

import gzip
import zlib
from base64 import b64decode, b64encode
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from registry.audit import kept, proven, taking, verifying
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Incomplete, Verdict
from registry.transparency import proofs
from registry.transparency.notes import KeyInvalid, VerifierKey

PROOF = proofs.FIRST_LINE.encode()
STATUS = {SOUND: "sound", TAMPERED: "TAMPERED WITH", INCOMPLETE: "incomplete"}


def verify(
    file: Annotated[Path | None, typer.Argument(help="An export in the format jsonl, or a proof of one entry.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="The log's verifier key, or a file of such; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Signed checkpoints that were kept elsewhere; may be repeated."),
    ] = None,
    entry: Annotated[
        Path | None, typer.Option("--entry", help="The bytes of the entry, or their base64, if the proof has them not.")
    ] = None,
    database: Annotated[bool, typer.Option("--database", help="Verify the log in the database instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as one JSON object.")] = False,
) -> None:
    """Check that nothing was edited, removed, reordered or cut off. Exit 0: sound, 1: tampered with, 2: incomplete."""
    if database == (file is not None):
        raise typer.BadParameter("give a file or --database, one of them")
    if file is not None and not key:
        raise typer.BadParameter("give the log's verifier key with --key; the operator has it from 'audit key'")
    verdict = _of_database(checkpoint or []) if file is None else _of_file(file, key or [], checkpoint or [], entry)
    typer.echo(_as_json(verdict) if as_json else _told(verdict, file))
    raise typer.Exit(verdict.status)


def _of_database(checkpoints: list[Path]) -> Verdict:
    """Loaded here, since who verifies a file needs nothing of it."""
    from api.cli.audit_scrubbing import of_database

    return of_database(checkpoints)


def _of_file(file: Path, keys: list[str], checkpoints: list[Path], entry: Path | None) -> Verdict:
    try:
        known = [one for text in keys for one in read_keys(text)]
        outside = kept_elsewhere(checkpoints, {one.name for one in known})
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as given:
            if given.peek(len(PROOF)).startswith(PROOF):
                text = given.read(taking.LONGEST_LINE).decode()
                return proven.verify_entry(text, known, outside, None if entry is None else _bytes_of(entry))
            return verifying.verify(taking.lines_of(given.read), known, outside)
    except (KeyInvalid, Incomplete) as error:
        return Verdict(INCOMPLETE, str(error))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        return Verdict(INCOMPLETE, f"What was given cannot be read: {error}")
    except MemoryError:
        return Verdict(INCOMPLETE, "What was given cannot be read: it needs more memory than there is.")


def _bytes_of(entry: Path) -> bytes:
    """Raises OSError, and `Incomplete` for what is neither an entry nor the base64 of one."""
    data = entry.read_bytes()
    try:
        return data if data.startswith(b"{") else b64decode(data.strip(), validate=True)
    except ValueError as error:
        raise Incomplete(f"{entry} holds no entry: give its bytes as they were hashed, or their base64.") from error


def kept_elsewhere(checkpoints: list[Path], names: set[str]) -> list[str]:
    """The notes of the logs so named in these files. Raises `Incomplete`, naming the file, if it has none of them."""
    found: list[str] = []
    for path in checkpoints:
        try:
            found += kept.notes_of(path.read_text(), names)
        except (Incomplete, OSError, UnicodeDecodeError) as error:
            raise Incomplete(f"The checkpoint {path} cannot be compared. {error}") from error
    return found


def read_keys(text: str) -> list[VerifierKey]:
    """Of the text of a key, or of a file with one a line. Raises `KeyInvalid`, OSError."""
    path = Path(text)
    lines = [text] if "+" in text and not path.is_file() else path.read_text().splitlines()
    return [VerifierKey.parse(line) for line in lines if line.strip()]


def _told(verdict: Verdict, file: Path | None) -> str:
    what = "The log in the database" if file is None else str(file)
    if verdict.wrong_key:
        return (
            f"{what} is signed by none of the keys given. Look first whether the key is this log's, and not that of "
            f"another or an earlier one. If it is the right key, {what} is {STATUS[verdict.status]}. {verdict.sentence}"
        )
    if verdict.status != SOUND:
        return f"{what} is {STATUS[verdict.status]}. {verdict.sentence}"
    times = f"{verdict.first_at or '…'} to {verdict.last_at}" if verdict.last_at else "none"
    lines = [
        f"{what} is sound.",
        f"  Log          {verdict.origin}",
        f"  Entries      {verdict.entries}{_numbers(verdict)}",
        f"  Times        {times}",
        f"  Root         {b64encode(verdict.root).decode()}",
        *(f"  Signed by    {key}" for key in verdict.keys),
        f"  Compared     with {verdict.compared} checkpoints kept elsewhere",
    ]
    if verdict.event is not None:
        lines.append(f"  Event        {orjson.dumps(verdict.event).decode()}")
    elif not verdict.compared:
        lines.append("  Not proven   that the end was not cut off: give --checkpoint with one that was kept elsewhere")
    return "\n".join(lines)


def _numbers(verdict: Verdict) -> str:
    """Where months were dropped from the midst, there are several spans."""
    if not verdict.entries:
        return f" of {verdict.size}"
    spans = verdict.spans or ((verdict.since, verdict.since + verdict.entries - 1),)
    return f", numbered {' and '.join(f'{begin} to {end}' for begin, end in spans)}, of {verdict.size}"


def _as_json(verdict: Verdict) -> str:
    told = asdict(verdict) | {"root": b64encode(verdict.root).decode(), "verdict": STATUS[verdict.status].lower()}
    return orjson.dumps(told).decode()
