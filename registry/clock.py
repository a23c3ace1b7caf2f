"""What time it is. All that stores, compares or shows a moment asks one clock, which a test can move."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, always aware and in UTC. Must not go backwards by itself."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class FileClock:
    """The system's time plus the seconds in a file, read anew each time: how a test moves a running server.

    A missing or empty file means no offset. Raises ValueError for anything that is not a number.
    """

    path: Path

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._offset_seconds())

    def _offset_seconds(self) -> float:
        try:
            return float(self.path.read_text().strip() or 0)
        except FileNotFoundError:
            return 0.0
