"""Passwords are kept by argon2id, and a verified one is remembered no longer than it is right."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from registry.accounts.passwords import AT_ONCE, LONGEST, SHORTEST, Passwords, PasswordTooWeak, check, hash_of_nothing
from registry.errors import Unavailable

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords()


def nothing() -> None:
    pass


def never() -> None:
    raise AssertionError("no turn was needed")


async def test_what_is_kept_is_argon2id_and_new_each_time(passwords: Passwords) -> None:
    one, two = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert one.startswith("$argon2id$")
    assert one != two
    assert PASSWORD not in one


async def test_a_password_matches_its_own_hash_alone(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    assert await Passwords().matches(stored, PASSWORD, before=nothing)
    for wrong in (PASSWORD.upper(), f"{PASSWORD} ", "", f"{PASSWORD}\0"):
        assert not await passwords.matches(stored, wrong, before=nothing), wrong


async def test_a_verified_password_needs_no_second_turn(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    elsewhere = Passwords()
    assert await elsewhere.matches(stored, PASSWORD, before=nothing)
    assert await elsewhere.matches(stored, PASSWORD, before=never)


async def test_nor_does_one_that_was_just_set(passwords: Passwords) -> None:
    assert await passwords.matches(await passwords.hash(PASSWORD), PASSWORD, before=never)


async def test_a_changed_password_is_not_accepted_from_memory(passwords: Passwords) -> None:
    assert await passwords.matches(await passwords.hash(PASSWORD), PASSWORD, before=nothing)
    assert not await passwords.matches(await passwords.hash("another one entirely"), PASSWORD, before=nothing)


async def test_nobody_has_no_password_and_takes_a_turn_all_the_same(passwords: Passwords) -> None:
    turns: list[None] = []
    assert not await passwords.matches(None, PASSWORD, before=lambda: turns.append(None))
    assert len(turns) == 1


def test_what_stands_for_nobodys_password_costs_what_another_costs() -> None:
    hasher = PasswordHasher()
    one, two = hash_of_nothing(hasher), hash_of_nothing(hasher)
    assert one != two
    assert extract_parameters(one) == extract_parameters(hasher.hash(PASSWORD))
    with pytest.raises(VerifyMismatchError):  # it is compared, not turned away at once
        hasher.verify(one, PASSWORD)


async def test_a_hash_that_is_none_matches_nothing(passwords: Passwords) -> None:
    assert not await passwords.matches("", PASSWORD, before=nothing)
    assert not await passwords.matches("no hash", PASSWORD, before=nothing)


async def test_whoever_waited_may_still_be_turned_away(passwords: Passwords) -> None:
    """Of many guesses sent at once only the first few are tried."""
    stored, tried = await passwords.hash(PASSWORD), 0

    def count() -> None:
        nonlocal tried
        if tried == 3:
            raise Unavailable("wait")
        tried += 1

    guesses = (passwords.matches(stored, f"guess {number}", before=count) for number in range(10))
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert tried == 3
    assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 7
    assert AT_ONCE < 10


@pytest.mark.parametrize("password", ["x" * (SHORTEST - 1), "x" * (LONGEST + 1), "", "tw_looks-like-a-secret"])
async def test_what_is_no_password(passwords: Passwords, password: str) -> None:
    with pytest.raises(PasswordTooWeak) as caught:
        await passwords.hash(password)
    assert caught.value.detail["path"] == ["password"]
    assert not password or password not in caught.value.message


@pytest.mark.parametrize("password", ["x" * SHORTEST, "x" * LONGEST, "pässwörter sind erlaubt", "\N{ANCHOR}" * 8])
def test_what_is_one(password: str) -> None:
    check(password)
