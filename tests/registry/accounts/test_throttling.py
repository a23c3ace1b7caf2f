"""Who guesses waits, who signs in rightly never does."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.accounts.throttling import PER_ADDRESS, PER_USER, REMEMBERED, WINDOW, Throttle, TooManySignIns

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def failing(throttle: Throttle, times: int, name: str = "ada", source: str = "192.0.2.1") -> Throttle:
    for _ in range(times):
        throttle.failed(name, source, START)
    return throttle


def refused(throttle: Throttle, name: str = "ada", source: str = "192.0.2.1", after: timedelta = SECOND) -> bool:
    try:
        throttle.check(name, source, START + after)
    except TooManySignIns:
        return True
    return False


def test_so_many_failures_of_a_user_at_an_address_are_enough() -> None:
    assert not refused(failing(Throttle(), PER_USER - 1))
    assert refused(failing(Throttle(), PER_USER))


def test_another_address_is_not_held_up() -> None:
    """Else anybody could lock a user out."""
    assert not refused(failing(Throttle(), PER_USER), source="192.0.2.2")


def test_another_user_at_the_address_is_not_held_up() -> None:
    assert not refused(failing(Throttle(), PER_USER), name="grace")


def test_guessing_many_names_holds_up_the_address() -> None:
    throttle = Throttle()
    for number in range(PER_ADDRESS):
        failing(throttle, 1, name=f"user-{number}")
    assert refused(throttle, name="grace")
    assert not refused(throttle, name="grace", source="192.0.2.2")


def test_who_sends_a_secret_without_a_name_is_held_up_with_the_address_alone() -> None:
    """Identity tokens of many users come under no name, or one name for all."""
    assert not refused(failing(Throttle(), PER_USER), name="")
    assert not refused(failing(Throttle(), PER_USER, name=""), name="")
    assert refused(failing(Throttle(), PER_ADDRESS), name="")


def test_the_wait_is_told_and_is_enough() -> None:
    throttle = failing(Throttle(), PER_USER)
    with pytest.raises(TooManySignIns) as caught:
        throttle.check("ada", "192.0.2.1", START + SECOND)
    wait = caught.value.detail["retry_after"]
    assert str(wait) in caught.value.message
    assert refused(throttle, after=WINDOW - SECOND)
    assert not refused(throttle, after=SECOND + timedelta(seconds=wait))


def test_success_forgives_the_user_and_not_the_address() -> None:
    throttle = failing(Throttle(), PER_USER)
    throttle.succeeded("ada", "192.0.2.1")
    assert not refused(throttle)
    assert refused(failing(throttle, PER_ADDRESS - PER_USER, name="grace"), name="alan")


def test_success_without_a_name_forgives_nobody() -> None:
    """Else who holds one good secret could guess on and on."""
    throttle = failing(Throttle(), PER_ADDRESS, name="grace")
    throttle.succeeded("", "192.0.2.1")
    assert refused(throttle, name="alan")


def test_memory_is_bounded() -> None:
    throttle = Throttle()
    for number in range(REMEMBERED + 10):
        throttle.failed("ada", f"address {number}", START)
    assert len(throttle._failures) <= REMEMBERED


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 400)), max_size=60))
def test_nobody_fails_more_often_than_allowed_within_a_window(tries: list[tuple[str, str, int]]) -> None:
    """All tries fail here; those that were let through are counted by hand."""
    throttle = Throttle()
    let_through: list[tuple[str, str, datetime]] = []
    now = START
    for name, source, seconds in tries:
        now += timedelta(seconds=seconds)
        try:
            throttle.check(name, source, now)
        except TooManySignIns:
            continue
        throttle.failed(name, source, now)
        let_through.append((name, source, now))
        recent = [one for one in let_through if one[:2] == (name, source) and one[2] > now - WINDOW]
        assert len(recent) <= PER_USER
