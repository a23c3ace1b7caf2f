"""The real clients. Each test gets its own; one docker engine serves all, started when first asked for."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Client, Docker, Oras, Podman, Skopeo
from tests.support.dockerd import Daemon
from tests.support.installed import require_client


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    require_client("skopeo")
    return Skopeo(tmp_path / "skopeo")


@pytest.fixture
def podman(tmp_path: Path) -> Podman:
    require_client("podman")
    return Podman(tmp_path / "podman")


@pytest.fixture
def docker(tmp_path: Path, docker_daemon: Daemon) -> Docker:
    return Docker(tmp_path / "docker", docker_daemon)


@pytest.fixture
def oras(tmp_path: Path) -> Oras:
    require_client("oras")
    return Oras(tmp_path / "oras")


@pytest.fixture(params=["skopeo", "oras", "podman", "docker"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the clients in turn, for the journeys that all of them make."""
    found: Client = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[Daemon]:
    require_client("docker")
    # Not below tmp_path: the path of the engine's socket must stay short.
    daemon = Daemon.start(Path(tempfile.mkdtemp(prefix="dockerd-")))
    yield daemon
    daemon.stop()
