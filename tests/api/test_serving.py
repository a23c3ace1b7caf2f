"""The life of the server as a process: how it starts, what it survives, how it ends, and what works beside it.

No process may be left where a server worked: every test looks. The servers here, and the commands beside them, are
begun by the system, in a folder that they have made themselves.
"""

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import httpx2
import pytest

from registry.storage import embedded, postgres_binaries, revisions
from registry.storage.database import connect
from tests.support import world
from tests.support.handmade import Door, digest_of, knocking
from tests.support.images import payload
from tests.support.processes import COMMAND
from tests.support.server import SERVE, STOP_SECONDS, Server

MEBIBYTE = 1024 * 1024
NOBODY = pwd.getpwnam("nobody").pw_uid

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="LOUD: reads /proc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can run this as somebody else")
pytestmark = on_linux


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a server was started once and stopped. Its copies spare the other tests the making."""
    folder = tmp_path_factory.mktemp("made") / "server"
    server = Server(folder, words=SERVE)
    server.start()
    assert server.stop() == 0
    return folder


@pytest.fixture
def server(made: Path, tmp_path: Path) -> Iterator[Server]:
    """Not started. It leaves nothing at work, however the test ends."""
    server = Server(tmp_path / "server", words=SERVE)
    shutil.copytree(made / "data", server.folder / "data")
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop(signal.SIGKILL)
    for pid in at_work(server.folder):
        os.kill(pid, signal.SIGKILL)


def at_work(folder: Path) -> list[int]:
    """The processes that were told to work in the folder, or do: PostgreSQL works in its data folder."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _is_at_work(each, folder)]


