"""One postmaster: what its data folder records of it, whether it lives, how it begins and how it ends.

`postmaster.pid` is PostgreSQL's own record. It outlives a crash, and its number may by then be another's.
What must hold: no process gets a signal unless it is known to be a PostgreSQL that works in this data folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio

from registry.storage.postgres_binaries import Binaries, Identity, environment

POLL_SECONDS = 0.02
QUICK_SECONDS = 5.0

# Children are kept until they are reaped: a dropped Popen would warn, and its process stay a zombie.
_children: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}


@dataclass(frozen=True, slots=True)
class Postmaster:
    """`status` is PostgreSQL's word: starting, ready, standby, stopping; empty until it writes one."""

    pid: int
    data: Path
    port: int = 0
    socket: Path | None = None
    status: str = ""


def find(data: Path) -> Postmaster | None:
    """The living postmaster of this data folder, if there is one."""
    postmaster = recorded(data)
    return postmaster if postmaster is not None and is_alive(postmaster.pid, data) else None


def recorded(data: Path) -> Postmaster | None:
    """What postmaster.pid says, true or not.

    Its lines: pid, folder, time, port, socket folder, address, shared memory, status. They are written one
    after another as the postmaster gets on, so the last ones may be missing.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    pid, _, _, port, socket, _, _, status = [line.strip() for line in [*lines, *[""] * 8][:8]]
    if not pid.isdecimal():
        return None
    place = Path(socket) if socket else None
    return Postmaster(int(pid), data, int(port) if port.isdecimal() else 0, place, status)


def is_alive(pid: int, data: Path) -> bool:
    """Whether the process lives (a zombie does not) and is a PostgreSQL that works in `data`."""
    folder, child = _children.get(pid, (None, None))
    if child is not None and child.poll() is not None:
        del _children[pid]
        return False
    if folder == data:
        return True  # Our own child, which may not have come as far as working there.
    return _in_proc(pid, data) if sys.platform == "linux" else _in_ps(pid, data)


def _in_proc(pid: int, data: Path) -> bool:
    process = Path("/proc") / str(pid)
    try:
        program = (process / "cmdline").read_bytes().split(b"\0")[0]
        # The working folder, not the command line: it stays true when somebody moves the data.
        return Path(os.fsdecode(program)).name == "postgres" and (process / "cwd").samefile(data)
    except OSError:
        return False


def _in_ps(pid: int, data: Path) -> bool:
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return "postgres" in answer.stdout and str(data) in answer.stdout


def launch(
    identity: Identity, binaries: Binaries, data: Path, settings: Mapping[str, str], log: Path, held: int
) -> int:
    """The pid of the new postmaster, which inherits the open file `held` and bequeaths it to its children.

    A session of its own: Ctrl-C in the terminal reaches the server, which says when the database stops.
    """
    command = [*identity.prefix, binaries.program("postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with _opened(log) as output:
        identity.receive(output.fileno())
        child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            pass_fds=(held,),
            start_new_session=True,
            **identity.credentials(),
        )
    _children[child.pid] = (data, child)
    return child.pid


def _opened(log: Path) -> BinaryIO:
    """Root may be at work in the folder of a user who laid a link there: none is followed."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab")


def send(pid: int, data: Path, number: signal.Signals) -> None:
    if is_alive(pid, data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def end(pid: int, data: Path, within_seconds: float) -> None:
    """Fast shutdown, then immediate shutdown, then a kill, each given its time; the next start recovers.

    Returns when the process is gone; may be called again.
    """
    quickly = min(within_seconds, QUICK_SECONDS)
    steps = ((signal.SIGINT, within_seconds), (signal.SIGQUIT, quickly), (signal.SIGKILL, QUICK_SECONDS))
    for number, seconds in steps:
        if await comes_true(partial(_ended, pid, data, number), seconds):
            return


def _ended(pid: int, data: Path, number: signal.Signals) -> bool:
    """Sends the signal each time it asks. SIGINT may be ignored from birth, as by what a script starts in its
    background, and then it is lost until the postmaster has come as far as to catch it."""
    send(pid, data, number)
    return not is_alive(pid, data)


async def comes_true(happened: Callable[[], bool], within_seconds: float) -> bool:
    """Whether it happened in time. Asks again and again: neither a lock nor another's child calls back."""
    with anyio.move_on_after(within_seconds):
        while not happened():  # noqa: ASYNC110
            await anyio.sleep(POLL_SECONDS)
        return True
    return happened()
