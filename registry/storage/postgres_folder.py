"""The folder that an embedded PostgreSQL lives in: its data, its socket, its log and its locks.

folder/
├── data/            PostgreSQL's own; appears by one rename when it is complete
├── making-*/        what an interrupted making left behind; swept by the next one
├── socket/          only its owner may enter; a temporary folder instead where the path would be too long
├── postgres.log     what the server says; rolled over to postgres.log.1 at a start once it is large
├── starting.lock    held while somebody starts: of two commands at once the second adopts
└── running.lock     held by the postmaster and its children, seen also from another container
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from registry.storage.postgres_binaries import Binaries, CannotStart, Identity, identity_for
from registry.storage.postmaster import comes_true, recorded

OWNER = "tidewaiter_owner"
PORT = 5432
SOCKET_PATH_BYTES = 103  # The smaller of what systems allow: 107 on Linux, 103 on macOS.
LOG_BYTES = 8 * 1024 * 1024
LOG_TAIL_BYTES = 4096
LOG_LINES_SHOWN = 5
TEMPORARY = "tidewaiter-"

# Written once, and from then on the administrator's to change.
CONFIGURATION = """
# What this folder began with.
shared_buffers = 128MB
max_connections = 100
wal_level = replica
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
# What a statement did wrong is told to its caller; here it would only fill the disk.
log_min_messages = log
"""


class Held(CannotStart):
    """A lock was not given up in time."""


def version_of(data: Path) -> int | None:
    """The major version that made the data; None where nothing was made yet.

    Raises CannotStart for a folder of other things: it is never deleted, whatever it is.
    """
    try:
        return int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        if not data.exists() or not any(data.iterdir()):
            return None
    raise CannotStart(f"{data} holds something that is no PostgreSQL data folder: move it away, then start again.")


def make(folder: Path, binaries: Binaries, *, durable: bool) -> None:
    """`data`, complete or not at all: an interrupted making leaves no folder of that name.

    Raises CannotStart with what initdb said.
    """
    for leftover in folder.glob("making-*"):
        # Its initdb may still be at work for a moment; then it is swept another time.
        shutil.rmtree(leftover, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=folder))
    try:
        made = identity_for(making, binaries).run(_initdb(making, binaries, durable=durable))
        if made.returncode != 0:
            said = (made.stderr or made.stdout).strip()
            raise CannotStart(
                f"The database could not be made in {folder}: mend what is named here, or set "
                f"TIDEWAITER_DATABASE_URL. initdb said: {said}"
            )
        _settle(making, folder / "data")
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _initdb(making: Path, binaries: Binaries, *, durable: bool) -> list[str]:
    """Text is UTF-8 and sorts by code point, everywhere alike; from 17 on, letter case knows Unicode."""
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []
    return [
        binaries.program("initdb"),
        f"--pgdata={making}",
        f"--username={OWNER}",
        "--encoding=UTF8",
        "--locale=C",
        *builtin,
        "--auth-local=trust",  # Whoever can enter the socket's folder is its owner.
        "--auth-host=reject",
        "--data-checksums",
        "--no-instructions",
        *([] if durable else ["--no-sync"]),
    ]


def _settle(making: Path, data: Path) -> None:
    """The rename is the moment of truth, so all before it and then it itself must be on the disk."""
    with (making / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)
        configuration.flush()
        os.fsync(configuration.fileno())
    making.rename(data)
    for changed in (data.parent, data.parent.parent):
        _synchronize(changed)


def _synchronize(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def prepare_socket(folder: Path, identity: Identity, before: Path | None = None) -> Path:
    """The folder for the socket, private to whom PostgreSQL runs as; the same as `before` where that can be, for who
    knows its address."""
    socket = folder / "socket"
    if _fits(socket):
        socket.mkdir(mode=0o700, exist_ok=True)
    else:
        socket = _temporary_socket(before)
    # Root may be at work in the folder of a user who laid a link there: never follow one.
    file = os.open(socket, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(file, 0o700)
        identity.receive(file)
    finally:
        os.close(file)
    return socket


def _temporary_socket(before: Path | None) -> Path:
    base = tempfile.gettempdir() if _fits(Path(tempfile.gettempdir(), TEMPORARY + "12345678")) else "/tmp"  # noqa: S108
    if before is not None and before.parent == Path(base) and before.name.startswith(TEMPORARY):
        with suppress(FileExistsError):
            before.mkdir(mode=0o700)
            return before
    return Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=base))


def _fits(socket: Path) -> bool:
    """Short enough, and free of signs that PostgreSQL or its clients would read as a list or an escape."""
    path = f"{socket}/.s.PGSQL.{PORT}"
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES and re.fullmatch(r"[\w./-]+", path, re.ASCII) is not None


def clear_socket(socket: Path) -> None:
    """Removes a temporary folder of ours that lost its server; any other folder is left alone."""
    if socket.name.startswith(TEMPORARY):
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (socket / name).unlink(missing_ok=True)
        with suppress(OSError):
            socket.rmdir()


def forget_dead(data: Path) -> Path | None:
    """Removes what a killed postmaster left: PostgreSQL would not start if its number is another's by now. Returns the
    folder that its socket was in.

    Only while running.lock is held and no postmaster was found alive, for then nobody works on the data.
    """
    dead = recorded(data)
    if dead is not None and dead.socket is not None:
        clear_socket(dead.socket)
    (data / "postmaster.pid").unlink(missing_ok=True)
    return dead.socket if dead is not None else None


def roll(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return " / ".join(lines[-LOG_LINES_SHOWN:])


@asynccontextmanager
async def locked(path: Path, within_seconds: float) -> AsyncIterator[int]:
    """The open file that is locked, until the last process that inherited it has closed it. Raises Held."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not await comes_true(lambda: _lock(file), within_seconds):
            raise Held(f"Another process holds {path}: wait until it is done, or stop it, and start again.")
        yield file
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
