"""Begins `tidewaiter` as a process of its own, with the words, the environment, the folder and the streams given.

    done = run(["user", "list"], environment)
    server = begin(["serve"], environment, stdout=output, stderr=output)

What it needs is loaded already, see `preloaded`: the same program in another process, begun by a fork. Where it matters
that the system begins it, because somebody else runs it or within limits, a test calls `COMMAND` itself.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Thread
from typing import IO

COMMAND = Path(sys.executable).with_name("tidewaiter")
PRELOADED = Path(__file__).with_name("preloaded.py")
RUN_SECONDS = 60


class Process:
    """What tests need of `subprocess.Popen`. Its parent is another, who tells its id, and in the end its status."""

    def __init__(self, told: int) -> None:
        self._told = told
        self.pid = self._number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._waited(0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        status = self._waited(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("tidewaiter", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _waited(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def _number(self) -> int:
        digits = b""
        while (digit := os.read(self._told, 1)) not in (b"\n", b""):
            digits += digit
        return int(digits)


def begin(
    words: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path | None = None,
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> Process:
    """Without `stdin` it has nothing to read."""
    call = {
        "words": [str(COMMAND), *map(str, words)],
        "environment": dict(environment),
        "folder": str(folder or Path.cwd()),
    }
    ours, theirs = os.pipe()
    with Path(os.devnull).open("rb") as nothing:
        files = [file.fileno() for file in (stdin or nothing, stdout, stderr)]
        socket.send_fds(_preloaded(), [json.dumps(call).encode()], [*files, theirs])
    os.close(theirs)
    return Process(ours)


def run(
    words: Sequence[str | Path], environment: Mapping[str, str], folder: Path | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Waits for its end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, _fed(stdin) as pipe:
        process = begin(words, environment, folder, stdin=pipe, stdout=output, stderr=errors)
        pipe.close()
        try:
            status = process.wait(RUN_SECONDS)
        finally:
            process.send_signal(signal.SIGKILL)
        said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0) for file in (output, errors)]
    return subprocess.CompletedProcess(words, status, *said)


@contextmanager
def _fed(content: bytes) -> Iterator[IO[bytes]]:
    """The end of a pipe from which the content is read."""
    ours, theirs = (os.fdopen(file, mode) for file, mode in zip(os.pipe(), ("rb", "wb"), strict=True))

    def feed() -> None:
        with suppress(BrokenPipeError), theirs:
            theirs.write(content)

    feeding = Thread(target=feed)
    feeding.start()
    with ours:
        yield ours
    feeding.join()


@cache
def _preloaded() -> socket.socket:
    """Calls go there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = [sys.executable, "-P", PRELOADED, str(theirs.fileno())]
    process = subprocess.Popen(words, env=environment, pass_fds=[theirs.fileno()])
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours
