"""audit export and checkpoint: what leaves the house, for others to check."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from api.cli.writing import Write, written
from registry.actors import SYSTEM, Origin
from registry.audit import exporting
from registry.audit.exporting import Format, NotSigned, Shortfall, Wish
from registry.audit.verdicts import INCOMPLETE
from registry.settings import Settings
from registry.system import System
from registry.wording import counted


def moment(text: str) -> datetime:
    """Of RFC 3339, as the log itself writes times, or a part of it: a day, or a time without its zone, which is UTC."""
    try:
        found = datetime.fromisoformat(text.strip().upper())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"'{text}' is no time: write it as 2026-01-31T23:59:59Z or 2026-01-31") from None


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
            with written(output) as write:
                return await _write(lines, write)

    count = run(act)
    told = counted(count - 1, "entry and its", "entries and their")
    typer.echo(f"{told} checkpoint were written to {output}.", err=True)
    for sentence in filter(None, (short.archived, short.unsigned)):
        typer.echo(f"tidewaiter: {sentence}", err=True)
    if short.unsigned:
        raise typer.Exit(INCOMPLETE)


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


async def _write(lines: AsyncGenerator[bytes, None], write: Write) -> int:
    """When it cannot be written, the snapshot is let go of, or the database would be waited for."""
    count = 0
    async with aclosing(lines):
        async for line in lines:
            write(line)
            count += 1
    return count
