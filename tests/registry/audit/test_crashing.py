"""Killed at random, the log loses nothing, and says nothing twice. The long form is `python -m benchmarks.crashing`."""

from pathlib import Path

from benchmarks.crashing import crash_run


async def test_nothing_acknowledged_is_lost_doubled_or_out_of_order_when_everything_is_killed(short_path: Path) -> None:
    report = await crash_run(short_path, seconds=6, workers=2, seed=3)
    assert report.sound, report
    assert report.workers_killed + report.databases_killed >= 3
    assert report.acknowledged > 100
    assert report.checkpoints > 1