def _is_at_work(process: Path, folder: Path) -> bool:
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        told = f"TIDEWAITER_DATA={folder}/data".encode() in (process / "environ").read_bytes().split(b"\0")
        return told or (process / "cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


async def until(happened: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not happened():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def postmaster(server: Server) -> int | None:
    found = embedded.running(server.folder / "data" / "postgres")
    return found.pid if found else None


async def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(server.command, *words)


async def begin(server: Server) -> None:
    await asyncio.to_thread(server.start)


async def end(server: Server, number: int = signal.SIGTERM) -> int:
    return await asyncio.to_thread(server.stop, number)


# --- killed -----------------------------------------------------------------------------------------------------------


async def test_after_a_kill_all_is_there_and_an_upload_goes_on(server: Server) -> None:
    """Of the chunk that was on its way nothing counts. The database is met again if it lives, and else mended."""
    server.environment = {"TIDEWAITER_EMBEDDED_FSYNC": "on"}
    await begin(server)
    acme = await world.tenant(server, "acme")
    repository, layer, large = f"{acme.organization}/web", payload("kept", 5000), payload("large", 4 * MEBIBYTE)
    async with knocking(server, acme.owner) as door:
        manifest = await door.push_image(repository, "1.0", layer)
        upload = await door.begin_upload(repository)
        assert (await door.patch(upload, content=large[:MEBIBYTE])).status_code == 202
    async with await anyio.connect_tcp("127.0.0.1", server.port) as sender:
        await sender.send(half_a_chunk(door, upload, large[MEBIBYTE:]))
        await until(lambda: staged_bytes(server) >= 2 * MEBIBYTE)
        database = postmaster(server)
        await end(server, signal.SIGKILL)
    await begin(server)
    assert postmaster(server) == database
    async with knocking(server, acme.owner) as door:
        assert (await door.get(f"/v2/{repository}/blobs/{digest_of(layer)}")).content == layer
        server.advance(61)  # the lease of the request that was killed
        assert (await door.get(upload)).headers["range"] == f"0-{MEBIBYTE - 1}"
        rest = {"Content-Range": f"{MEBIBYTE}-{len(large) - 1}"}
        assert (await door.patch(upload, content=large[MEBIBYTE:], headers=rest)).status_code == 202
        assert (await door.put(f"{upload}?digest={digest_of(large)}")).status_code == 201
        await end(server, signal.SIGKILL)
        assert database is not None
        os.kill(database, signal.SIGKILL)
        await begin(server)
        assert postmaster(server) != database
        assert (await door.get(f"/v2/{repository}/manifests/1.0")).content == manifest
        assert (await door.get(f"/v2/{repository}/blobs/{digest_of(large)}")).content == large
    assert await end(server) == 0
    assert at_work(server.folder) == []


async def test_a_database_that_dies_under_it_is_started_again(server: Server) -> None:
    server.environment = {"TIDEWAITER_EMBEDDED_FSYNC": "on"}
    await begin(server)
    acme = await world.tenant(server, "acme")
    database = postmaster(server)
    assert database is not None
    os.kill(database, signal.SIGKILL)
    await until(lambda: postmaster(server) not in {None, database} and server.is_ready())
    async with knocking(server, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", b"a layer")
    assert await end(server) == 0
    assert at_work(server.folder) == []


def half_a_chunk(door: Door, upload: str, chunk: bytes) -> bytes:
    """A request that announces the chunk and brings half of it."""
    request = door.build_request("PATCH", upload, headers={"Content-Length": str(len(chunk))})
    signed = next(door.auth.auth_flow(request)) if door.auth else request
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.headers.items())
    return f"PATCH {request.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode() + chunk[: len(chunk) // 2]


def staged_bytes(server: Server) -> int:
    staged = (server.folder / "data" / "blobs" / "uploads").iterdir()
    return max((path.stat().st_size for path in staged), default=0)


# --- stopped ----------------------------------------------------------------------------------------------------------


async def test_told_to_end_it_finishes_what_it_has_begun(server: Server) -> None:
    await begin(server)
    acme = await world.tenant(server, "acme")
    content = payload("begun", 4 * MEBIBYTE)
    async with knocking(server, acme.owner) as door:
        request = half_a_chunk(door, await door.begin_upload(f"{acme.organization}/web"), content)
    async with await anyio.connect_tcp("127.0.0.1", server.port) as sender:
        await sender.send(request)
        await until(lambda: staged_bytes(server) >= MEBIBYTE)
        ending = asyncio.create_task(end(server, signal.SIGTERM))
        await until(lambda: '"event":"stopping"' in server.output)
        await sender.send(content[len(content) // 2 :])
        assert (await sender.receive()).startswith(b"HTTP/1.1 202 ")
    assert await ending == 0
    assert at_work(server.folder) == []
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("number", "words"), [(signal.SIGTERM, "serve"), (signal.SIGINT, "user list")])
async def test_a_signal_during_the_start_leaves_no_database(server: Server, number: signal.Signals, words: str) -> None:
    log = server.folder / "data" / "postgres" / "postgres.log"
    log.unlink(missing_ok=True)
    starting = begun([COMMAND, *words.split()], server)
    await until(log.exists)
    starting.send_signal(number)
    assert await asyncio.to_thread(starting.wait, STOP_SECONDS) == 128 + number
    assert server.output == ""
    assert at_work(server.folder) == []


def begun(words: Sequence[str | Path], server: Server) -> subprocess.Popen[bytes]:
    """What it says goes where the server's output goes."""
    server.folder.mkdir(exist_ok=True)
    with (server.folder / "output").open("wb") as output:
        server.process = subprocess.Popen(
            words, env=server.variables, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    return server.process


# --- beside a running one ---------------------------------------------------------------------------------------------


async def test_commands_beside_it_use_its_database_and_leave_it_running(tidewaiter: Server) -> None:
    before = postmaster(tidewaiter)
    acme = await world.tenant(tidewaiter, "acme")
    listed = await command(tidewaiter, "user", "list")
    assert (listed.returncode, acme.owner.name in listed.stdout) == (0, True), listed.stderr
    changed = await asyncio.to_thread(
        tidewaiter.command, "user", "password", acme.owner.name, "--stdin", stdin="a new password\n"
    )
    assert changed.returncode == 0, changed.stderr
    answer = await tidewaiter.graphql("{ viewer { user { name } } }", user=acme.owner.name, password="a new password")
    assert acme.owner.name in json.dumps(answer)
    assert postmaster(tidewaiter) == before


async def test_a_port_in_use_is_named_with_the_setting_to_change(tidewaiter: Server, tmp_path: Path) -> None:
    """And costs nothing: no database was started for it."""
    second = Server(tmp_path / "second", port=tidewaiter.port)
    refused = await command(second, "serve")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"tidewaiter: cannot listen on 127.0.0.1:{tidewaiter.port}: Address already in use. "
        "Set TIDEWAITER_LISTEN to another.\n"
    )
    assert not (tmp_path / "second" / "data" / "postgres").exists()


async def test_a_taken_port_for_metrics_that_nobody_chose_is_no_hindrance(server: Server) -> None:
    """Prometheus itself listens there."""
    with socket.socket() as prometheus:
        with suppress(OSError):  # then somebody else has it, which is as good
            prometheus.bind(("127.0.0.1", 9090))
            prometheus.listen()
        ours = Server(server.folder, {"TIDEWAITER_ADMIN_LISTEN": ""}, words=SERVE)
        await begin(ours)
    try:
        told = re.search(r"Metrics are at +(http://127.0.0.1:(\d+)/metrics)", ours.output)
        assert told is not None
        assert told[2] != "9090"
        assert httpx2.get(told[1], verify=False).status_code == 200
    finally:
        assert await end(ours) == 0


async def test_a_second_server_on_the_same_data_says_so_and_outlives_the_first(server: Server) -> None:
    await begin(server)
    assert "another server" not in server.output
    second = Server(server.folder / "second", {"TIDEWAITER_DATA": str(server.folder / "data")}, words=SERVE)
    await begin(second)
    try:
        assert f"another server is at work on the same data, {server.folder}/data" in second.output
        assert await end(server, signal.SIGINT) == 0
        assert "Traceback" not in server.output
        assert second.is_ready()
        await world.tenant(second, "acme")
    finally:
        assert await end(second) == 0
    assert at_work(server.folder) == []


# --- a database of one's own ------------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere(made: Path, short_path: Path) -> AsyncIterator[embedded.Server]:
    """A PostgreSQL that the server only knows by its address, which stays; its database is empty."""
    folder = short_path / "elsewhere"
    shutil.copytree(made / "data" / "postgres", folder)
    database = await embedded.start(folder, durable=False)
    connection = await connect(database.dsn.replace("/tidewaiter?", "/postgres?"))
    await connection.execute("DROP DATABASE tidewaiter")
    await connection.execute("DROP ROLE IF EXISTS tidewaiter_app")
    await connection.execute("CREATE DATABASE tidewaiter")
    await connection.close()
    yield database
    await embedded.stop(embedded.running(folder) or database)


async def test_a_database_of_ones_own_is_migrated_once_then_served_and_may_go_and_come_back(
    elsewhere: embedded.Server, tmp_path: Path
) -> None:
    server = Server(tmp_path / "server", {"TIDEWAITER_DATABASE_URL": elsewhere.dsn}, words=SERVE)
    refused = await command(server, "serve")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"tidewaiter: The database is at revision none, this version needs {revisions.newest()}: "
        "run 'tidewaiter migrate'.\n"
    )
    both = await asyncio.gather(command(server, "migrate"), command(server, "migrate"))
    said = f"The database is at revision {revisions.newest()}.\n"
    assert [(each.returncode, each.stdout, each.stderr) for each in both] == [(0, said, "")] * 2
    await begin(server)
    try:
        assert not (server.folder / "data" / "postgres").exists()
        await serves_while_its_database_goes_and_comes(server, elsewhere)
    finally:
        assert await end(server) == 0
    assert at_work(server.folder) == []


async def serves_while_its_database_goes_and_comes(server: Server, database: embedded.Server) -> None:
    acme = await world.tenant(server, "acme")
    async with knocking(server, acme.owner) as door:
        manifest = await door.push_image(f"{acme.organization}/web", "1.0", b"a layer")
        await embedded.stop(database)
        await until(lambda: not server.is_ready())
        unready = await door.get("/readyz")
        assert unready.status_code == 503
        assert unready.json()["problems"] == {"database": "The database does not answer."}
        assert (await door.get("/healthz")).status_code == 200
        refused = await door.get(f"/v2/{acme.organization}/web/manifests/1.0")
        assert refused.status_code == 503
        await embedded.start(database.folder, durable=False)
        await until(server.is_ready)
        assert (await door.get(f"/v2/{acme.organization}/web/manifests/1.0")).content == manifest
        assert await door.push_image(f"{acme.organization}/web", "2.0", b"another layer")


async def test_a_database_that_does_not_answer_is_told_in_a_sentence(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", {"TIDEWAITER_DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/registry"})
    refused = await command(server, "serve")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("tidewaiter: The database cannot be used: ")
    assert "check that it is right" in refused.stderr
    assert "hunter2" not in refused.stderr


# --- the doctor -------------------------------------------------------------------------------------------------------


async def test_the_doctor_finds_nothing_wrong_where_nothing_is(server: Server) -> None:
    """Alone it starts the database, and stops it."""
    server.environment = {"TIDEWAITER_EMBEDDED_FSYNC": "on"}
    seen = await command(server, "doctor")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert [line[:3] for line in seen.stdout.splitlines()] == ["ok "] * 9
    assert at_work(server.folder) == []


async def test_the_doctor_names_each_thing_that_is_wrong(tmp_path: Path) -> None:
    """The first does not keep it from seeing the next."""
    (tmp_path / "file").touch()
    wrong = {"DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/registry", "BLOBS": f"file://{tmp_path}/file"}
    server = Server(tmp_path / "server", {f"TIDEWAITER_{name}": value for name, value in wrong.items()})
    seen = await command(server, "doctor")
    assert (seen.returncode, seen.stderr) == (1, "")
    good, database, blobs = seen.stdout.splitlines()
    assert good.startswith("ok   settings are read")
    assert database.startswith("BAD  The database cannot be used")
    assert blobs.startswith(f"BAD  blobs cannot be stored in {tmp_path}/file")
    assert "hunter2" not in seen.stdout


# --- as an ordinary user ----------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where every user may enter; pytest's own folders are private."""
    place = Path(tempfile.mkdtemp(prefix="open-"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def nobody_can_run_it() -> bool:
    """An installation or an interpreter below a private home is out of reach for anybody but its owner."""
    tests = [[sys.executable, "-c", "import registry"], [postgres_binaries.find().program("postgres"), "--version"]]
    ran = [subprocess.run([*AS_NOBODY, *test], check=False, cwd="/", capture_output=True) for test in tests]
    return all(each.returncode == 0 for each in ran)


@as_root
async def test_an_ordinary_user_serves_from_a_folder_of_its_own(open_folder: Path) -> None:
    if not await asyncio.to_thread(nobody_can_run_it):
        pytest.skip("LOUD: the user nobody cannot reach the installation, so an ordinary user's server is not tested")
    server = Server(open_folder / "server", {"TIDEWAITER_DATA": str(open_folder / "own" / "data")})
    process = begun([*AS_NOBODY, *SERVE], server)
    try:
        await until(lambda: process.poll() is not None or server.is_ready())
        assert server.is_ready(), server.output
        assert owners_of(at_work(open_folder / "own")) == {NOBODY}
    finally:
        assert await end(server) == 0
    assert at_work(open_folder / "own") == []


def owners_of(processes: Sequence[int]) -> set[int]:
    """PostgreSQL has processes that come and go."""
    found = set()
    for pid in processes:
        with suppress(FileNotFoundError):
            found.add(Path(f"/proc/{pid}").stat().st_uid)
    return found


def test_who_comes_as_soon_as_they_are_welcome_is_not_turned_away(short_path: Path) -> None:
    server = Server(short_path)
    with subprocess.Popen(SERVE, env=server.variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert any(b"Tidewaiter is at" in line for line in process.stdout)
            assert httpx2.get(f"{server.url}/healthz", verify=False).status_code == 200
        finally:
            process.terminate()
