"""Trends of the last days: what they follow, what they do not, and when a limit is near."""

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies import forecasting
from policies.forecasting import FARTHEST_DAYS, MOST_DAYS, forecast, full_in, trend

bytes_ = st.integers(0, 2**50)
days = st.lists(bytes_, min_size=3, max_size=60)


@given(start=bytes_, step=st.integers(-(2**40), 2**40), count=st.integers(3, 60))
def test_what_grows_evenly_grows_by_its_step(start: int, step: int, count: int) -> None:
    assert trend([start + step * day for day in range(count)]) == step


@given(values=days, more=bytes_)
def test_how_high_a_level_stands_does_not_matter(values: list[int], more: int) -> None:
    found = trend(values)
    assert found is not None
    assert trend([value + more for value in values]) == pytest.approx(found, rel=1e-6, abs=1e-3)


@given(values=days, factor=st.integers(1, 1000))
def test_in_another_unit_it_is_as_steep(values: list[int], factor: int) -> None:
    found = trend(values)
    assert found is not None
    assert trend([value * factor for value in values]) == pytest.approx(found * factor, rel=1e-6, abs=1e-3)


@given(values=days)
def test_what_falls_when_read_backward_rises(values: list[int]) -> None:
    recent = values[-MOST_DAYS:]
    found = trend(recent)
    assert found is not None
    assert trend(recent[::-1]) == pytest.approx(-found, rel=1e-6, abs=1e-3)


@given(values=days)
def test_it_is_between_the_least_and_the_most_that_a_day_added(values: list[int]) -> None:
    recent = values[-MOST_DAYS:]
    steps = [later - earlier for earlier, later in pairwise(recent)]
    found = trend(values)
    assert found is not None
    assert min(steps) - 1e-3 <= found <= max(steps) + 1e-3


@given(step=st.integers(1, 2**30), count=st.integers(10, 30), at=st.integers(0, 29), wild=bytes_)
def test_one_wild_day_does_not_turn_it(step: int, count: int, at: int, wild: int) -> None:
    values = [step * day for day in range(count)]
    values[at % count] = wild
    assert trend(values) == step


@given(old=st.lists(bytes_, max_size=30), recent=st.lists(bytes_, min_size=MOST_DAYS, max_size=MOST_DAYS))
def test_what_is_older_does_not_count(old: list[int], recent: list[int]) -> None:
    assert trend(old + recent) == trend(recent)


@given(values=st.lists(bytes_, max_size=2), room=st.integers(1, 2**50))
def test_two_days_are_no_trend(values: list[int], room: int) -> None:
    assert forecast(values, room) == forecasting.Forecast(None, None)


def test_a_single_large_push_is_no_trend() -> None:
    assert trend([0] * 10 + [10**12] * 5) == 0


@given(a_day=st.floats(0.001, 1e12), room=st.integers(1, 2**50))
def test_it_is_full_when_the_room_is_used_up_and_not_a_day_sooner(a_day: float, room: int) -> None:
    found = full_in(a_day, room)
    assume(found is not None)
    assert found is not None
    assert 1 <= found <= FARTHEST_DAYS + 1
    assert (found - 1) * a_day < room * (1 + 1e-9)
    assert found * a_day >= room * (1 - 1e-9)


@given(a_day=st.none() | st.floats(-1e12, 1e12), room=st.integers(-(2**50), 0))
def test_what_is_full_is_full_now(a_day: float | None, room: int) -> None:
    assert full_in(a_day, room) == 0


@pytest.mark.parametrize(
    ("a_day", "room", "within", "days"),
    [
        (None, 100, FARTHEST_DAYS, None),
        (0.0, 100, FARTHEST_DAYS, None),
        (-5.0, 100, FARTHEST_DAYS, None),
        (5.0, None, FARTHEST_DAYS, None),
        (5.0, 100, FARTHEST_DAYS, 20),
        (5.0, 101, FARTHEST_DAYS, 21),
        (5.0, 101, 20, None),
        (1.0, FARTHEST_DAYS, FARTHEST_DAYS, FARTHEST_DAYS),
        (1.0, FARTHEST_DAYS + 1, FARTHEST_DAYS, None),
    ],
)
def test_in_how_many_days(a_day: float | None, room: int | None, within: int, days: int | None) -> None:
    assert full_in(a_day, room, within) == days
