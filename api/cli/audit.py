"""audit: the log, for the operator of the machine."""

from typing import Annotated

import orjson
import typer
from sqlmodel import col, select

from api.cli.running import run, system_of
from registry.actors import SYSTEM, Origin
from registry.audit.tables import AuditRow
from registry.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The audit log, for the operator of this machine.")


@app.command("list")
def list_entries(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the newest entries."""

    async def act(settings: Settings) -> list[dict[str, object]]:
        columns = AuditRow.__table__.columns  # type: ignore[attr-defined]
        newest = select(*columns).order_by(col(AuditRow.recorded_at).desc(), col(AuditRow.id).desc()).limit(number)
        async with system_of(settings) as system, system.foundation.view(SYSTEM, Origin()) as work:
            return [dict(row) for row in await work.fetch(newest)]

    for entry in run(act):
        if as_json:
            typer.echo(orjson.dumps(entry, default=str).decode())
        else:
            typer.echo(
                f"{entry['recorded_at']:%Y-%m-%d %H:%M:%S} {entry['outcome']:8} {entry['action']:32} "
                f"{entry['actor_name']:24} {entry['target']}  {entry['reason'] or ''}"
            )
