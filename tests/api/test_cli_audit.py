"""The commands about the audit log say what they could not do, and their exits tell it from what they found."""

import errno
import gzip
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import typer

from api.cli.audit_exporting import moment
from api.cli.writing import Unwritable, written
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.notes import SignerKey, sign
from tests.support import world
from tests.support.books import address_of, opened
from tests.support.processes import COMMAND
from tests.support.server import Server, serving

DAY = 86_400
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
DONE = """
    query($action: String!) { auditLog(first: 9, filter: {action: $action}) { nodes { actor { kind } changes } } }
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as server:
        yield server


async def newest(server: Server, action: str, kind: str = "SYSTEM") -> dict[str, Any]:
    answer = await server.graphql(DONE, {"action": action})
    assert "errors" not in answer, answer
    found = [one for one in answer["data"]["auditLog"]["nodes"] if one["actor"]["kind"] == kind]
    changes: dict[str, Any] = found[0]["changes"]
    return changes


def exported(server: Server, file: Path, *words: str) -> tuple[list[dict[str, Any]], int, str]:
    """The lines, the exit and what was said beside them."""
    told = server.command("audit", "export", "--output", str(file), *words)
    return [json.loads(line) for line in file.read_text().splitlines()], told.returncode, told.stderr


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25T23:13:37.167840Z",
        "2026-11-25T23:13:37.167840+00:00",
        "2026-11-26T01:13:37.167840+02:00",
        "2026-11-25t23:13:37.167840z",
        "2026-11-25T23:13:37.167840",
        "2026-11-25 23:13:37.167840",
    ],
)
def test_a_time_is_written_as_rfc_3339_has_it(text: str) -> None:
    assert moment(text) == datetime(2026, 11, 25, 23, 13, 37, 167840, UTC)


def test_a_day_begins_in_utc() -> None:
    assert moment("2026-11-25") == datetime(2026, 11, 25, tzinfo=UTC)
    assert moment("2026-11-25T23:13:37Z") == datetime(2026, 11, 25, 23, 13, 37, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+02:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time"):
        moment(text)


async def test_an_export_begins_at_the_time_that_an_entry_shows(tidewaiter: Server, tmp_path: Path) -> None:
    await world.tenant(tidewaiter, "since")
    whole, _, _ = exported(tidewaiter, tmp_path / "whole.jsonl")
    wanted = next(line for line in whole if line["event"]["action"] == "organization.create")
    at = datetime.fromisoformat(wanted["logged_at"])
    for text in (wanted["logged_at"], at.isoformat(), at.astimezone(timezone(timedelta(hours=2))).isoformat()):
        lines, status, _ = exported(tidewaiter, tmp_path / "part.jsonl", "--since", text)
        assert (status, lines[0]["logged_at"]) == (0, wanted["logged_at"])
    wrong = tidewaiter.command("audit", "export", "--output", str(tmp_path / "none"), "--since", "yesterday")
    assert (wrong.returncode, "is no time" in wrong.stderr) == (2, True)


async def test_reading_exporting_and_verifying_are_recorded_as_pairs(tidewaiter: Server, tmp_path: Path) -> None:
    listed = tidewaiter.command("audit", "list", "--number", "3")
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 3), listed.stderr
    assert await newest(tidewaiter, "audit.read") == {"number": [None, 3]}
    exported(tidewaiter, tmp_path / "log.jsonl", "--since", "2026-01-02")
    made = {"format": [None, "jsonl"], "personal": [None, False], "since": [None, "2026-01-02T00:00:00.000000Z"]}
    assert await newest(tidewaiter, "audit.export") == made
    for form in ("ocsf", "cloudevents"):
        exported(tidewaiter, tmp_path / form, "--format", form)
        assert await newest(tidewaiter, "audit.export") == {"format": [None, form], "personal": [None, True]}
    assert tidewaiter.command("audit", "verify", "--database").returncode == 0
    found = await newest(tidewaiter, "audit.verify")
    assert found == {"sound": [None, True], "entries": [None, found["entries"][1]]}


@pytest.mark.parametrize("words", [("prove", "0"), ("export",)], ids=" ".join)
def test_what_cannot_be_written_is_told_by_the_name_given(
    tidewaiter: Server, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Of nothing that was only on the way."""
    there = tmp_path / "there"
    there.write_text("a file")
    for output, why in (
        (tmp_path / "no" / "x", f"There is no folder {tmp_path / 'no'} to write {tmp_path / 'no' / 'x'} to."),
        (there / "x", f"There is no folder {there} to write {there / 'x'} to."),
        (tmp_path, f"{tmp_path} cannot be written: Is a directory."),
    ):
        told = tidewaiter.command("audit", *words, "--output", str(output))
        assert (told.returncode, told.stdout, told.stderr) == (1, "", f"tidewaiter: {why}\n")
    assert [*tmp_path.iterdir()] == [there]


