"""audit prove: one entry with all that proves it, to be handed to whoever asks."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.actors import SYSTEM
from registry.audit import exporting, proving, reading
from registry.audit.archived import check_at_the_machine
from registry.audit.exporting import NotSigned
from registry.errors import NotFound
from registry.settings import Settings
from registry.system import System


class NoSuchEntry(NotFound):
    """The log has none of this number."""


def prove(
    index: Annotated[int, typer.Argument(min=0, help="The number of the entry.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - for standard output.")],
) -> None:
    """Write one entry and the proof that it is in the log, as a C2SP tlog-proof; 'audit verify' checks it."""

    async def act(settings: Settings) -> str:
        async with system_of(settings) as system:
            return await _proof(system, index)

    text = run(act)
    if str(output) == "-":
        sys.stdout.write(text)
    else:
        output.touch(mode=0o600)
        output.write_text(text)


async def _proof(system: System, index: int) -> str:
    """That it was read is recorded, or it is not shown. Raises `NoSuchEntry`, `EntryArchived`, `NotSigned`."""
    foundation = system.foundation
    await foundation.ledger.catch_up()
    await exporting.publish(foundation, system.sequencer)
    async with foundation.view(SYSTEM, foundation.here) as work:
        work.attempt("audit.read", "audit log")
        row = await reading.row_of(work, index)
        if row is None:
            await check_at_the_machine(work, index)
            raise NoSuchEntry(f"The log has {(await reading.tree(work)).size} entries, none of them number {index}.")
        text = (await proving.inclusion(work.fetch, index)).text(row["entry"])
        event = work.record(changes={"index": index})
    if text is None:
        raise NotSigned(f"No checkpoint covers entry {index} yet, and none can be signed now. See 'audit checkpoint'.")
    await foundation.ledger.append(event)
    return text
