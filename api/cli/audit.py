"""audit list: the newest entries, for the operator of the machine."""

from typing import Annotated

import orjson
import typer
from sqlmodel import col, select

from api.cli.opening import system_of
from api.cli.running import run
from registry.actors import SYSTEM
from registry.audit import reading
from registry.audit.showing import Shown, numbered, show
from registry.audit.tables import AuditRow
from registry.settings import Settings
from registry.wording import one_line


def list_entries(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the newest entries. That they were read is recorded, or they are not shown."""

    async def act(settings: Settings) -> list[Shown]:
        newest = select(*reading.LINE).order_by(col(AuditRow.logged_at).desc(), col(AuditRow.seq).desc()).limit(number)
        async with system_of(settings) as system:
            await system.foundation.ledger.catch_up()
            async with system.foundation.view(SYSTEM, system.foundation.here) as work:
                work.attempt("audit.read", "audit log")
                shown = await show(work, [numbered(row) for row in await work.fetch(newest)])
                event = work.record(changes={"number": [None, number]})
            await system.foundation.ledger.append(event)
            return shown

    for entry in run(act):
        typer.echo(orjson.dumps(_plain(entry), option=orjson.OPT_UTC_Z).decode() if as_json else _line(entry))


def _plain(entry: Shown) -> dict[str, object]:
    user, via = entry.of("actor", "id"), entry.of("actor", "via")
    return {
        "index": entry.line.index,
        "time": entry.time,
        "action": entry.event["action"],
        "outcome": entry.event["outcome"].upper(),
        "reasonCode": entry.of("reason", "code"),
        "reason": entry.reason or "",
        "actor": entry.actor_name,
        "actorKind": entry.event["actor"]["kind"].upper(),
        "actorId": user and f"user_{user}",
        "via": via and via.upper(),
        "target": entry.target,
        "digest": entry.of("target", "digest"),
        "source": entry.private.get("source"),
        "client": entry.private.get("agent"),
        "changes": entry.changes,
        "requestId": entry.of("request", "id"),
    }


def _line(entry: Shown) -> str:
    told = _plain(entry)
    return one_line(
        f"{told['index']:>8} {told['time']:%Y-%m-%dT%H:%M:%SZ} {told['outcome']:8} {told['action']:32} "
        f"{_actor(entry):24} {told['target']}  {told['reason']}"
    )


def _actor(entry: Shown) -> str:
    """Whoever was only tried, when signing in, is not who did it."""
    actor = entry.event["actor"]
    if actor["kind"] != "anonymous":
        return entry.actor_name
    return f'(anonymous, as "{entry.actor_name}")' if actor.get("tag") else "(anonymous)"
