"""The servers that are compared, each with its own folder and port, and what CPU time they spend.

All processes of a server count: ours has PostgreSQL beside it, which decides and keeps the books.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.processes import COMMAND
from tests.support.server import Server, free_port

TICK = os.sysconf("SC_CLK_TCK")
PEER_COMMANDS = ("docker-registry", "registry")
PEER_SETTINGS = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}, cache: {{blobdescriptor: inmemory}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, and the header that lets a client in."""

    name: str
    port: int
    pid: int
    authorization: str
    admin_port: int | None = None

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far, children that ended included."""
        return sum(_ticks(pid) for pid in _family(self.pid)) / TICK


@contextmanager
def ours(folder: Path, name: str = "tidewaiter", words: Sequence[str | Path] = (COMMAND, "serve")) -> Iterator[Target]:
    """As people run it: durable, decided and on the books. The organization `bench` is there."""
    server = Server(folder, {"TIDEWAITER_EMBEDDED_FSYNC": "on", "TIDEWAITER_LOG_LEVEL": "warning"}, words=words)
    server.start()
    try:
        assert server.process is not None
        signed_in = ("admin", server.admin_password)
        query = 'mutation { createOrganization(input: {name: "bench"}) { errors { message } } }'
        httpx2.post(f"{server.url}/graphql", json={"query": query}, auth=signed_in).raise_for_status()
        scope = "repository:bench/web:pull,push"
        answer = httpx2.get(f"{server.url}/token", params={"scope": scope}, auth=signed_in)
        token = answer.json()["token"]
        yield Target(name, server.port, server.process.pid, f"Bearer {token}", server.admin_port)
    finally:
        server.stop()


@contextmanager
def peer(folder: Path) -> Iterator[Target | None]:
    """CNCF Distribution at its best setting: it asks nobody and keeps no books. None where it is not installed."""
    command = next(filter(None, map(shutil.which, PEER_COMMANDS)), None)
    if command is None:
        yield None
        return
    port = free_port()
    folder.mkdir()
    (folder / "config.yml").write_text(PEER_SETTINGS.format(folder=folder / "data", port=port))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REGISTRY_"))}
    with subprocess.Popen([command, "serve", folder / "config.yml"], env=environment, stderr=sys.stderr) as process:
        try:
            _wait_for(port, process)
            yield Target("distribution", port, process.pid, "Basic bm9ib2R5Og==")
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/v2/")
        except httpx2.TransportError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the peer did not start: exit status {process.returncode}")


def _family(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(child))]


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])
