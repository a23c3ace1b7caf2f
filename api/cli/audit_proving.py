"""audit prove: one entry with all that proves it, to be handed to whoever asks."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from api.cli.writing import written
from registry.actors import SYSTEM
from registry.audit import exporting, proving, reading
from registry.audit.archived import archive_of
from registry.audit.exporting import NotSigned
from registry.errors import NotFound
from registry.settings import Settings
from registry.system import System

LARGEST = 2**63 - 1  # that the database can count to


class NoSuchEntry(NotFound):
    """The log has none of this number."""


def prove(
    index: Annotated[int, typer.Argument(min=0, max=LARGEST, help="The number of the entry.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - for standard output.")],
) -> None:
    """Write one entry and the proof that it is in the log, as a C2SP tlog-proof; 'audit verify' checks it."""

    async def act(settings: Settings) -> str | None:
        async with system_of(settings) as system:
            with written(output) as write:
                text, archived = await _proof(system, index)
                write(text.encode())
            return archived

    if archived := run(act):
        typer.echo(f"{archived} {_how_to_verify(index, output)}", err=True)


async def _proof(system: System, index: int) -> tuple[str, str | None]:
    """Of an entry that is in an archive, without its bytes, and with a sentence that says so. That it was read is
    recorded, or it is not shown. Raises `NoSuchEntry`, `NotSigned`."""
    foundation = system.foundation
    await foundation.ledger.catch_up()
    await exporting.publish(foundation, system.sequencer)
    async with foundation.view(SYSTEM, foundation.here) as work:
        work.attempt("audit.read", "audit log")
        row = await reading.row_of(work, index)
        archived = None if row else await archive_of(work, index)
        if row is None and archived is None:
            raise NoSuchEntry(f"The log has {(await reading.tree(work)).size} entries, none of them number {index}.")
        text = (await proving.inclusion(work.fetch, index)).text(row and row["entry"])
        event = work.record(changes={"index": index})
    if text is None:
        raise NotSigned(f"No checkpoint covers entry {index} yet, and none can be signed now. See 'audit checkpoint'.")
    await foundation.ledger.append(event)
    return text, archived


def _how_to_verify(index: int, output: Path) -> str:
    proof = "PROOF" if str(output) == "-" else output
    return (
        f'The proof is made all the same, without its bytes: cut the line with "seq":{index}, out of that file, and '
        f"check both with 'tidewaiter audit verify {proof} --entry LINE'."
    )
