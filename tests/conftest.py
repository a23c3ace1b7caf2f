"""What all tests share: one running server, made at the first need and stopped at the end."""

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.folders import keep_in_memory
from tests.support.server import Server, serving

keep_in_memory()
gc.disable()  # what is loaded and collected stays: to look for garbage in it is a third of that time
# No test asserts how long something takes: machines are busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """Nor is it looked through later."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tidewaiter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Tests share it, and never meet in it: each makes accounts of its own."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose own path leaves room for the path of a socket in it."""
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        yield Path(name)
