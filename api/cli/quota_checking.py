"""quota check: holds every counter against what is there, and repairs those that differ."""

from dataclasses import asdict
from typing import Annotated

import asyncpg
import orjson
import typer

from api.cli.opening import system_of
from api.cli.running import first, run
from registry.actors import SYSTEM
from registry.errors import Unable
from registry.quotas import recounting
from registry.quotas.recounting import Difference
from registry.settings import Settings
from registry.wording import one_line
from registry.work import Foundation

EQUAL, DIFFERENT, UNABLE = 0, 1, 2


class NotCounted(Unable):
    """Nothing is known of the counters; its text says why."""


def check(
    fix: Annotated[bool, typer.Option("--fix", help="Make each counter say what is there, and record it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count anew what every quota counter should say. Exit 0: equal, or repaired, 1: different, 2: cannot be told."""

    async def act(settings: Settings) -> list[Difference]:
        try:
            async with system_of(settings) as system:
                return await (_repaired if fix else _found)(system.foundation)
        except* (asyncpg.PostgresError, asyncpg.InterfaceError) as errors:
            raise NotCounted(f"The database cannot be read: {first(errors)}") from None

    found = run(act, unable=UNABLE)
    typer.echo(_as_json(found, fix) if as_json else _told(found, fix))
    raise typer.Exit(DIFFERENT if found and not fix else EQUAL)


async def _found(foundation: Foundation) -> list[Difference]:
    async with foundation.view(SYSTEM, foundation.here) as work:
        return await recounting.check(work)


async def _repaired(foundation: Foundation) -> list[Difference]:
    async with foundation.begin(SYSTEM, foundation.here) as work:
        return await recounting.repair(work)


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
