"""Hours and days of an answer: none is missing, none is told twice, and nothing is told of what has not begun."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import history
from policies.history import LENGTHS, Interval, Point

HOUR, DAY = Interval.HOUR, Interval.DAY
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
lengths = st.timedeltas(timedelta(0), timedelta(days=40))
intervals = st.sampled_from(list(Interval))


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@given(start=moments, lasting=lengths, interval=intervals)
def test_points_touch_all_of_the_span_and_nothing_else(start: datetime, lasting: timedelta, interval: Interval) -> None:
    end = start + lasting
    found, length = history.times(start, end, interval), LENGTHS[interval]
    assert len(found) == history.count(start, end, interval)
    assert [later - earlier for earlier, later in pairwise(found)] == [length] * (len(found) - 1)
    if start == end:
        assert found == []
    else:
        assert found[0] <= start < found[0] + length
        assert found[-1] < end <= found[-1] + length


@pytest.mark.parametrize(
    ("start", "end", "interval", "points"),
    [
        ("2026-01-31T00:00", "2026-02-01T00:00", DAY, 1),
        ("2026-01-31T23:59", "2026-02-01T00:01", DAY, 2),
        ("2028-02-28T00:00", "2028-03-01T00:00", DAY, 2),
        ("2026-02-28T00:00", "2026-03-01T00:00", DAY, 1),
        ("2026-03-29T00:00", "2026-03-30T00:00", HOUR, 24),
        ("2026-01-01T10:00", "2026-01-01T11:00", HOUR, 1),
        ("2026-01-01T10:59", "2026-01-01T11:00", HOUR, 1),
        ("2026-01-01T10:00", "2026-01-01T10:00", HOUR, 0),
        ("2026-01-01T11:00", "2026-01-01T10:00", HOUR, 0),
    ],
)
def test_months_end_and_leap_days_come(start: str, end: str, interval: Interval, points: int) -> None:
    assert history.count(at(start), at(end), interval) == points


def test_days_are_those_of_utc_wherever_the_moment_was_told() -> None:
    there = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    assert history.floor(there, DAY) == at("2025-12-31T00:00")


def test_the_current_hour_is_the_last_that_is_told() -> None:
    now = at("2026-01-01T10:30")
    assert history.until_now(at("2027-01-01T00:00"), now, HOUR) == at("2026-01-01T11:00")
    assert history.until_now(at("2026-01-01T11:00"), at("2026-01-01T11:00"), HOUR) == at("2026-01-01T11:00")
    assert history.until_now(at("2026-01-01T09:30"), now, HOUR) == at("2026-01-01T09:30")


def mark(hour: int, value: int, peak: int | None = None) -> Point:
    return Point(at("2026-01-01T00:00") + timedelta(hours=hour), value, value if peak is None else peak)


def told(points: list[Point]) -> list[tuple[int, int]]:
    return [(point.value, point.peak) for point in points]


def test_a_level_stays_until_it_moves_and_is_zero_before() -> None:
    hours = history.times(at("2026-01-01T00:00"), at("2026-01-01T06:00"), HOUR)
    assert told(history.levels(hours, HOUR, [mark(2, 5, 9), mark(4, 3)])) == [
        (0, 0), (0, 0), (5, 9), (5, 5), (3, 3), (3, 3),
    ]  # fmt: skip


def test_a_level_begins_with_the_last_that_was_known_before() -> None:
    hours = history.times(at("2026-01-01T03:00"), at("2026-01-01T05:00"), HOUR)
    assert told(history.levels(hours, HOUR, [mark(0, 7), mark(2, 5, 9), mark(4, 6)])) == [(5, 5), (6, 6)]


def test_a_day_ends_as_its_last_hour_and_peaks_in_any() -> None:
    days = history.times(at("2026-01-01T00:00"), at("2026-01-03T00:00"), DAY)
    marks = [mark(3, 5, 20), mark(9, 8), mark(25, 2, 8)]
    assert told(history.levels(days, DAY, marks)) == [(8, 20), (2, 8)]


def test_a_flow_is_zero_where_nothing_flowed() -> None:
    days = history.times(at("2026-01-01T00:00"), at("2026-01-04T00:00"), DAY)
    assert told(history.flows(days, DAY, [mark(3, 5), mark(9, 8), mark(50, 2)])) == [(13, 8), (0, 0), (2, 2)]


@given(hours=st.lists(st.tuples(st.integers(0, 24 * 30), st.integers(0, 10**12)), max_size=50), interval=intervals)
def test_nothing_that_flowed_is_lost(hours: list[tuple[int, int]], interval: Interval) -> None:
    marks = sorted((mark(hour, value) for hour, value in hours), key=lambda each: each.time)
    everything = history.times(at("2026-01-01T00:00"), at("2026-02-01T00:00"), interval)
    points = history.flows(everything, interval, marks)
    assert sum(point.value for point in points) == sum(value for _, value in hours)
    assert all(point.peak <= point.value for point in points)


@given(hours=st.lists(st.tuples(st.integers(0, 24 * 30), st.integers(0, 10**12)), max_size=50), cut=st.integers(0, 700))
def test_a_level_is_told_the_same_wherever_the_question_begins(hours: list[tuple[int, int]], cut: int) -> None:
    marks = sorted((mark(hour, value) for hour, value in hours), key=lambda each: each.time)
    end = at("2026-02-01T00:00")
    whole = history.levels(history.times(at("2026-01-01T00:00"), end, HOUR), HOUR, marks)
    later = history.times(mark(cut, 0).time, end, HOUR)
    assert history.levels(later, HOUR, marks) == whole[cut:]
