"""A real server process for tests: its own data folder, embedded PostgreSQL, ports of its own, and a clock that tests
move."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import httpx2

from tests.support import made, processes
from tests.support.processes import COMMAND, Process

START_SECONDS = 60
STOP_SECONDS = 30
SERVE = (COMMAND, "serve")
PASSWORD = "the administrator's password"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Server:
    """One server. `advance` moves its clock forward, and never back.

    The system begins it with `words` where they are given, and so each command beside it, else a fork does.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    admin_password: str = PASSWORD
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | Process | None = None
    ahead: float = 0.0
    words: Sequence[str | Path] | None = None

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.registry}"

    @property
    def now(self) -> datetime:
        """By its clock."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def variables(self) -> dict[str, str]:
        """What this server, and commands beside it, find in their environment."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDEWAITER_")}
        ours = {
            "TIDEWAITER_DATA": str(self.folder / "data"),
            "TIDEWAITER_LISTEN": self.registry,
            "TIDEWAITER_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "TIDEWAITER_ADMIN_PASSWORD": self.admin_password,
            "TIDEWAITER_EMBEDDED_FSYNC": "off",
            "TIDEWAITER_CLOCK_FILE": str(self.folder / "clock"),
            "PYTHONDONTWRITEBYTECODE": "",  # else each process compiles all of us anew, which takes a second or two
        }
        return {name: value for name, value in (inherited | ours | dict(self.environment)).items() if value}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output").open("ab") as output:
            self.process = self._begun(output)
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def _begun(self, output: IO[bytes]) -> subprocess.Popen[bytes] | Process:
        variables = self.variables
        if self.words is None:
            if "TIDEWAITER_DATABASE_URL" not in variables:
                made.lay(Path(variables["TIDEWAITER_DATA"]))
            return processes.begin(["serve"], variables, stdout=output, stderr=output)
        return subprocess.Popen(self.words, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", verify=False).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs `tidewaiter …` beside the server, with the same settings."""
        done = self._ran(words, stdin.encode())
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def _ran(self, words: Sequence[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        if self.words is None:
            return processes.run(words, self.variables, stdin=stdin)
        return subprocess.run([COMMAND, *words], env=self.variables, input=stdin, capture_output=True, timeout=60)

    def advance(self, seconds: float) -> None:
        self.ahead += seconds
        fresh = self.folder / "clock.new"
        fresh.write_text(str(self.ahead))
        fresh.rename(self.folder / "clock")

    def metrics(self) -> str:
        return httpx2.get(f"http://127.0.0.1:{self.admin_port}/metrics", verify=False).text

    async def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        user: str = "admin",
        password: str | None = None,
    ) -> dict[str, Any]:
        """The parsed body of the answer; with an empty user, nobody asks."""
        secret = self.admin_password if user == "admin" and password is None else password
        async with httpx2.AsyncClient(verify=False) as client:  # a store of certificates takes 40 ms to load
            answer = await client.post(
                f"{self.url}/graphql",
                json={"query": query, "variables": dict(variables or {})},
                auth=(user, secret or "") if user else None,
            )
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """A server that runs until the block is left; empty variables are taken out of its environment."""
    server = Server(folder, environment)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
