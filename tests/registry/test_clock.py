from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.clock import FileClock, SystemClock


def test_the_system_clock_tells_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC)


def test_a_file_moves_the_clock_at_once(tmp_path: Path) -> None:
    clock = FileClock(tmp_path / "offset")
    for written, offset in [("86400\n", 86400.0), ("-60.5", -60.5), ("  ", 0.0)]:
        (tmp_path / "offset").write_text(written)
        before = datetime.now(UTC)
        now = clock.now()
        assert before <= now - timedelta(seconds=offset) <= datetime.now(UTC)


def test_a_missing_file_is_no_offset(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    assert before <= FileClock(tmp_path / "nothing").now() <= datetime.now(UTC)


def test_words_are_no_offset(tmp_path: Path) -> None:
    (tmp_path / "offset").write_text("soon")
    with pytest.raises(ValueError, match="soon"):
        FileClock(tmp_path / "offset").now()
