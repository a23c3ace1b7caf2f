"""Slows down who guesses: failures are counted per user with address, and per address.

Kept in this process's memory and bounded; the registry's own clock decides, so that tests can let time pass. Only
failures count: a build farm behind one address that signs in rightly is never slowed.
"""

from collections import OrderedDict, deque
from datetime import datetime, timedelta

from registry.deciding import HeldUp

WINDOW = timedelta(minutes=5)
PER_USER = 10
PER_ADDRESS = 100
REMEMBERED = 10_000


class TooManySignIns(HeldUp):
    code = "TOO_MANY_SIGN_INS"


class Throttle:
    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], deque[datetime]] = OrderedDict()

    def check(self, name: str, source: str, now: datetime) -> None:
        """Raises `TooManySignIns` before the secret is even looked at."""
        for key, limit in _keys(name, source).items():
            recent = self._recent(key, now)
            if len(recent) >= limit:
                wait = int((recent[0] + WINDOW - now).total_seconds()) + 1
                raise TooManySignIns(
                    f"Too many failed sign-ins from this address; try again in {wait} seconds.",
                    retry_after=wait,
                )

    def failed(self, name: str, source: str, now: datetime) -> None:
        for key in _keys(name, source):
            recent = self._recent(key, now)
            recent.append(now)
            self._failures[key] = recent
            self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, source: str) -> None:
        if name:
            self._failures.pop((name, source), None)

    def _recent(self, key: tuple[str, str], now: datetime) -> "deque[datetime]":
        failures = self._failures.get(key) or deque(maxlen=PER_ADDRESS)
        while failures and failures[0] <= now - WINDOW:
            failures.popleft()
        return failures


def _keys(name: str, source: str) -> dict[tuple[str, str], int]:
    """What is counted, and up to how much. A secret may come without a name, and then only the address is known."""
    by_address = {("", source): PER_ADDRESS}
    return {(name, source): PER_USER} | by_address if name else by_address
