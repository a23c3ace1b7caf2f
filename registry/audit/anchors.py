"""Anchors: where each checkpoint also stands outside the database.

Who can rewrite the database can rewrite its checkpoints with it, and a restored backup has forgotten the newest of
them. An anchor has not. Before anything is signed, the tree is held against the newest checkpoint of every anchor.
"""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import anyio
import orjson

TAIL_BYTES = 64 * 1024


class AnchorFailed(Exception):
    """The anchor cannot be read or written; its text says which and why."""


class Anchor(Protocol):
    """A place that keeps checkpoints. `name` is what a person calls it by."""

    name: str

    async def newest(self) -> str | None:
        """The signed note that was put last. Raises `AnchorFailed`."""

    def all(self) -> AsyncIterator[str]:
        """All notes, in any order. Raises `AnchorFailed`."""

    async def put(self, note: str) -> None:
        """Returns once it would survive a crash. Raises `AnchorFailed`."""


class FileAnchor:
    """A file to which one line of JSON is added for each checkpoint; best on another volume than the database."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def newest(self) -> str | None:
        return await anyio.to_thread.run_sync(self._newest, abandon_on_cancel=True)

    async def all(self) -> AsyncIterator[str]:
        for note in await anyio.to_thread.run_sync(self._all):
            yield note

    async def put(self, note: str) -> None:
        await anyio.to_thread.run_sync(self._put, note, abandon_on_cancel=True)

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
