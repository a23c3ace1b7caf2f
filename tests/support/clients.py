"""Registry clients as people use them: real programs, unmodified, each with its own home and storage.

    person = skopeo.for_person("dock-worker")
    await person.login("127.0.0.1:8080", "dock-worker", "a password")
    pushed = await person.push(image, "127.0.0.1:8080/acme/web:1.0")
    pulled = await person.pull("127.0.0.1:8080/acme/web:1.0", into=tmp_path / "pulled")
    assert pulled.digest == pushed.digest

A verb never raises because the registry refused: it returns what the person at the terminal would have got.
It raises only when the client itself could not be brought to the point of asking. What the environment holds
(proxies, log-ins, settings of the machine's owner) does not reach a client: it gets a PATH and a home.
"""

import hashlib
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from anyio import to_thread

from tests.support.dockerd import Daemon
from tests.support.images import Image, make_docker_archive
from tests.support.installed import SEARCH_PATH, program

PATIENCE_SECONDS = 60
"""Far longer than any verb takes here; a client that has begun to repeat itself takes 50 to 130 seconds."""

TOLD_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a verb ended: its exit code, all that it printed, and the manifest's digest where it told one."""

    code: int
    output: str
    digest: str | None = None

    @property
    def accepted(self) -> bool:
        return self.code == 0


class Client(ABC):
    """One person at one machine. `folder` holds all that this client keeps between its verbs."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def for_person(self, person: str) -> Self:
        """The same client on another person's machine: signed in nowhere, nothing pulled."""
        return type(self)(self.folder / person)

    @abstractmethod
    async def login(self, registry: str, user: str, password: str) -> Outcome: ...

    @abstractmethod
    async def logout(self, registry: str) -> Outcome: ...

    @abstractmethod
    async def push(self, image: Image, reference: str) -> Outcome: ...

    @abstractmethod
    async def pull(self, reference: str, into: Path) -> Outcome:
        """Clients that keep what they pull in a store of their own leave `into` alone."""

    async def run(self, *command: str | Path, stdin: str = "") -> Outcome:
        """The client is ended after `PATIENCE_SECONDS`; its exit code is 124 then, as from timeout(1)."""
        words = [str(word) for word in command]
        return await to_thread.run_sync(_run, words, self.folder, self.environment(), stdin)

    def environment(self) -> dict[str, str]:
        runtime = self.folder / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        home = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(runtime)}
        return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **home}

    async def prepare(self, *command: str | Path) -> Outcome:
        """A step that asks no registry, and therefore has no reason to fail."""
        outcome = await self.run(*command)
        if not outcome.accepted:
            raise RuntimeError(f"{self.name} could not prepare: {command}\n{outcome.output}")
        return outcome


