"""audit verify --database: the log where it lies, for the operator of the machine."""

from pathlib import Path

import asyncpg

from api.cli.audit_given import kept_elsewhere
from api.cli.opening import system_of
from api.cli.running import first, run
from registry.audit import scrubbing
from registry.audit.anchors import AnchorFailed
from registry.audit.verdicts import INCOMPLETE, Incomplete, Verdict
from registry.settings import Settings
from registry.system import System


def of_database(checkpoints: list[Path]) -> Verdict:
    """Nothing but a finding ends with 1. What only this command cannot do, it says as others do."""

    async def act(settings: Settings) -> Verdict:
        try:
            async with system_of(settings) as system:
                return await _scrubbed(system, checkpoints)
        except* (Incomplete, AnchorFailed) as errors:
            unable = str(first(errors))
        except* (asyncpg.PostgresError, asyncpg.InterfaceError) as errors:
            unable = f"The database cannot be read: {first(errors)}"
        return Verdict(INCOMPLETE, unable, untried=True)

    return run(act, unable=INCOMPLETE)


async def _scrubbed(system: System, checkpoints: list[Path]) -> Verdict:
    known = kept_elsewhere(checkpoints, system.sequencer.publisher.verifiers)
    await system.foundation.ledger.catch_up()
    return await scrubbing.verify_database(system.foundation, system.sequencer, known)
