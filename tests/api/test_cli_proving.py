"""One entry is handed out with its proof, by the operator or to its tenant, and checked with nothing but the key."""

import json
from pathlib import Path

import pytest

from tests.api.schema.asking import ask
from tests.support import world
from tests.support.server import Server
from tests.support.world import Tenant

NEWEST = "{ auditLog(first: 1) { nodes { index action } } }"
PROOF = "query($index: BigInt!) { auditProof(index: $index) { entry text } }"


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "proving")


def verified(tidewaiter: Server, file: Path, *words: str) -> tuple[int, str]:
    key = tidewaiter.command("audit", "key").stdout.strip()
    told = tidewaiter.command("audit", "verify", str(file), "--key", key, *words)
    return told.returncode, told.stdout


async def test_the_operator_hands_out_an_entry_with_its_proof(tidewaiter: Server, acme: Tenant, tmp_path: Path) -> None:
    index = (await ask(tidewaiter, NEWEST, acme.owner))["auditLog"]["nodes"][0]["index"]
    file = tmp_path / f"{index}.tlog-proof"
    assert tidewaiter.command("audit", "prove", str(index), "--output", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    status, told = verified(tidewaiter, file)
    assert (status, f"numbered {index}, of" in told, '"organization.create"' in told) == (0, True, True), told
    verdict = json.loads(verified(tidewaiter, file, "--json")[1])
    assert (verdict["verdict"], verdict["since"], verdict["event"]["action"]) == ("sound", index, "organization.create")
    file.write_text(file.read_text().replace(f"index {index}\n", f"index {index - 1}\n"))
    assert verified(tidewaiter, file)[0] == 1


async def test_a_tenant_keeps_what_the_api_gives(tidewaiter: Server, acme: Tenant, tmp_path: Path) -> None:
    index = (await ask(tidewaiter, NEWEST, acme.owner))["auditLog"]["nodes"][0]["index"]
    tidewaiter.command("audit", "checkpoint")
    found = (await ask(tidewaiter, PROOF, acme.owner, index=index))["auditProof"]
    file, entry = tmp_path / "proof", tmp_path / "entry"
    file.write_text(found["text"])
    assert verified(tidewaiter, file)[0] == 0
    file.write_text("\n".join(line for line in found["text"].split("\n") if not line.startswith("extra ")))
    entry.write_text(found["entry"])
    assert verified(tidewaiter, file)[0] == 2
    assert verified(tidewaiter, file, "--entry", str(entry))[0] == 0


def test_what_is_not_there_is_told(tidewaiter: Server, tmp_path: Path) -> None:
    told = tidewaiter.command("audit", "prove", "999999999", "--output", str(tmp_path / "none"))
    assert (told.returncode, "none of them number 999999999" in told.stderr) == (1, True), told
    assert not (tmp_path / "none").exists()
