"""The files of keys without which a database that was used is of no use: missed, and never taken for others."""

from collections.abc import Iterator

import pytest

from registry import keys
from registry.transparency.notes import SignerKey, VerifierKey
from tests.support import world
from tests.support.server import Server, serving

GOOD = "ok   the key that signs the audit log is the one that signed it last, or has taken its place"
GOES_ON = "ok   the audit log goes on from what was signed, in the database and at its anchors"
REOPENED = """
    { auditLog(first: 9, filter: {action: "audit.reopen"}) { nodes { target statedReason changes } } }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("keys") / "server") as server:
        yield server


@pytest.fixture
async def stopped(server: Server) -> Server:
    """After something was signed and sealed."""
    if server.process is None:
        server.start()
    await world.tenant(server, "acme")
    server.command("audit", "checkpoint")
    assert server.stop() == 0
    server.process = None
    return server


def doctor(server: Server) -> list[str]:
    return server.command("doctor").stdout.splitlines()


@pytest.mark.parametrize("name", ["audit-signing.key", "audit-sealing.key"])
async def test_nothing_starts_without_a_key_that_the_database_was_used_with(stopped: Server, name: str) -> None:
    """Made anew, it would pass for the one that is lost."""
    file = stopped.folder / "data" / "keys" / name
    kept = file.read_text()
    file.unlink()
    for words in (("serve",), ("audit", "checkpoint")):
        refused = stopped.command(*words)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert f"tidewaiter: {file} is missing, and is not made anew. Put it back from a backup" in refused.stderr
    assert not file.exists()
    assert any(line.startswith("BAD") and name in line for line in doctor(stopped))
    file.write_text(kept)
    assert {GOOD, GOES_ON} <= set(doctor(stopped))
    stopped.start()


async def test_the_doctor_knows_a_key_that_has_signed_nothing_of_the_log(stopped: Server) -> None:
    file = stopped.folder / "data" / "keys" / "audit-signing.key"
    kept = file.read_text()
    (right,) = keys.read_signers(file.parent)
    for name in (right.name, "elsewhere.example/audit/1"):
        keys.keep_signers(file.parent, [SignerKey.generate(name)])
        wrong = f"BAD  {file} is not the key that signed the audit log in this database, which is named {right.name}."
        assert any(line.startswith(wrong) for line in doctor(stopped))
    file.write_text("nothing of a key")
    assert any(line.startswith(f"BAD  {file} cannot be read: ") for line in doctor(stopped))
    file.write_text(kept)
    assert {GOOD, GOES_ON} <= set(doctor(stopped))


async def test_a_new_log_goes_on_where_the_key_is_lost_for_good(stopped: Server) -> None:
    """Nobody has to know the key that stood in for it."""
    folder = stopped.folder / "data" / "keys"
    (lost,) = keys.read_signers(folder)
    reopen = ("audit", "reopen", "--lost-key", "--reason", "the disk was lost")
    refused = stopped.command(*reopen)
    assert (refused.returncode, "No key of this log is lost" in refused.stderr) == (1, True), refused
    (folder / "audit-signing.key").unlink()

    told = stopped.command(*reopen)
    assert told.returncode == 0, told
    new = VerifierKey.parse(told.stdout.splitlines()[-1])
    assert (new.name, keys.read_signers(folder)[0].verifier) == (f"{lost.name[:-1]}2", new)
    assert keys.read_retired(folder) == ()
    assert {GOOD, GOES_ON} <= set(doctor(stopped))
    stopped.start()
    (entry,) = (await stopped.graphql(REOPENED))["data"]["auditLog"]["nodes"]
    assert (entry["target"], entry["statedReason"]) == (new.name, "the disk was lost")
    assert entry["changes"]["key"] == [[], [str(new)]]
    assert entry["changes"]["last"][0][0].startswith(lost.name)
    assert stopped.command("audit", "verify", "--database").returncode == 0
