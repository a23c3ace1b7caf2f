"""An anchor that does not come back: it is said, costs one thread, and keeps nobody from ending."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from registry.audit.anchors import MOST_AWAY, AnchorFailed, Aside, FileAnchor
from tests.support.server import serving


@pytest.fixture
def gone(tmp_path: Path) -> Path:
    """A file that cannot be opened without an end, like one of a mount that went away."""
    path = tmp_path / "gone" / "checkpoints.jsonl"
    path.parent.mkdir()
    os.mkfifo(path)
    return path


def come_back(path: Path) -> None:
    """Who hangs in opening it is let go, at its end."""
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


async def test_what_hangs_is_told_and_asked_no_more(gone: Path) -> None:
    anchor, before = FileAnchor(gone), threading.active_count()
    waiting = asyncio.create_task(anchor.newest())
    await asyncio.sleep(0)
    waiting.cancel()
    for asked in (anchor.newest(), anchor.put("a note"), anchor.newest()):
        with pytest.raises(AnchorFailed, match="does not answer"):
            await asked
    assert threading.active_count() == before + 1
    come_back(gone)


async def test_it_is_asked_again_when_it_has_come_back(tmp_path: Path) -> None:
    aside, away = Aside("a file"), threading.Event()
    with pytest.raises(AnchorFailed):
        await aside.run(away.wait, seconds=0)
    away.set()
    while True:
        try:
            assert await aside.run(lambda: "here") == "here"
            break
        except AnchorFailed:
            await asyncio.sleep(0)


async def test_what_hangs_for_good_does_not_keep_what_is_there_again_from_being_asked() -> None:
    """With one thread for each time, and not for ever."""
    aside, never = Aside("a file", again=0), threading.Event()
    for _ in range(3):
        with pytest.raises(AnchorFailed):
            await aside.run(never.wait, seconds=0)
    assert await aside.run(lambda: "here") == "here"
    for _ in range(MOST_AWAY):
        with pytest.raises(AnchorFailed):
            await aside.run(never.wait, seconds=0)
    with pytest.raises(AnchorFailed):
        await aside.run(lambda: "here")
    never.set()


async def test_who_asks_together_is_answered_in_turn() -> None:
    aside = Aside("a file")
    found = await asyncio.gather(*(aside.run(str, number) for number in range(20)))
    assert found == [str(number) for number in range(20)]


async def test_what_goes_wrong_there_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        await Aside("a file").run(lambda: 1 // 0)


def test_a_server_ends_while_its_anchor_hangs(tmp_path: Path, gone: Path) -> None:
    with serving(tmp_path / "server", TIDEWAITER_AUDIT_ANCHORS=f"file://{gone}") as server:
        assert server.stop(signal.SIGTERM) == 0
