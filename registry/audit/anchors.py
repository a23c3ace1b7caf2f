"""Anchors: where each checkpoint also stands outside the database.

Who can rewrite the database can rewrite its checkpoints with it, and a restored backup has forgotten the newest of
them. An anchor has not. Before anything is signed, the tree is held against the newest checkpoint of every anchor.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

import orjson

T = TypeVar("T")
TAIL_BYTES = 64 * 1024
ANSWER_SECONDS, READING_SECONDS, AGAIN_SECONDS = 10.0, 600.0, 60.0
MOST_AWAY = 30


class AnchorFailed(Exception):
    """The anchor cannot be read or written; its text says which and why."""


class Anchor(Protocol):
    """A place that keeps checkpoints. `name` is what a person calls it by. It answers, or says in a while that it does
    not."""

    name: str

    async def newest(self) -> str | None:
        """The signed note that was put last. Raises `AnchorFailed`."""

    def all(self) -> AsyncIterator[str]:
        """All notes, in any order. Raises `AnchorFailed`."""

    async def put(self, note: str) -> None:
        """Returns once it would survive a crash. Raises `AnchorFailed`."""


class Aside:
    """Threads for what may never come back, such as a file on a mount that went away. Who has waited long enough leaves
    one alone; while it hangs, little more is asked, so there are but a few; and they keep no server from ending."""

    def __init__(self, name: str, again: float = AGAIN_SECONDS) -> None:
        self._name, self._again = name, again
        self._turn = asyncio.Lock()
        self._away = 0
        self._asked = float("-inf")

    async def run(self, function: Callable[..., T], *arguments: object, seconds: float = ANSWER_SECONDS) -> T:
        """Raises `AnchorFailed`, and what the function raises."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._turn:
                if self._is_worth_asking():
                    return await self._answer(function, arguments)
        raise AnchorFailed(f"The anchor {self._name} does not answer.")

    def _is_worth_asking(self) -> bool:
        """What hangs, hangs for good; but the next may come through, when the mount is there again."""
        waited = asyncio.get_running_loop().time() - self._asked
        return not self._away or (self._away < MOST_AWAY and waited >= self._again)

    def _answer(self, function: Callable[..., T], arguments: tuple[object, ...]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            try:
                told: tuple[Any, BaseException | None] = function(*arguments), None
            except BaseException as error:
                told = None, error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._tell, answer, *told)

        self._away += 1
        self._asked = loop.time()
        Thread(target=call, daemon=True).start()
        return answer

    def _tell(self, answer: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
        self._away -= 1
        if answer.done():
            return  # nobody waits any more
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


class FileAnchor:
    """A file to which one line of JSON is added for each checkpoint; best on another volume than the database."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._aside = Aside(self.name)

    async def newest(self) -> str | None:
        return await self._aside.run(self._newest)

    async def all(self) -> AsyncIterator[str]:
        for note in await self._aside.run(self._all, seconds=READING_SECONDS):
            yield note

    async def put(self, note: str) -> None:
        await self._aside.run(self._put, note)

    def _newest(self) -> str | None:
        """Where the end of the file has none, because somebody put other things there, all of it is read."""
        try:
            for line in reversed(self._tail().split(b"\n")):
                if note := _note_in(line):
                    return note
        except OSError as error:
            raise AnchorFailed(f"The anchor {self.name} cannot be read: {error.strerror}.") from error
        return next(reversed(self._all()), None)

    def _all(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                return [note for line in file if (note := _note_in(line))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AnchorFailed(f"The anchor {self.name} cannot be read: {error.strerror}.") from error

    def _tail(self) -> bytes:
        """Lines are far shorter than this, so the last whole one is in it, unless it is not ours."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                return file.read()
        except FileNotFoundError:
            return b""

    def _put(self, note: str) -> None:
        """A line that a crash has cut short is closed by the line end that begins the next."""
        line = b"\n" + orjson.dumps({"note": note}) + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.write(descriptor, line) != len(line):  # the next line begins anew, and closes this one
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AnchorFailed(f"The anchor {self.name} cannot be written: {error.strerror}.") from error


def _note_in(line: bytes) -> str | None:
    try:
        note = orjson.loads(line)["note"]
    except (ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) else None
