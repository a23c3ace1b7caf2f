"""History in hours and days of UTC: which of them a question asks for, and what each says.

What is written down are marks: an hour in which a counter moved, or in which something left. A point is one hour or
day of the answer, and there is one for each, whether anything was written down for it or not.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Interval(StrEnum):
    HOUR = "HOUR"
    DAY = "DAY"


LENGTHS = {Interval.HOUR: timedelta(hours=1), Interval.DAY: timedelta(days=1)}
MOST_POINTS = 2000
HOURS_KEPT, DAYS_KEPT = timedelta(days=90), timedelta(days=5 * 365 + 2)


@dataclass(frozen=True, slots=True)
class Point:
    """Of a level: what it was at the end, and the most it was. Of a flow: how much, and the most in one hour."""

    time: datetime
    value: int
    peak: int


def floor(at: datetime, interval: Interval) -> datetime:
    """The beginning of the hour or day that a moment lies in."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if interval is Interval.HOUR else hour.replace(hour=0)


def hours_since(now: datetime) -> datetime:
    """The first hour that is still kept as one; of those before, only whole days are known."""
    return floor(now, Interval.DAY) - HOURS_KEPT


def days_since(now: datetime) -> datetime:
    """The first day that is still kept."""
    return floor(now, Interval.DAY) - DAYS_KEPT


def until_now(end: datetime, now: datetime, interval: Interval) -> datetime:
    """Nothing is told of hours and days that have not begun."""
    return min(end, floor(now, interval) + LENGTHS[interval])


def count(start: datetime, end: datetime, interval: Interval) -> int:
    """How many hours or days [start, end) touches."""
    if start >= end:
        return 0
    return -(-(end - floor(start, interval)) // LENGTHS[interval])


def times(start: datetime, end: datetime, interval: Interval) -> list[datetime]:
    """The beginning of each hour or day that [start, end) touches."""
    first = floor(start, interval)
    return [first + number * LENGTHS[interval] for number in range(count(start, end, interval))]


def levels(moments: Sequence[datetime], interval: Interval, marks: Sequence[Point]) -> list[Point]:
    """A level stays as it is until it is known to be another; before the first mark it is 0. Marks in order of time;
    those before the first moment say from where it starts."""
    before = [mark.value for mark in marks if moments and mark.time < moments[0]]
    value, within = before[-1] if before else 0, _within(marks, interval)
    points = []
    for moment in moments:
        here = within.get(moment, [])
        value = here[-1].value if here else value
        points.append(Point(moment, value, max([value, *(mark.peak for mark in here)])))
    return points


def flows(moments: Sequence[datetime], interval: Interval, marks: Sequence[Point]) -> list[Point]:
    """What flowed in each hour or day: nothing, where there is no mark."""
    within = _within(marks, interval)
    return [
        Point(moment, sum(mark.value for mark in here), max((mark.peak for mark in here), default=0))
        for moment in moments
        for here in [within.get(moment, [])]
    ]


def _within(marks: Iterable[Point], interval: Interval) -> Mapping[datetime, list[Point]]:
    found = defaultdict(list)
    for mark in marks:
        found[floor(mark.time, interval)].append(mark)
    return found
