"""quota check: holds every counter against what is there, and repairs those that differ."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.actors import SYSTEM
from registry.quotas import recounting
from registry.quotas.recounting import Difference
from registry.settings import Settings
from registry.wording import one_line

EQUAL, DIFFERENT, UNABLE = 0, 1, 2


def check(
    fix: Annotated[bool, typer.Option("--fix", help="Make each counter say what is there, and record it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count anew what every quota counter should say. Exit 0: equal, or repaired, 1: different, 2: cannot be told."""

    async def act(settings: Settings) -> list[Difference]:
        async with system_of(settings) as system:
            if fix:
                async with system.foundation.begin(SYSTEM, system.foundation.here) as work:
                    return await recounting.repair(work)
            async with system.foundation.view(SYSTEM, system.foundation.here) as work:
                return await recounting.check(work)

    found = run(act, unable=UNABLE)
    typer.echo(_as_json(found, fix) if as_json else _told(found, fix))
    raise typer.Exit(DIFFERENT if found and not fix else EQUAL)


def _as_json(found: list[Difference], fixed: bool) -> str:
    keys = ("kind", "name", "key", "digest", "charged", "owed")
    lines = [{key: asdict(one)[key] for key in keys} for one in found]
    return orjson.dumps({"equal": not found, "repaired": fixed and bool(found), "differences": lines}).decode()


def _told(found: list[Difference], fixed: bool) -> str:
    if not found:
        return "Every counter says what is there."
    lines = [one_line(f"{one.target} {one.digest or ''}: {one.charged} instead of {one.owed}") for one in found]
    said = "repaired, and recorded as quota.repair" if fixed else "repair them with --fix"
    return "\n".join([*lines, f"{len(found)} {'differs' if len(found) == 1 else 'differ'}; {said}."])
