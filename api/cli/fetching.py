"""Fetching over HTTP within a time that is set, however slowly the other side answers.

The timeout of a socket counts anew with every byte, so a server that drips could hold us for ever. An alarm ends
whatever is under way: a connection, a header, a body.
"""

import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

SILENT_SECONDS = 20
AGAIN_SECONDS = 1.0
MOST_BYTES = 256 * 1024


def within(seconds: float, base: str) -> Callable[[str], bytes]:
    """Reads what is at paths below the base, which begins with http or https. All that is read takes no longer than
    this from now on. For the main thread, since only there an alarm is heard.

    What is returned raises OSError.
    """
    ends = time.monotonic() + seconds

    def read(path: str) -> bytes:
        address = f"{base.rstrip('/')}/{path}"
        try:
            with _alarm_at(ends):
                return _read(address)
        except (OSError, HTTPException, ValueError) as error:
            if time.monotonic() >= ends:
                raise TimeoutError(f"it took longer than {seconds:g} seconds") from error
            raise OSError(f"{address}: {error or 'the answer was broken off'}") from error

    return read


def _read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=SILENT_SECONDS) as answer:  # noqa: S310
        data: bytes = answer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(f"it answers with more than {MOST_BYTES} bytes")
    return data


@contextmanager
def _alarm_at(ends: float) -> Iterator[None]:
    """Raises TimeoutError from then on, in whatever is under way: again and again, since the first may come where
    exceptions are passed over. An alarm that was set before is put back."""

    def late(*_: Any) -> None:
        raise TimeoutError

    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    heard = signal.signal(signal.SIGALRM, late)
    before = signal.setitimer(signal.ITIMER_REAL, left, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, heard)