def test_a_full_disk_is_told_by_the_name_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(Unwritable, match=f"^{tmp_path / 'x'} cannot be written: No space left on device.$"),
        written(tmp_path / "x") as write,
    ):
        write(b"some of it")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("words", [("prove", "0"), ("export",)], ids=" ".join)
def test_what_is_written_is_for_its_owner_and_leaves_links_and_devices_as_they_are(
    tidewaiter: Server, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("before")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert tidewaiter.command("audit", *words, "--output", str(link)).returncode == 0
    assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o600)
    whole = tidewaiter.command("audit", *words, "--output", "-").stdout
    assert whole.splitlines()[0] == file.read_text().splitlines()[0]
    reader = subprocess.Popen(["head", "-n", "1", pipe], stdout=subprocess.PIPE, text=True)
    assert tidewaiter.command("audit", *words, "--output", str(pipe)).returncode in (0, 1), "the reader may be gone"
    assert reader.communicate(timeout=30)[0] == f"{whole.splitlines()[0]}\n"
    assert pipe.is_fifo()


def test_a_database_that_does_not_answer_is_not_tampered_with(tmp_path: Path) -> None:
    away = Server(tmp_path, {"TIDEWAITER_DATABASE_URL": NOWHERE}).command("audit", "verify", "--database")
    assert (away.returncode, "The database cannot be used" in away.stderr) == (2, True), away


def test_a_checkpoint_that_is_none_of_this_log_is_never_passed_over(tidewaiter: Server, tmp_path: Path) -> None:
    """Another log's, no note, no text, missing: with the database and with an export."""
    name = "other.example/audit/1"
    (tmp_path / "elsewhere").write_text(sign(Checkpoint(name, 0, bytes(32)).text, [SignerKey.generate(name)]))
    (tmp_path / "no note").write_text("hello\n")
    (tmp_path / "no text").write_bytes(b"\xff")
    export, key = tmp_path / "log.jsonl", str(SignerKey.generate("log.example/audit/1").verifier)
    export.touch()
    for words, given in (
        (("--database",), "elsewhere"),
        (("--database",), "no note"),
        (("--database",), "missing"),
        ((str(export), "--key", key), "elsewhere"),
        ((str(export), "--key", key), "no text"),
    ):
        told = tidewaiter.command("audit", "verify", *words, "--checkpoint", str(tmp_path / given))
        assert (told.returncode, f"The checkpoint {tmp_path / given}" in told.stdout) == (2, True), told
        assert "was not verified" in told.stdout


