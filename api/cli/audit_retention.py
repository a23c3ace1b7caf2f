"""audit archive, drop, hold and segments: what leaves the database, and what must not."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.audit import months, retaining
from registry.audit.months import Month
from registry.audit.reasons import stated
from registry.settings import Settings

MonthOption = Annotated[str, typer.Option("--month", help="The month, as 2026-01.")]
Reason = Annotated[str | None, typer.Option(help="Why; stands in the audit log.")]


def archive(
    month: MonthOption,
    to: Annotated[Path, typer.Option("--to", help="The folder for the file.")],
) -> None:
    """Write a month that is over to a file, read it back and verify it. The month stays in the database."""

    async def act(settings: Settings) -> Path:
        async with system_of(settings) as system:
            return await retaining.archive(system.foundation, system.sequencer, Month.parse(month), to.absolute())

    typer.echo(f"{run(act)} is written and verified; check it anywhere with 'tidewaiter audit verify'.")


def drop(month: MonthOption, reason: Reason = None) -> None:
    """Take an archived and verified month out of the database. Its tiles stay, so proofs of it still hold."""

    async def act(settings: Settings) -> None:
        why = stated(reason)
        async with system_of(settings) as system:
            await retaining.drop(system.foundation, system.sequencer, Month.parse(month), why)

    run(act)
    typer.echo(f"{month} is not in the database any more.")


def hold(
    month: MonthOption,
    on: Annotated[bool, typer.Option("--on/--off", help="Put it under the hold, or end that.")] = True,
    reason: Reason = None,
) -> None:
    """Put a month under a legal hold: it does not leave the database until that ends."""

    async def act(settings: Settings) -> None:
        why = stated(reason)
        async with system_of(settings) as system:
            await retaining.hold(system.foundation, system.sequencer, Month.parse(month), on=on, reason=why)

    run(act)
    typer.echo(f"{month} is under a legal hold." if on else f"{month} is under no legal hold any more.")


def segments(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """Show which months are archived, dropped or held."""

    async def act(settings: Settings) -> list[dict[str, Any]]:
        async with system_of(settings) as system:
            return await months.segments(system.foundation)

    for row in run(act):
        typer.echo(orjson.dumps(row).decode() if as_json else _line(row))


def _line(row: dict[str, Any]) -> str:
    held = ", under a legal hold" if row["legal_hold"] else ""
    numbers = "" if row["first_seq"] is None else f"  entries {row['first_seq']} to {row['last_seq']}"
    return f"{row['month']:%Y-%m}  {_state(row)}{held}{numbers}  {row['archive'] or ''}"


def _state(row: dict[str, Any]) -> str:
    if row["dropped_at"]:
        return "dropped"
    if not row["entries"]:
        return "no entries" if row["over"] else "no entries yet"
    return "archived" if row["verified_at"] else "in the database"
