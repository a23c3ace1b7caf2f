"""After a fork: a server whose database was set back says so and signs nothing, until the operator opens a new log."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from registry import keys
from registry.transparency import checkpoints
from registry.transparency.notes import VerifierKey, open_note
from tests.support import world
from tests.support.books import address_of, opened
from tests.support.server import Server, serving
from tests.support.world import Tenant

CHECKPOINT = "{ auditCheckpoint { note origin size fork } }"
DONE = """
    query($action: String!) {
        auditLog(first: 9, filter: {action: $action}) { nodes { index target statedReason reason changes } }
    }
"""
LOGS = ("audit_log", "audit_checkpoint")
PARTITIONS = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
CUT_HEADS = """
    UPDATE audit_org_head h SET org_seq =
        (SELECT coalesce(max(l.org_seq), 0) FROM audit_log l WHERE l.organization_id = h.organization_id)
"""
# A command that is killed when the entry is on the books and the key not yet in its place.
KILLED = """
import os
from api.cli import main
from registry.audit import rekeying
rekeying._put_in_force = lambda _: os._exit(9)
main()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def acme(server: Server) -> Tenant:
    """Under the last of several checkpoints."""
    acme = await world.tenant(server, "acme")
    await signed_anew(server)
    await world.repository(acme, "web")
    await signed_anew(server)
    return acme


