"""The clock of a registry in this process, set to any moment."""

from datetime import UTC, datetime

from registry.system import System


def set_clock(system: System, at: datetime) -> None:
    clock = system.foundation.settings.clock_file
    assert clock is not None
    fresh = clock.with_suffix(".new")
    fresh.write_text(str((at - datetime.now(UTC)).total_seconds()))
    fresh.rename(clock)
