"""audit export, verify, checkpoint and key: what leaves the house, and how anybody checks it.

`verify FILE` needs no settings, no database and no server: it is what an auditor runs elsewhere. It exits with 0 when
all is sound, with 1 when something was tampered with, and with 2 when what was given is not enough to tell.
"""

import gzip
import os
import sys
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import asyncpg
import orjson
import typer

from api.cli.audit import app
from api.cli.opening import system_of
from api.cli.running import first, run
from registry.actors import SYSTEM, Origin
from registry.audit import exporting, scrubbing, verifying
from registry.audit.anchors import AnchorFailed
from registry.audit.exporting import Format, NotSigned, Shortfall, Wish
from registry.audit.verifying import INCOMPLETE, SOUND, TAMPERED, Incomplete, Verdict
from registry.settings import Settings
from registry.system import System
from registry.transparency.notes import KeyInvalid, VerifierKey

STATUS = {SOUND: "sound", TAMPERED: "TAMPERED WITH", INCOMPLETE: "incomplete"}


def moment(text: str) -> datetime:
    """Of RFC 3339, as the log itself writes times, or a part of it: a day, or a time without its zone, which is UTC."""
    try:
        found = datetime.fromisoformat(text.strip().upper())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"'{text}' is no time: write it as 2026-01-31T23:59:59Z or 2026-01-31") from None


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - for standard output.")],
    format: Annotated[Format, typer.Option(help="jsonl loses nothing; ocsf and cloudevents are for SIEMs.")] = (
        Format.JSONL
    ),
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="Entries from this time on (RFC 3339); UTC without a zone."),
    ] = None,
    personal: Annotated[
        bool, typer.Option("--personal", help="Open what tells of persons, such as addresses, in jsonl too.")
    ] = False,
) -> None:
    """Write the log to a file, oldest first, with the checkpoint it was made under as the last line. Exit 0: whole, 1:
    nothing was written, 2: written, but what could not be signed is left out."""
    wish, short = Wish(format, since, personal=personal), Shortfall()

    async def act(settings: Settings) -> int:
        async with system_of(settings) as system:
            lines = exporting.export(system.foundation, system.sequencer, wish, short)
            with _written(output) as file:
                return await _write(lines, file)

    count = run(act)
    typer.echo(f"{count - 1} entries and their checkpoint were written to {output}.", err=True)
    for sentence in filter(None, (short.archived, short.unsigned)):
        typer.echo(f"tidewaiter: {sentence}", err=True)
    if short.unsigned:
        raise typer.Exit(INCOMPLETE)


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="An export in the format jsonl.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="The log's verifier key, or a file of such; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Signed checkpoints that were kept elsewhere; may be repeated."),
    ] = None,
    database: Annotated[bool, typer.Option("--database", help="Verify the log in the database instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as one JSON object.")] = False,
) -> None:
    """Check that nothing was edited, removed, reordered or cut off. Exit 0: sound, 1: tampered with, 2: incomplete."""
    if database == (file is not None):
        raise typer.BadParameter("give an export or --database, one of them")
    if file is not None and not key:
        raise typer.BadParameter("give the log's verifier key with --key; the operator has it from 'audit key'")
    verdict = _of_database(checkpoint or []) if file is None else _of_file(file, key or [], checkpoint or [])
    typer.echo(_as_json(verdict) if as_json else _told(verdict, file))
    raise typer.Exit(verdict.status)


@app.command()
def checkpoint() -> None:
    """Print the newest signed checkpoint, after signing what is new. Says so if that cannot be signed now."""

    async def act(settings: Settings) -> tuple[str, str | None]:
        async with system_of(settings) as system:
            acknowledged = await exporting.publish(system.foundation, system.sequencer)
            return await newest_note(system, acknowledged)

    note, sentence = run(act)
    typer.echo(note, nl=False)
    if sentence:
        typer.echo(f"tidewaiter: This is an older checkpoint. {sentence}", err=True)


async def newest_note(system: System, acknowledged: int) -> tuple[str, str | None]:
    """With a sentence if it does not cover so many entries. Raises `NotSigned`."""
    standing = system.sequencer.publisher.standing
    async with system.foundation.glance(SYSTEM, Origin()) as work:
        row = await work.fetchrow(exporting.NEWEST, system.sequencer.publisher.origin)
        if standing.fork or row is None:
            raise NotSigned(f"There is no valid checkpoint. {standing.fork or standing.failure or 'Try again.'}")
        return str(row["note"]), await exporting.left_out(work, system.sequencer, row["size"], acknowledged)


def _of_file(file: Path, keys: list[str], checkpoints: list[Path]) -> Verdict:
    try:
        known = [one for text in keys for one in read_keys(text)]
        outside = _outside(checkpoints, {one.name for one in known})
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as given:
            return verifying.verify(verifying.lines_of(given.read), known, outside)
    except (KeyInvalid, Incomplete) as error:
        return Verdict(INCOMPLETE, str(error))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        return Verdict(INCOMPLETE, f"What was given cannot be read: {error}")
    except MemoryError:
        return Verdict(INCOMPLETE, "What was given cannot be read: it needs more memory than there is.")


def _of_database(checkpoints: list[Path]) -> Verdict:
    """Nothing but a finding ends with 1. What only this command cannot do, it says as others do."""

    async def act(settings: Settings) -> Verdict:
        try:
            async with system_of(settings) as system:
                return await _scrubbed(system, checkpoints)
        except* (Incomplete, AnchorFailed) as errors:
            unable = str(first(errors))
        except* (asyncpg.PostgresError, asyncpg.InterfaceError) as errors:
            unable = f"The database cannot be read: {first(errors)}"
        return Verdict(INCOMPLETE, unable)

    return run(act, unable=INCOMPLETE)


async def _scrubbed(system: System, checkpoints: list[Path]) -> Verdict:
    publisher = system.sequencer.publisher
    outside = _outside(checkpoints, {publisher.origin})
    await system.foundation.ledger.catch_up()
    return await scrubbing.scrub_database(system.foundation, publisher, outside)


def _outside(checkpoints: list[Path], names: set[str]) -> list[str]:
    """The notes of the logs so named in these files. Raises `Incomplete`, naming the file, if it has none of them."""
    found: list[str] = []
    for path in checkpoints:
        try:
            found += verifying.notes_of(path.read_text(), names)
        except (Incomplete, OSError, UnicodeDecodeError) as error:
            raise Incomplete(f"The checkpoint {path} cannot be compared. {error}") from error
    return found


def read_keys(text: str) -> list[VerifierKey]:
    """Of the text of a key, or of a file with one a line. Raises `KeyInvalid`, OSError."""
    path = Path(text)
    lines = [text] if "+" in text and not path.is_file() else path.read_text().splitlines()
    return [VerifierKey.parse(line) for line in lines if line.strip()]


async def _write(lines: AsyncIterator[bytes], file: BinaryIO) -> int:
    count = 0
    async for line in lines:
        file.write(line)
        count += 1
    return count


@contextmanager
def _written(output: Path) -> Iterator[BinaryIO]:
    """The file appears when it is whole; nobody else may read it, since it says who did what."""
    if str(output) == "-":
        yield sys.stdout.buffer
        return
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(output)
    finally:
        fresh.unlink(missing_ok=True)


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
    if not verdict.compared:
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