def test_a_checkpoint_of_this_log_is_compared(tidewaiter: Server, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(tidewaiter.command("audit", "checkpoint").stdout)
    told = tidewaiter.command("audit", "verify", "--database", "--checkpoint", str(kept))
    assert (told.returncode, "is sound" in told.stdout) == (0, True), told


def test_a_wrong_key_is_the_first_thing_to_look_for(tidewaiter: Server, tmp_path: Path) -> None:
    export = tmp_path / "log.jsonl"
    assert exported(tidewaiter, export)[1] == 0
    other = SignerKey.generate(f"{tidewaiter.registry}/audit/1").verifier
    told = tidewaiter.command("audit", "verify", str(export), "--key", str(other))
    assert told.returncode == 1
    assert told.stdout.startswith(f"{export} is signed by none of the keys given. Look first whether the key is")


def test_a_file_that_unpacks_to_more_than_memory_holds_is_no_export(tmp_path: Path) -> None:
    """Nothing but a finding ends with 1."""
    bomb, gibibyte = tmp_path / "log.jsonl.gz", 2**30
    bomb.write_bytes(gzip.compress(bytes(gibibyte // 16)) * 64)
    key = str(SignerKey.generate("log.example/audit/1").verifier)
    told = subprocess.run(
        [COMMAND, "audit", "verify", str(bomb), "--key", key],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (gibibyte, gibibyte)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (told.returncode, "A line is longer than" in told.stdout) == (2, True), told


def test_what_cannot_be_signed_is_told(server: Server, tmp_path: Path) -> None:
    """An anchor that takes no more. What was signed before is given, and is never taken for all there is."""
    file, words = tmp_path / "log.jsonl", ("audit", "checkpoint")
    signed, status, _ = exported(server, file)
    note = server.command(*words).stdout
    assert status == 0
    anchor = server.folder / "data" / "audit" / "checkpoints.jsonl"
    anchor.unlink()
    anchor.mkdir()
    lines, status, said = exported(server, file)
    assert (status, len(lines) >= len(signed)) == (2, True)
    assert "1 entry is not signed yet, and left out: The anchor" in said
    again = server.command(*words)
    assert (again.returncode, again.stdout, "This is an older checkpoint." in again.stderr) == (0, note, True)
    verified = server.command("audit", "verify", "--database")
    assert (verified.returncode, "The anchor" in verified.stdout) == (2, True), verified


async def test_what_was_dropped_is_told(server: Server, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    await world.tenant(server, "earlier")
    server.advance(((now.replace(day=1) + timedelta(days=32)).replace(day=2) - now).total_seconds())
    await world.tenant(server, "later")
    month, folder = f"{now:%Y-%m}", tmp_path / "archive"
    for words in (("archive", "--month", month, "--to", str(folder)), ("drop", "--month", month)):
        told = server.command("audit", *words)
        assert told.returncode == 0, told.stderr
    archive = f"{month} ({folder / f'audit-{month}.jsonl.gz'})"
    for since in ([], ["--since", f"{month}-01"]):
        lines, status, said = exported(server, tmp_path / "log.jsonl", *since)
        assert (status, archive in said) == (0, True), said
    assert archive not in exported(server, tmp_path / "log.jsonl", "--since", f"{lines[0]['logged_at']}")[2]
    verified = server.command("audit", "verify", "--database")
    first, last = lines[0]["seq"], lines[-2]["seq"] + 1  # the export made since is one more
    assert f"numbered {first} to {last}, of {last + 1}" in verified.stdout, verified


async def set_target(server: Server, index: int, target: str) -> str:
    """As the owner of the database may, with the triggers off; what stood there before."""
    async with opened(address_of(server)) as owner, owner.transaction():
        row = "SELECT tableoid::regclass::text AS name, target FROM audit_log WHERE seq = $1"
        found = await owner.fetchrow(row, index)
        await owner.execute(f"ALTER TABLE {found['name']} DISABLE TRIGGER ALL")
        await owner.execute("UPDATE audit_log SET target = $2 WHERE seq = $1", index, target)
        await owner.execute(f"ALTER TABLE {found['name']} ENABLE TRIGGER ALL")
    before: str = found["target"]
    return before


async def warned(server: Server, warning: str | None) -> None:
    """Returns when /readyz warns so of the log, or of nothing."""
    with anyio.fail_after(20):
        while httpx2.get(f"{server.url}/readyz", verify=False).json()["warnings"].get("audit") != warning:  # noqa: ASYNC110
            await anyio.sleep(0.1)


async def test_what_verify_finds_in_the_database_is_what_a_running_server_warns_of(server: Server) -> None:
    """Until it is verified again, be it at once or in the night."""
    await world.tenant(server, "found")
    verify = ("audit", "verify", "--database")
    assert server.command(*verify).returncode == 0
    before = await set_target(server, 1, "another")
    told = server.command(*verify)
    assert (told.returncode, "Entry 1: a column of the table" in told.stdout) == (1, True), told
    await warned(server, "The audit log in the database was tampered with; see the server's log.")
    assert "Entry 1: a column of the table" in server.output
    await set_target(server, 1, before)
    assert server.command(*verify).returncode == 0
    await warned(server, None)


async def test_a_checkpoint_that_nobody_signed_is_no_finding_of_the_database(server: Server, tmp_path: Path) -> None:
    (tmp_path / "forged").write_text(forged(server.command("audit", "checkpoint").stdout))
    told = server.command("audit", "verify", "--database", "--checkpoint", str(tmp_path / "forged"))
    assert (told.returncode, "None of the keys given has signed it" in told.stdout) == (2, True), told
    async with opened(address_of(server)) as owner:
        assert await owner.fetchval("SELECT finding FROM audit_scrub") is None


def forged(note: str) -> str:
    """By a key of the same name."""
    text, _, _ = note.rpartition("\n\n")
    return sign(f"{text}\n", [SignerKey.generate(text.partition("\n")[0])])
