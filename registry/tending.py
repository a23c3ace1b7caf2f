"""What a server does by itself from time to time; any server may do it at any time, beside any others.

What takes long, as a recount, keeps nothing else waiting, and what fails is told in the log, keeps nothing else from
being done, and is tried again.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import structlog

from registry.audit import months, retaining, scrubbing
from registry.audit.verdicts import SOUND
from registry.quotas import reserving, rolling, sampling, telling
from registry.repositories import expiring, sweeping
from registry.system import System
from registry.work import Foundation

EVERY_SECONDS = 60
log = structlog.get_logger("tending")


async def tend(system: System) -> None:
    """Until cancelled."""
    foundation = system.foundation
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_again, tidy, foundation)
        tasks.start_soon(_again, system.meter.tend, foundation)
        tasks.start_soon(_again, system.recount.tend, foundation)
        tasks.start_soon(_again, rolling.roll, foundation)
        tasks.start_soon(_again, keep_log, system)


async def tidy(foundation: Foundation) -> None:
    """Ends what was abandoned, takes off what was given back, writes down what is used, and prepares the audit log's
    coming months. Raises an ExceptionGroup of what failed, after all has been tried."""
    failed = []
    for duty in (
        expiring.end_abandoned,
        sweeping.sweep,
        reserving.apply_refunds,
        telling.tell_late,
        sampling.sample,
        months.prepare,
    ):
        try:
            await duty(foundation)
        except Exception as error:
            failed.append(error)
    if failed:
        raise ExceptionGroup("not all could be tidied", failed)


async def keep_log(system: System) -> None:
    """What the audit log needs once a day."""
    foundation, settings = system.foundation, system.foundation.settings
    verdict = await scrubbing.nightly(foundation, system.sequencer)
    if verdict is not None and verdict.status == SOUND and settings.audit_archive is not None:
        keep = settings.audit_retention_months
        await retaining.retain(foundation, system.sequencer, settings.audit_archive, keep)


async def _again(duty: Callable[[Any], Awaitable[None]], of: Foundation | System) -> None:
    while True:
        try:
            await duty(of)
        except Exception:
            log.exception("tending failed")
        await anyio.sleep(EVERY_SECONDS)
