"""Proofs through GraphQL, checked by the public key and the bytes alone."""

from base64 import b64decode
from typing import Any

import pytest

from registry.audit.proven import verify_entry
from registry.audit.verdicts import SOUND
from registry.transparency import checkpoints
from registry.transparency.merkle import leaf_hash, verify_consistency, verify_inclusion
from registry.transparency.notes import VerifierKey, open_note
from tests.api.schema.asking import ADMIN, NOBODY, ask, code_of
from tests.support import world
from tests.support.server import Server
from tests.support.world import Tenant

ENTRY = "query($index: BigInt!) { auditEntry(index: $index) { index state action target leafHash entry time } }"
PROOF = """
    query($index: BigInt!, $size: BigInt) {
        auditProof(index: $index, size: $size) { index size root leafHash entry proof checkpoint text }
    }
"""
CONSISTENCY = """
    query($from: BigInt!, $to: BigInt!) { auditConsistency(from: $from, to: $to) { proof fromRoot toRoot from to } }
"""
CHECKPOINT = "query($size: BigInt) { auditCheckpoint(size: $size) { note origin size root publishedAt fork } }"
NEWEST = '{ auditLog(first: 1, filter: {action: "organization.create"}) { nodes { index } } }'


@pytest.fixture(scope="module")
def key(tidewaiter: Server) -> VerifierKey:
    """As the operator prints it: one line."""
    told = tidewaiter.command("audit", "key")
    assert told.returncode == 0, told.stderr
    return VerifierKey.parse(told.stdout)


@pytest.fixture
async def tenant(tidewaiter: Server) -> tuple[Tenant, int]:
    """A tenant, and the number of an entry of theirs, under a published checkpoint."""
    tenant = await world.tenant(tidewaiter, "proven")
    index = (await ask(tidewaiter, NEWEST, tenant.owner))["auditLog"]["nodes"][0]["index"]
    await published(tidewaiter, index)
    return tenant, index


async def published(tidewaiter: Server, index: int) -> dict[str, Any]:
    """The newest checkpoint, once it covers the entry; `audit checkpoint` signs what is new."""
    told = tidewaiter.command("audit", "checkpoint")
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = (await ask(tidewaiter, CHECKPOINT, ADMIN))["auditCheckpoint"]
    assert found["size"] > index
    return found


async def test_an_entry_is_proven_with_nothing_but_the_key(
    tidewaiter: Server, tenant: tuple[Tenant, int], key: VerifierKey
) -> None:
    acme, index = tenant
    found = (await ask(tidewaiter, PROOF, acme.owner, index=index))["auditProof"]
    entry = b64decode(found["entry"])
    assert b64decode(found["leafHash"]) == leaf_hash(entry)
    verdict = verify_entry(found["text"], [key])
    assert (verdict.status, verdict.since, verdict.size) == (SOUND, index, found["size"])
    checkpoint = checkpoints.parse(open_note(found["checkpoint"], [key]).text)
    hashes = [b64decode(one) for one in found["proof"]]
    verify_inclusion(index, found["size"], leaf_hash(entry), hashes, checkpoint.root)
    shown = (await ask(tidewaiter, ENTRY, acme.owner, index=index))["auditEntry"]
    assert (shown["state"], shown["entry"], shown["leafHash"]) == ("PUBLISHED", found["entry"], found["leafHash"])


async def test_an_entry_is_proven_in_a_log_of_any_size(tidewaiter: Server, tenant: tuple[Tenant, int]) -> None:
    acme, index = tenant
    for size in (index + 1, index + 2):
        found = (await ask(tidewaiter, PROOF, acme.owner, index=index, size=size))["auditProof"]
        hashes = [b64decode(one) for one in found["proof"]]
        verify_inclusion(index, size, b64decode(found["leafHash"]), hashes, b64decode(found["root"]))
        assert (found["text"] is None) == (found["checkpoint"] is None)


async def test_two_checkpoints_are_proven_to_be_of_one_log(
    tidewaiter: Server, tenant: tuple[Tenant, int], key: VerifierKey
) -> None:
    _, index = tenant
    first = await published(tidewaiter, index)
    await world.tenant(tidewaiter, "later")
    second = await published(tidewaiter, first["size"])
    assert second["size"] > first["size"]
    found = await ask(tidewaiter, CONSISTENCY, ADMIN, **{"from": first["size"], "to": second["size"]})
    hashes = [b64decode(one) for one in found["auditConsistency"]["proof"]]
    roots = [checkpoints.parse(open_note(one["note"], [key]).text).root for one in (first, second)]
    verify_consistency(first["size"], second["size"], hashes, *roots)
    again = (await ask(tidewaiter, CHECKPOINT, ADMIN, size=first["size"]))["auditCheckpoint"]
    assert (again["note"], again["fork"]) == (first["note"], None)


async def test_tenants_prove_only_what_is_theirs(tidewaiter: Server, tenant: tuple[Tenant, int]) -> None:
    """To others an entry is as absent as one that does not exist."""
    acme, index = tenant
    other = await world.tenant(tidewaiter, "other")
    reader = await world.user(acme, "reader", level="READ")
    for person in (other.owner, reader):
        for query, name in ((ENTRY, "auditEntry"), (PROOF, "auditProof")):
            for asked in (index, 2**40):
                assert (await ask(tidewaiter, query, person, index=asked))[name] is None, (person.name, name, asked)
    assert (await ask(tidewaiter, ENTRY, ADMIN, index=index))["auditEntry"]["index"] == index


@pytest.mark.parametrize(
    ("query", "given", "code"),
    [
        (PROOF, {"index": 0, "size": 2**40}, "LOG_SIZE_OUT_OF_RANGE"),
        (PROOF, {"index": 5, "size": 5}, "LOG_SIZE_OUT_OF_RANGE"),
        (PROOF, {"index": 5, "size": -1}, "LOG_SIZE_OUT_OF_RANGE"),
        (CONSISTENCY, {"from": 2, "to": 1}, "LOG_SIZE_OUT_OF_RANGE"),
        (CONSISTENCY, {"from": 1, "to": 2**40}, "LOG_SIZE_OUT_OF_RANGE"),
        (CONSISTENCY, {"from": -1, "to": 1}, "LOG_SIZE_OUT_OF_RANGE"),
    ],
)
async def test_sizes_that_cannot_be_are_refused(
    tidewaiter: Server, query: str, given: dict[str, int], code: str
) -> None:
    assert await code_of(tidewaiter, query, ADMIN, **given) == code


async def test_nobody_proves_anything_without_signing_in(tidewaiter: Server) -> None:
    for query, given in ((CONSISTENCY, {"from": 1, "to": 2}), (CHECKPOINT, {})):
        assert await code_of(tidewaiter, query, NOBODY, **given) == "SIGN_IN_NEEDED"


async def test_that_the_log_was_read_stands_in_it(tidewaiter: Server, tenant: tuple[Tenant, int]) -> None:
    acme, index = tenant
    await ask(tidewaiter, ENTRY, acme.owner, index=index)
    reads = '{ auditLog(first: 1, filter: {action: "audit.read"}) { nodes { changes actor { name } target } } }'
    found = (await ask(tidewaiter, reads, acme.owner))["auditLog"]["nodes"][0]
    assert found == {"changes": {"index": index}, "actor": {"name": acme.owner.name}, "target": "audit log"}