def done(server: Server, *words: str) -> str:
    told = server.command(*words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def killed(server: Server, *words: str) -> None:
    command = [sys.executable, "-c", KILLED, *words]
    cut = subprocess.run(command, env=server.variables, capture_output=True, timeout=60)
    assert cut.returncode == 9, cut.stderr


def key_of(server: Server) -> VerifierKey:
    """The one that signs."""
    (signer,) = keys.read_signers(server.folder / "data" / "keys")
    return signer.verifier


def doctor(server: Server) -> str:
    """What it says of the signing key and of the log, of which it finds fault with the last at most."""
    return "\n".join(server.command("doctor").stdout.splitlines()[-3:-1])


# Which of the two depends on how many entries were written since it was set back.
BEHIND_OR_OTHER = re.compile(
    r"BAD  The (log has (\d+) entries, but the anchor \S+ was signed for (\d+)"
    r"|first \d+ entries are not those which the anchor \S+ was signed for)\. "
    r"What to do stands in the guide to the audit log, under 'A restored database'\."
)
SIGNS = "ok   the key that signs the audit log is the one that signed it last, or has taken its place"
GOES_ON = f"{SIGNS}\nok   the audit log goes on from what was signed, in the database and at its anchors"


async def set_back(server: Server) -> None:
    """The log as a backup from before its last checkpoint would have left it, under the running server."""
    async with opened(address_of(server)) as owner, owner.transaction():
        size = await owner.fetchval("SELECT size FROM audit_tree FOR UPDATE")
        kept = await owner.fetchval("SELECT max(size) FROM audit_checkpoint WHERE size < $1", size)
        tables = [*LOGS, *(row["name"] for row in await owner.fetch(PARTITIONS))]
        for table in tables:
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        await owner.execute("DELETE FROM audit_log WHERE seq >= $1", kept)
        await owner.execute("DELETE FROM audit_checkpoint WHERE size > $1", kept)
        for table in tables:
            await owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
        leaves = b"".join(row["leaf"] for row in await owner.fetch("SELECT leaf FROM audit_log ORDER BY seq"))
        assert kept < 256, "the edge of the tree is one level"
        await owner.execute("UPDATE audit_tree SET size = $1, edge = $2", kept, [leaves])
        await owner.execute(CUT_HEADS)


async def forked(server: Server) -> None:
    await set_back(server)
    await noticed(server, lambda warnings: "audit" in warnings)


async def noticed(server: Server, wanted: Callable[[dict[str, str]], bool]) -> None:
    """When the server has looked at its log again, and /readyz warns as wanted."""
    await until(server, lambda: wanted(warnings(server)))


async def signed_anew(server: Server) -> None:
    before = len(anchored(server))
    await until(server, lambda: len(anchored(server)) > before)


async def until(server: Server, happened: Callable[[], bool]) -> None:
    """After a time in which a checkpoint becomes due."""
    server.advance(10)
    with anyio.fail_after(20):
        while not happened():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def warnings(server: Server) -> dict[str, str]:
    """What /readyz says; the server goes on serving."""
    answer = httpx2.get(f"{server.url}/readyz", verify=False)
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    found: dict[str, str] = answer.json()["warnings"]
    return found


def anchored(server: Server) -> list[str]:
    """The checkpoints that stand outside the database, oldest first."""
    path = server.folder / "data" / "audit" / "checkpoints.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["note"] for line in lines if line]


def measured(server: Server) -> float:
    found = re.search(r"^registry_audit_fork\S* (\S+)$", server.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def checkpoint_of(server: Server, user: str = "admin", password: str | None = None) -> dict[str, Any]:
    answer = await server.graphql(CHECKPOINT, user=user, password=password)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["auditCheckpoint"]
    return found


async def entries_of(server: Server, action: str) -> list[dict[str, Any]]:
    answer = await server.graphql(DONE, {"action": action})
    assert "errors" not in answer, answer
    found: list[dict[str, Any]] = answer["data"]["auditLog"]["nodes"]
    return found


async def test_a_server_whose_database_was_set_back_says_so_and_signs_nothing(server: Server, acme: Tenant) -> None:
    """The details are for those who run the installation. Entries are taken all the same."""
    assert warnings(server) == {}
    await forked(server)
    assert "not the one that was signed" in warnings(server)["audit"]
    assert "the audit log is not the one that was signed" in server.output
    assert measured(server) == 1
    signed, before = anchored(server), await checkpoint_of(server)
    assert "was signed for" in before["fork"]
    assert "Ask the operator" in (await checkpoint_of(server, acme.owner.name, acme.owner.password))["fork"]

    other = await world.tenant(server, "other")
    assert "organization.create" in [entry.action for entry in await world.entries(other)]
    server.advance(3600)
    refused = server.command("audit", "checkpoint")
    assert (refused.returncode, "no valid checkpoint" in refused.stderr) == (1, True)
    assert (await checkpoint_of(server))["note"] == before["note"]
    assert anchored(server) == signed
    assert [entry["target"] for entry in await entries_of(server, "audit.fork")] == [before["origin"]] * 2


async def test_a_new_log_goes_on_after_a_fork(server: Server, acme: Tenant, tmp_path: Path) -> None:
    """Beside the running server, which takes the new key up by itself; and nobody can miss that the old log ended."""
    old, state = key_of(server), str(tmp_path / "watch.json")
    witness = ("audit", "witness", server.url, "--key", str(old), "--state", state)
    done(server, *witness)
    await forked(server)
    last = anchored(server)[-1]

    signs, goes_on = doctor(server).splitlines()
    assert signs == SIGNS
    assert BEHIND_OR_OTHER.fullmatch(goes_on), goes_on
    told = done(server, "audit", "reopen", "--reason", "the disk was lost\nand replaced").splitlines()
    new = VerifierKey.parse(told[-1])
    assert (old.name[-8:], new.name) == ("/audit/1", f"{old.name[:-1]}2")
    assert (new.name in told[0], key_of(server)) == (True, new)
    assert doctor(server) == GOES_ON
    await noticed(server, lambda warnings: not warnings)
    now = await checkpoint_of(server)
    assert (now["origin"], now["fork"]) == (new.name, None)
    assert measured(server) == 0

    (entry,) = await entries_of(server, "audit.reopen")
    assert (entry["target"], entry["statedReason"]) == (new.name, "the disk was lost and replaced")
    assert entry["changes"]["key"] == [[str(old)], [str(new)]]
    assert entry["changes"]["last"][0][0] == last
    assert open_note(last, [old]).keys == (old,)
    first = next(note for note in anchored(server) if note.startswith(new.name))
    assert checkpoints.parse(open_note(first, [new]).text).size > entry["index"]

    await world.tenant(server, "later")
    await signed_anew(server)
    now = await checkpoint_of(server)
    assert (now["note"], now["fork"]) == (anchored(server)[-1], None)
    assert open_note(now["note"], [new]).keys == (new,)

    export = str(tmp_path / "log.jsonl")
    done(server, "audit", "export", "--output", export)
    assert "is sound" in done(server, "audit", "verify", export, "--key", str(new))
    with_the_old = server.command("audit", "verify", export, "--key", str(old))
    assert (with_the_old.returncode, "None of the keys given has signed" in with_the_old.stdout) == (1, True)
    assert "is sound" in done(server, "audit", "verify", "--database")

    ended = server.command(*witness)
    assert (ended.returncode, f"{old.name} has ended" in ended.stderr, new.name in ended.stderr) == (1, True, True)
    assert f"has taken the place of {old.name}" in done(server, *witness, "--key", str(new))
    assert "consistent with" in done(server, *witness, "--key", str(new))

    again = server.command("audit", "reopen", "--reason", "once more")
    assert (again.returncode, "nothing to reopen" in again.stderr) == (1, True)
    assert key_of(server) == new


VERIFY = ("audit", "verify", "--database")
TAMPERED = "was tampered with"


@pytest.mark.usefixtures("acme")
async def test_what_was_found_of_the_old_log_is_not_warned_of_when_the_new_one_is_sound(server: Server) -> None:
    """As where the night came between the restoring and the reopening."""
    await forked(server)
    found = server.command(*VERIFY)
    assert (found.returncode, "checkpoint" in found.stdout) == (1, True), found
    told = server.command("audit", "reopen", "--reason", "the disk was lost")
    assert (told.returncode, VerifierKey.parse(told.stdout.splitlines()[-1])) == (0, key_of(server))
    assert "the whole log is verified anew" in told.stderr
    assert "It is sound under its new name" in told.stderr
    await noticed(server, lambda warnings: not warnings)
    assert [entry["reason"] for entry in await entries_of(server, "audit.verify")][:1] == ["Sound."]


@pytest.mark.usefixtures("acme")
async def test_what_is_wrong_under_any_name_is_warned_of_in_the_new_log_too(server: Server) -> None:
    await forked(server)
    async with opened(address_of(server)) as owner:
        await owner.execute("UPDATE audit_org_head SET org_seq = org_seq + 1")
    assert server.command(*VERIFY).returncode == 1
    told = server.command("audit", "reopen", "--reason", "the disk was lost")
    assert (told.returncode, "It is not sound, and the servers go on warning: " in told.stderr) == (0, True), told
    await noticed(server, lambda warnings: TAMPERED in warnings.get("audit", ""))


@pytest.mark.usefixtures("acme")
async def test_a_reopening_that_was_cut_short_is_repeated_with_the_same_key(server: Server) -> None:
    """So that no key stands in the log that nobody has. Until then the old log is the one that is forked."""
    old = key_of(server)
    await forked(server)
    words = ("audit", "reopen", "--reason", "the disk was lost")
    killed(server, *words)
    assert key_of(server) == old
    assert "audit" in warnings(server)
    (entry,) = await entries_of(server, "audit.reopen")

    new = VerifierKey.parse(done(server, *words).splitlines()[-1])
    assert entry["changes"]["key"] == [[str(old)], [str(new)]]
    assert [one["changes"]["key"] for one in await entries_of(server, "audit.reopen")] == [entry["changes"]["key"]] * 2
    await noticed(server, lambda warnings: not warnings)
    kept = server.folder / "data" / "keys"
    assert sorted(path.name for path in kept.glob("*")) == sorted(
        ["audit-retired.vkeys", "audit-sealing.key", "audit-signing.key", "secret-hashing.key", "token-signing.pem"]
    )
    assert (kept / "audit-signing.key").stat().st_mode & 0o777 == 0o600


async def test_a_log_that_is_sound_is_not_reopened(tidewaiter: Server) -> None:
    before = key_of(tidewaiter)
    told = tidewaiter.command("audit", "reopen", "--reason", "for no reason")
    assert (told.returncode, told.stdout, "nothing to reopen" in told.stderr) == (1, "", True)
    assert key_of(tidewaiter) == before


async def test_a_key_may_retire_as_soon_as_another_signs(server: Server) -> None:
    """The log knows its own signature throughout, however little time lies between."""
    old = key_of(server)
    told = done(server, "audit", "key", "--rotate", "--all", "--reason", "it is old").split()
    new = VerifierKey.parse(told[0])
    assert told == [str(new), str(old)]
    assert open_note(anchored(server)[-1], [new, old]).keys == (new, old)
    assert doctor(server) == GOES_ON
    assert done(server, "audit", "key", "--retire").split() == [str(new)]
    assert (key_of(server), doctor(server)) == (new, GOES_ON)
    assert "is sound" in done(server, "audit", "verify", "--database")
    (entry,) = await entries_of(server, "audit.key_rotate")
    assert (entry["statedReason"], entry["changes"]["keys"]) == ("it is old", [[str(old)], told])
    await signed_anew(server)
    assert (open_note(anchored(server)[-1], [new, old]).keys, warnings(server)) == ((new,), {})
