"""An entry that was archived and dropped: who may hear where it went, and that it still is proven."""

import gzip
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry import keys
from registry.audit.proven import verify_entry
from registry.audit.verdicts import INCOMPLETE, SOUND
from registry.transparency import checkpoints
from registry.transparency.merkle import leaf_hash, verify_inclusion
from registry.transparency.notes import VerifierKey, open_note
from tests.api.schema.asking import ADMIN, NOBODY, ask, code_of, told
from tests.support import world
from tests.support.server import Server, serving
from tests.support.world import Tenant

DAY = 86_400
ENTRY = "query($index: BigInt!) { auditEntry(index: $index) { index } }"
PROOF = """
    query($index: BigInt!, $size: BigInt) {
        auditProof(index: $index, size: $size) { index size root leafHash entry proof checkpoint text }
    }
"""
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
READS = '{ auditLog(first: 1, filter: {action: "audit.read", outcome: FAILED}) { nodes { reasonCode reason } } }'


@dataclass(frozen=True, slots=True)
class Gone:
    """What was dropped: entries from 0 on, under these numbers, and the file they are in."""

    server: Server
    acme: Tenant
    month: str
    archive: Path
    entries: dict[int, bytes]

    @property
    def key(self) -> VerifierKey:
        return keys.read_signers(self.server.folder / "data" / "keys")[0].verifier


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("archived") / "server") as server:
        yield server


@pytest.fixture(scope="module")
async def gone(server: Server) -> AsyncIterator[Gone]:
    """The first month of a server, in which a tenant came and a tile was filled; the tenant is still there."""
    acme = await world.tenant(server, "acme")
    for _ in range(3):
        await ask(server, NODES, ADMIN, ids=[f"audit_{index}" for index in range(100)])
    month = (await world.now(acme)).strftime("%Y-%m")
    server.advance(32 * DAY)
    await world.repository(acme, "web")
    folder = server.folder / "archive"
    command(server, "audit", "archive", "--month", month, "--to", str(folder))
    command(server, "audit", "drop", "--month", month)
    archive = folder / f"audit-{month}.jsonl.gz"
    yield Gone(server, acme, month, archive, entries_in(archive))


def command(server: Server, *words: str) -> str:
    came = server.command(*words)
    assert came.returncode == 0, came.stderr
    return came.stdout


def entries_in(archive: Path) -> dict[int, bytes]:
    with gzip.open(archive) as lines:
        read = [json.loads(line) for line in lines]
    return {one["seq"]: b64decode(one["entry"]) for one in read if "seq" in one}


async def refusal(gone: Gone, query: str, by: world.Person, **given: Any) -> dict[str, Any]:
    """The one error of the answer, whose data is null."""
    answer = await told(gone.server, query, by, **given)
    (error,) = answer["errors"]
    assert list(answer["data"].values()) == [None]
    return {"message": error["message"], **error["extensions"]}


async def test_administrators_hear_where_an_entry_went(gone: Gone) -> None:
    """And that they asked in vain stands in the log, like all reading of it."""
    for index in (min(gone.entries), max(gone.entries)):
        error = await refusal(gone, ENTRY, ADMIN, index=index)
        assert (error["code"], error["month"], error["archive"]) == ("ENTRY_ARCHIVED", gone.month, str(gone.archive))
        assert f"Entry {index} is of {gone.month}" in error["message"]
        assert f'"seq":{index}' in error["message"]
    assert f'"seq":{index}'.encode() in gzip.decompress(gone.archive.read_bytes())
    (read,) = (await ask(gone.server, READS, ADMIN))["auditLog"]["nodes"]
    assert read == {"reasonCode": "ENTRY_ARCHIVED", "reason": error["message"]}


