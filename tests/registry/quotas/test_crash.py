"""Killed at random, the quotas stay exact at every instant. The long form is `python -m benchmarks.quota_crashing`."""

from pathlib import Path

from benchmarks.quota_crashing import crash_run


async def test_nothing_leaks_and_nothing_passes_a_limit_when_everything_is_killed(short_path: Path) -> None:
    report = await crash_run(short_path, seconds=6, workers=2, seed=31)
    assert report.sound, report
    assert report.workers_killed + report.databases_killed >= 2
    assert report.snapshots > 20
    assert report.refused > 0
    assert report.acknowledged > 10
