"""Passwords of people: argon2id, in a thread, few at a time, and remembered for a moment.

docker sends the password with every token request, and one check costs a tenth of a second and 64 MiB. So a password
that was just verified is remembered, as a keyed hash and bound to the very stored hash it matched: a changed password
is never accepted from memory.
"""

import asyncio
import hmac
import secrets
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from registry.accounts.credentials import looks_like_secret
from registry.errors import Invalid

SHORTEST = 8
LONGEST = 1024
REMEMBERED = 1024
AT_ONCE = 2


class PasswordTooWeak(Invalid):
    code = "PASSWORD_INVALID"


class Passwords:
    """One per process. `_memory` maps a keyed hash of (stored hash, password) to nothing: presence is the verdict."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._key = secrets.token_bytes(32)
        self._memory: OrderedDict[bytes, None] = OrderedDict()
        self._nobody = hash_of_nothing(self._hasher)

    async def hash(self, password: str) -> str:
        """Raises `PasswordTooWeak`."""
        check(password)
        async with self._turns:
            stored = await asyncio.to_thread(self._hasher.hash, password)
        self._remember(self._print(stored, password))  # who sets a password signs in with it next
        return stored

    async def matches(self, stored: str | None, password: str, *, before: Callable[[], None]) -> bool:
        """Takes as long for a user who does not exist (`stored` none) as for one who does.

        `before` is called when the turn has come, and may raise: many guesses sent at once all wait, and each must
        still see that those before it failed.
        """
        print_of_both = self._print(stored, password)
        if stored is not None and print_of_both in self._memory:
            self._memory.move_to_end(print_of_both)
            return True
        async with self._turns:
            before()
            good = await asyncio.to_thread(self._verify, stored or self._nobody, password[:LONGEST])
        if not good or stored is None:
            return False
        self._remember(print_of_both)
        return True

    def _print(self, stored: str | None, password: str) -> bytes:
        return hmac.digest(self._key, f"{stored}\0{password}".encode(), "sha256")

    def _remember(self, print_of_both: bytes) -> None:
        self._memory[print_of_both] = None
        if len(self._memory) > REMEMBERED:
            self._memory.popitem(last=False)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def check(password: str) -> None:
    """Raises `PasswordTooWeak`."""
    if looks_like_secret(password):
        raise PasswordTooWeak("A password must not look like one of the registry's own tokens.", path=["password"])
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordTooWeak(
            f"A password must have {SHORTEST} to {LONGEST} characters; this one has {len(password)}.",
            path=["password"],
        )


def hash_of_nothing(hasher: PasswordHasher) -> str:
    """Which takes as long to compare with as another, and no time to make."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"