@pytest.mark.parametrize("place", [3, -1], ids=["in a full tile", "at the edge of the tree"])
async def test_an_entry_that_left_is_proven_by_its_hash(gone: Gone, place: int) -> None:
    """The bytes out of the archive, the proof out of the database."""
    index, entry = list(gone.entries.items())[place]
    assert (index < 256) == (place == 3)
    found = (await ask(gone.server, PROOF, ADMIN, index=index))["auditProof"]
    assert (found["index"], found["entry"], b64decode(found["leafHash"])) == (index, None, leaf_hash(entry))
    verdict = verify_entry(found["text"], [gone.key], entry=entry)
    assert (verdict.status, verdict.since, verdict.size) == (SOUND, index, found["size"])
    assert verify_entry(found["text"], [gone.key]).status == INCOMPLETE, "the text does not hold what is not here"
    checkpoint = checkpoints.parse(open_note(found["checkpoint"], [gone.key]).text)
    hashes = [b64decode(one) for one in found["proof"]]
    verify_inclusion(index, found["size"], leaf_hash(entry), hashes, checkpoint.root)
    small = (await ask(gone.server, PROOF, ADMIN, index=index, size=index + 1))["auditProof"]
    hashes = [b64decode(one) for one in small["proof"]]
    verify_inclusion(index, index + 1, leaf_hash(entry), hashes, b64decode(small["root"]))


async def test_the_operator_makes_the_proof_without_the_entry(gone: Gone, tmp_path: Path) -> None:
    """And hears where its bytes are, and how to cut them out."""
    index = [*gone.entries][3]
    proof, line = tmp_path / "proof", tmp_path / "line"
    came = gone.server.command("audit", "prove", str(index), "--output", str(proof))
    assert (came.returncode, proof.stat().st_mode & 0o777) == (0, 0o600), came.stderr
    for said in (f"Entry {index} is of {gone.month}", str(gone.archive), f'"seq":{index},', f"verify {proof} --entry"):
        assert said in came.stderr
    cut = next(one for one in gzip.decompress(gone.archive.read_bytes()).splitlines() if b'"seq":%d,' % index in one)
    line.write_bytes(cut + b"\n")
    words = ("audit", "verify", str(proof), "--key", str(gone.key))
    assert gone.server.command(*words).returncode == INCOMPLETE
    told = gone.server.command(*words, "--entry", str(line))
    assert (told.returncode, f"numbered {index}, of" in told.stdout) == (SOUND, True), told
    beyond = gone.server.command("audit", "prove", "999999", "--output", "-")
    assert (beyond.returncode, "none of them number 999999" in beyond.stderr) == (1, True)


async def test_owners_of_accounts_hear_that_it_left_and_nothing_more(gone: Gone) -> None:
    """Whose it was cannot be told any more: the words are the same for their own and for others'."""
    other = await world.tenant(gone.server, "other")
    for owner in (gone.acme.owner, other.owner):
        for query in (ENTRY, PROOF):
            error = await refusal(gone, query, owner, index=3)
            assert error["code"] == "ENTRY_ARCHIVED"
            assert "Ask the operator" in error["message"]
            assert error.keys().isdisjoint({"month", "archive"})
            assert not any(word in str(error) for word in (gone.month, gone.archive.name, str(gone.server.folder)))


async def test_who_could_not_have_read_it_hears_nothing(gone: Gone) -> None:
    reader = await world.user(gone.acme, "reader", level="READ")
    for query in (ENTRY, PROOF):
        assert list((await ask(gone.server, query, reader, index=3)).values()) == [None]
        assert await code_of(gone.server, query, NOBODY, index=3) == "SIGN_IN_NEEDED"


async def test_what_is_not_in_the_log_is_null_as_before(gone: Gone) -> None:
    for person in (ADMIN, gone.acme.owner):
        for query in (ENTRY, PROOF):
            for index in (2**40, -1):
                assert list((await ask(gone.server, query, person, index=index)).values()) == [None]
    there = max(gone.entries) + 1
    assert (await ask(gone.server, ENTRY, ADMIN, index=there))["auditEntry"] == {"index": there}
    assert (await ask(gone.server, PROOF, ADMIN, index=there))["auditProof"]["entry"]


async def test_among_many_ids_one_that_left_is_null(gone: Gone) -> None:
    """It does not keep the others back."""
    there = f"audit_{max(gone.entries) + 1}"
    found = (await ask(gone.server, NODES, ADMIN, ids=["audit_3", there]))["nodes"]
    assert found == [None, {"id": there}]