class AuthFileClient(Client):
    """What the programs of one family share: a file of log-ins, and a flag for registries without TLS."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log_ins = folder / "auth.json"
        # Podman takes an absent file for an error, and not for nobody being signed in.
        self.log_ins.write_text('{"auths": {}}')

    @property
    def _file(self) -> Sequence[str | Path]:
        return ("--authfile", self.log_ins)

    @property
    def _plain(self) -> Sequence[str | Path]:
        return (*self._file, "--tls-verify=false")


class Skopeo(AuthFileClient):
    """Copies between the registry and a folder, byte for byte."""

    name = "skopeo"

    async def login(self, registry: str, user: str, password: str) -> Outcome:
        options = (*self._plain, "--username", user, "--password-stdin")
        return await self.run(program("skopeo"), "login", *options, registry, stdin=password)

    async def logout(self, registry: str) -> Outcome:
        return await self.run(program("skopeo"), "logout", *self._file, registry)

    async def push(self, image: Image, reference: str) -> Outcome:
        told = self.folder / "pushed"
        to = ("--dest-tls-verify=false", "--digestfile", told)
        outcome = await self._copy(*to, f"oci:{image.folder}:{image.tag}", f"docker://{reference}")
        return replace(outcome, digest=told.read_text().strip()) if outcome.accepted else outcome

    async def pull(self, reference: str, into: Path) -> Outcome:
        outcome = await self._copy("--src-tls-verify=false", f"docker://{reference}", f"dir:{into}")
        if not outcome.accepted:
            return outcome
        received = (into / "manifest.json").read_bytes()
        return replace(outcome, digest=f"sha256:{hashlib.sha256(received).hexdigest()}")

    async def _copy(self, *words: str | Path) -> Outcome:
        # Without --preserve-digests a copy may recompress, and the digests would tell nothing.
        options = ("--insecure-policy", "copy", *self._file, "--preserve-digests")
        return await self.run(program("skopeo"), *options, *words)


class Podman(AuthFileClient):
    """Keeps images unpacked in a store of its own, so what it pushes has a digest of its own too.

    An image reaches the store as an archive: from a layout it would be named after the folder, and not every
    folder has a name that an image may have.
    """

    name = "podman"

    async def login(self, registry: str, user: str, password: str) -> Outcome:
        options = (*self._plain, "--username", user, "--password-stdin")
        return await self.run(*self._podman, "login", *options, registry, stdin=password)

    async def logout(self, registry: str) -> Outcome:
        return await self.run(*self._podman, "logout", *self._file, registry)

    async def push(self, image: Image, reference: str) -> Outcome:
        archive, told = self.folder / "archive.tar", self.folder / "pushed"
        make_docker_archive(archive, reference, *image.payloads)
        await self.prepare(*self._podman, "load", "--quiet", "--input", archive)
        options = (*self._plain, "--format=oci", "--digestfile", told)
        outcome = await self.run(*self._podman, "push", *options, reference)
        return replace(outcome, digest=told.read_text().strip()) if outcome.accepted else outcome

    async def pull(self, reference: str, into: Path) -> Outcome:
        await self.prepare(*self._podman, "image", "rm", "--all", "--force")
        outcome = await self.run(*self._podman, "pull", *self._plain, reference)
        if not outcome.accepted:
            return outcome
        told = await self.prepare(*self._podman, "image", "inspect", "--format", "{{.Digest}}", reference)
        return replace(outcome, digest=told.output.strip())

    @property
    def _podman(self) -> Sequence[str]:
        # Relative to the folder it runs in: it refuses a run root whose name has more than 50 characters.
        place = ("--root", "store", "--runroot", "run/store", "--tmpdir", "run/libpod")
        kind = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none")
        return (program("podman"), *place, *kind)


class Docker(Client):
    """The docker command beside a daemon that all docker clients of a test run share."""

    name = "docker"

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        super().__init__(folder)
        self.daemon = daemon

    def for_person(self, person: str) -> Self:
        return type(self)(self.folder / person, self.daemon)

    async def login(self, registry: str, user: str, password: str) -> Outcome:
        return await self._docker("login", "--username", user, "--password-stdin", registry, stdin=password)

    async def logout(self, registry: str) -> Outcome:
        return await self._docker("logout", registry)

    async def push(self, image: Image, reference: str) -> Outcome:
        archive = self.folder / "archive.tar"
        make_docker_archive(archive, reference, *image.payloads)
        await self._prepare("load", "--quiet", "--input", archive)
        try:
            return _with_told_digest(await self._docker("push", reference))
        finally:
            await self._forget(reference)

    async def pull(self, reference: str, into: Path) -> Outcome:
        await self._forget(reference)
        return _with_told_digest(await self._docker("pull", reference))

    async def _forget(self, reference: str) -> None:
        """Else the next pull would find the layers in the daemon and not ask the registry for them."""
        await self._docker("image", "rm", "--force", reference)

    async def _docker(self, *words: str | Path, stdin: str = "") -> Outcome:
        return await self.run(*self._command, *words, stdin=stdin)

    async def _prepare(self, *words: str | Path) -> Outcome:
        return await self.prepare(*self._command, *words)

    @property
    def _command(self) -> Sequence[str | Path]:
        return (self.daemon.command, "--config", self.folder / "config", "--host", self.daemon.address)


class Oras(Client):
    """Pushes an image's payloads as the files of an artifact. The Python package, with our command line.

    Its `login` writes name and password down and shows them to no registry, so it cannot be refused. `door`
    is "token", the client's own choice, or "basic", which offers name and password with each request. Under
    "token" a wrong password is tried six times in 131 seconds, whatever the registry says.
    """

    name = "oras"

    def __init__(self, folder: Path, door: str = "token") -> None:
        super().__init__(folder)
        self.door = door

    def for_person(self, person: str) -> Self:
        return type(self)(self.folder / person, self.door)

    async def login(self, registry: str, user: str, password: str) -> Outcome:
        return await self._oras("login", registry, user, stdin=password)

    async def logout(self, registry: str) -> Outcome:
        return await self._oras("logout", registry)

    async def push(self, image: Image, reference: str) -> Outcome:
        files = [self.folder / f"payload-{number}" for number, _ in enumerate(image.payloads)]
        for file, content in zip(files, image.payloads, strict=True):
            file.write_bytes(content)
        return _with_told_digest(await self._oras("push", reference, *files))

    async def pull(self, reference: str, into: Path) -> Outcome:
        return _with_told_digest(await self._oras("pull", reference, into))

    async def _oras(self, *words: str | Path, stdin: str = "") -> Outcome:
        module = ("-m", "tests.support.oras_command", self.folder / "config.json", self.door)
        return await self.run(sys.executable, *module, *words, stdin=stdin)

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}


def _with_told_digest(outcome: Outcome) -> Outcome:
    told = TOLD_DIGEST.search(outcome.output) if outcome.accepted else None
    return replace(outcome, digest=told[1]) if told else outcome


def _run(words: list[str], folder: Path, environment: dict[str, str], stdin: str) -> Outcome:
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.output or b"").decode(errors="replace")
        return Outcome(124, f"{said}\n{words[0]} was ended after {PATIENCE_SECONDS} seconds")
    return Outcome(done.returncode, done.stdout.decode(errors="replace"))
