"""How a command writes what it was asked for to a file: whole or not at all, and for its owner only, since it may tell
who did what."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from registry.errors import Unable

Write = Callable[[bytes], None]


class Unwritable(Unable):
    """Its text names the file that was asked for, whatever it was called on the way."""


@contextmanager
def written(output: Path) -> Iterator[Write]:
    """The file appears when the block is left; `-` is standard output. Raises `Unwritable`, before the block is entered
    if the file cannot be there."""
    with _named(output):
        file, fresh = _opened(output)

    def write(data: bytes) -> None:
        with _named(output):
            file.write(data)

    try:
        yield write
        with _named(output):
            file.flush()
            _settle(file, fresh, output)
    finally:
        _leave(file, fresh)


@contextmanager
def _named(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "Standard output" if str(output) == "-" else output
        raise Unwritable(f"{what} cannot be written: {error.strerror}.") from error


def _opened(output: Path) -> tuple[BinaryIO, Path | None]:
    """The second is what the file is called until it is whole; pipes and devices cannot be replaced, and are written to
    as they are. Where a link is given, the file that it leads to is replaced."""
    if str(output) == "-":
        return sys.stdout.buffer, None
    if output.exists() and not output.is_file():
        return output.open("wb"), None
    target = output.resolve()
    if not target.parent.is_dir():
        raise Unwritable(f"There is no folder {output.parent} to write {output} to.")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    return os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"), fresh


def _settle(file: BinaryIO, fresh: Path | None, output: Path) -> None:
    if fresh is not None:
        os.fsync(file.fileno())
        fresh.replace(output.resolve())


def _leave(file: BinaryIO, fresh: Path | None) -> None:
    """What could not be written is told already, and would be told once more by closing."""
    if file is not sys.stdout.buffer:
        with suppress(OSError):
            file.close()
    if fresh is not None:
        fresh.unlink(missing_ok=True)
