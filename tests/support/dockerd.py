"""A docker engine for one test run: its own data, socket and containerd, no hand on the machine's network.

    daemon = Daemon.start(folder)
    try: ...  # docker --host {daemon.address}
    finally: daemon.stop()

Registries on loopback are spoken to without TLS, which is the engine's own rule. It needs root, runs no
container, and is told to end should the process that started it die first.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.installed import SEARCH_PATH, program

START_SECONDS = 60
STOP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running engine. `command` is a docker command that this engine understands."""

    folder: Path
    address: str
    command: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @classmethod
    def start(cls, folder: Path) -> "Daemon":
        """`folder` must have a short path, for the sockets in it. Raises RuntimeError with the log."""
        (folder / "daemon.json").write_text("{}")
        address = f"unix://{folder}/docker.sock"
        log = (folder / "log").open("wb")
        process = subprocess.Popen(_engine(folder, address), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            command = _await_command(folder, address, process)
        except BaseException:
            _end(process, folder)
            log.close()
            raise
        return cls(folder, address, command, process, log)

    def stop(self) -> None:
        """Ends the engine and the containerd it started, and leaves no mount behind."""
        _end(self.process, self.folder)
        self.log.close()


def _engine(folder: Path, address: str) -> list[str]:
    place = [
        f"--config-file={folder}/daemon.json",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host={address}",
    ]
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    # A run that is killed cannot clean up, so the kernel ends the engine in its place.
    bound = [program("setpriv"), "--pdeathsig", "TERM"]
    return [*bound, program("dockerd"), *place, *network, "--storage-driver=vfs", "--log-level=warn"]


def _await_command(folder: Path, address: str, process: subprocess.Popen[bytes]) -> str:
    """A docker command that gets an answer: of several, a newer one may find the engine too old."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "docker.sock").exists():
            for command in _commands():
                if _answers(command, address, folder):
                    return command
        time.sleep(0.05)  # the engine tells nobody that its socket is there
    raise RuntimeError(f"dockerd did not start:\n{(folder / 'log').read_text(errors='replace')[-4000:]}")


def _commands() -> Iterator[str]:
    """The engine's own companion first: they come in one package and lie under one prefix."""
    beside = Path(program("dockerd")).parent.parent / "bin" / "docker"
    yield from dict.fromkeys([*([str(beside)] if beside.exists() else []), program("docker")])


def _answers(command: str, address: str, folder: Path) -> bool:
    asked = subprocess.run(
        [command, "--config", str(folder / "config"), "--host", address, "version"],
        env={"PATH": SEARCH_PATH, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    children = _children(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Its containerd ends with it, but not before it: the folder is free only when both are gone.
    _await_end(children)
    for mount in _mounts_below(folder):
        subprocess.run(["umount", "--lazy", mount], env={"PATH": SEARCH_PATH}, check=True)
    shutil.rmtree(folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    """Asked of each thread: the kernel lists a child under the thread that started it."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return children


def _await_end(pids: list[int]) -> None:
    """Raises RuntimeError when one of them stays."""
    deadline = time.monotonic() + STOP_SECONDS
    while alive := [pid for pid in pids if _runs(pid)]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"dockerd has ended and left these processes: {alive}")
        time.sleep(0.05)  # they are the engine's children, not ours, so there is nothing to wait on


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _mounts_below(folder: Path) -> list[str]:
    """The innermost first, so that they can be unmounted one by one."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)
