"""Whether a verifier that is not ours takes our log, and refuses what was tampered with.

It is `verify.go`, beside this file: Go's own packages for transparency logs, those behind the checksum database of its
modules. Whoever wrote them never saw our code, so a mistake that writer and verifier of ours share does not pass here.
"""

import json
import os
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from registry.transparency.checkpoints import Checkpoint
from registry.transparency.notes import SignerKey, VerifierKey, open_note, sign
from tests.support import world
from tests.support.installed import GOPATH, SEARCH_PATH, require_client
from tests.support.server import Server
from tests.support.world import Tenant

SOURCE = Path(__file__).with_name("verify.go")

PROOF = "query($index: BigInt!) { auditProof(index: $index) { entry text } }"
CONSISTENCY = """
    query($from: BigInt!, $to: BigInt!) { auditConsistency(from: $from, to: $to) { from to fromRoot toRoot proof } }
"""
CHECKPOINT = "query($size: BigInt!) { auditCheckpoint(size: $size) { size root } }"
TILE = 256

# In the words of Go's packages.
WRONG = "invalid transparency proof"
UNSIGNED = "note has no verifiable signatures"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is handed to the verifier; the names are those of its options."""

    log: Path
    key: str
    older: Path
    proofs: Path
    consistency: Path
    export: Path


@dataclass(frozen=True, slots=True)
class Verdict:
    accepted: bool
    output: str


Verify = Callable[[Evidence], Verdict]


@pytest.fixture(scope="module")
def verify(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Verify:
    """The verifier, built without modules, and so without a network. What Go compiles on the way, of its own
    libraries, is kept where pytest keeps things between its runs."""
    require_client("go")
    program = tmp_path_factory.mktemp("go") / "verify"
    settings = {"GO111MODULE": "off", "GOPATH": GOPATH, "GOTOOLCHAIN": "local", "GOENV": "off", "GOFLAGS": ""}
    places = {"HOME": program.parent, "GOCACHE": pytestconfig.cache.mkdir("go"), "PATH": SEARCH_PATH}
    environment = os.environ | {"CGO_ENABLED": "0"} | {name: str(value) for name, value in (settings | places).items()}
    subprocess.run(["go", "build", "-o", program, SOURCE], env=environment, check=True, timeout=200)

    def verify(evidence: Evidence) -> Verdict:
        options = [f"-{name}={value}" for name, value in asdict(evidence).items()]
        ended = subprocess.run([program, *options], capture_output=True, text=True, timeout=60)
        assert ended.returncode in (0, 1), ended.stderr
        return Verdict(ended.returncode == 0, ended.stdout + ended.stderr)

    return verify


@pytest.fixture(scope="module")
async def evidence(verify: Verify, tidewaiter: Server, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of a log of two full tiles and one that is not."""
    folder = tmp_path_factory.mktemp("evidence")
    files = {name: folder / name for name in ("older", "proofs", "consistency", "export")}
    tenant = await tenant_with_repositories(tidewaiter)
    await look(tenant, TILE + 10)
    files["older"].write_text(done(tidewaiter, "audit", "checkpoint"))
    older = size_of(files["older"].read_text())
    await look(tenant, TILE)
    while not 0 < (newer := export(tidewaiter, files["export"])) % TILE < TILE - 50:
        await look(tenant, 50)
    indexes = (0, 1, TILE - 1, TILE, older - 1, older, 2 * TILE, newer - 1)
    sizes = ((older, newer), (1, newer), (TILE, newer), (TILE, older), (TILE + 1, newer - 1), (newer, newer))
    pairs = [{"from": first, "to": second} for first, second in sizes]
    write(files["proofs"], [await asked(tidewaiter, PROOF, index=index) for index in indexes])
    write(files["consistency"], [await asked(tidewaiter, CONSISTENCY, **pair) for pair in pairs])
    log = await fetched(tidewaiter, folder / "audit")
    return Evidence(log, done(tidewaiter, "audit", "key").strip(), **files)


async def test_the_log_is_accepted_with_all_that_proves_it(
    verify: Verify, evidence: Evidence, tidewaiter: Server
) -> None:
    verdict = verify(evidence)
    assert verdict.accepted, verdict.output
    told = json.loads(verdict.output)
    signed = await asked(tidewaiter, CHECKPOINT, size=told["entries"])
    assert told == {
        "entries": signed["size"],
        "root": signed["root"],
        "older": size_of(evidence.older.read_text()),
        "proofs": 8,
        "consistencies": 6,
        "exported": len(lines_of(evidence.export)) - 1,
    }
    assert signed["size"] > 2 * TILE
    assert signed["size"] % TILE


async def test_a_proof_of_another_entry_is_refused(verify: Verify, evidence: Evidence, tmp_path: Path) -> None:
    first, second, *_ = lines_of(evidence.proofs)
    swapped = write(tmp_path / "proofs", [first | {"entry": second["entry"]}])
    refused(verify(replace(evidence, proofs=swapped)), "proof: of entry 0 in ", WRONG)


async def test_a_proof_with_one_hash_changed_is_refused(verify: Verify, evidence: Evidence, tmp_path: Path) -> None:
    proof = lines_of(evidence.proofs)[0]
    hash = proof["text"].splitlines()[3]
    changed = write(tmp_path / "proofs", [proof | {"text": proof["text"].replace(hash, flipped(hash))}])
    refused(verify(replace(evidence, proofs=changed)), "proof: of entry 0 in ", WRONG)


async def test_a_proof_that_carries_another_entry_is_refused(
    verify: Verify, evidence: Evidence, tmp_path: Path
) -> None:
    proof, other, *_ = lines_of(evidence.proofs)
    swapped = write(tmp_path / "proofs", [proof | {"text": proof["text"].replace(proof["entry"], other["entry"])}])
    refused(verify(replace(evidence, proofs=swapped)), "proof: of entry 0: the text holds other bytes")


async def test_a_consistency_proof_with_one_hash_changed_is_refused(
    verify: Verify, evidence: Evidence, tmp_path: Path
) -> None:
    answer = lines_of(evidence.consistency)[0]
    for place, hash in enumerate(answer["proof"]):
        hashes = [*answer["proof"][:place], flipped(hash), *answer["proof"][place + 1 :]]
        changed = write(tmp_path / "consistency", [answer | {"proof": hashes}])
        refused(verify(replace(evidence, consistency=changed)), "consistency: of ", WRONG)


async def test_an_export_with_one_entry_changed_is_refused(verify: Verify, evidence: Evidence, tmp_path: Path) -> None:
    lines = lines_of(evidence.export)
    lines[TILE]["entry"] = flipped(lines[TILE]["entry"])
    refused(verify(replace(evidence, export=write(tmp_path / "export", lines))), "export: ", "with the root")


async def test_an_export_without_one_entry_is_refused(verify: Verify, evidence: Evidence, tmp_path: Path) -> None:
    lines = lines_of(evidence.export)
    inside = write(tmp_path / "inside", lines[:TILE] + lines[TILE + 1 :])
    refused(verify(replace(evidence, export=inside)), f"export: entry {TILE + 1} stands where {TILE} belongs")
    end = write(tmp_path / "end", lines[:-2] + lines[-1:])
    refused(verify(replace(evidence, export=end)), "export: ", "with the root")


async def test_a_log_under_another_key_is_refused(verify: Verify, evidence: Evidence) -> None:
    other = SignerKey.generate(VerifierKey.parse(evidence.key).name)
    refused(verify(replace(evidence, key=str(other.verifier))), "checkpoint: ", UNSIGNED)


async def test_a_checkpoint_signed_by_another_key_is_refused(
    verify: Verify, evidence: Evidence, tmp_path: Path
) -> None:
    """The text is the true one, and the other key has the log's name."""
    key = VerifierKey.parse(evidence.key)
    text = open_note(evidence.older.read_text(), [key]).text
    (tmp_path / "older").write_text(sign(text, [SignerKey.generate(key.name)]))
    told = verify(replace(evidence, older=tmp_path / "older"))
    refused(told, "older checkpoint: ", UNSIGNED)


async def test_a_checkpoint_of_another_history_is_refused(
    verify: Verify, evidence: Evidence, tidewaiter: Server, tmp_path: Path
) -> None:
    """Even one that the log's own key has signed: so a log is refused that was rewritten since."""
    signer = SignerKey.parse((tidewaiter.folder / "data" / "keys" / "audit-signing.key").read_text().splitlines()[0])
    size = size_of(evidence.older.read_text())
    (tmp_path / "older").write_text(sign(Checkpoint(signer.name, size, bytes(32)).text, [signer]))
    refused(verify(replace(evidence, older=tmp_path / "older")), "older checkpoint: ", WRONG)


async def fetched(server: Server, folder: Path) -> Path:
    """The newest checkpoint, and all tiles under it, each at its path."""
    async with httpx2.AsyncClient(base_url=f"{server.url}/audit/", verify=False) as client:
        left = ["checkpoint"]
        while left:
            path = left.pop()
            answer = (await client.get(path)).raise_for_status()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(answer.content)
            left += tiles_of(size_of(answer.text)) if path == "checkpoint" else []
    return folder


def tiles_of(size: int) -> list[str]:
    """Of a log that fills less than a thousand tiles."""
    found, level = [], 0
    while size:
        full, width = divmod(size, TILE)
        found += [f"tile/{level}/{index:03}" for index in range(full)]
        found += [f"tile/{level}/{full:03}.p/{width}"] if width else []
        size, level = full, level + 1
    return found


async def tenant_with_repositories(server: Server) -> Tenant:
    tenant = await world.tenant(server, "foreign")
    for number in range(10):
        await world.repository(tenant, f"goods-{number}")
    return tenant


async def look(tenant: Tenant, entries: int) -> None:
    """So many entries, or a few more: each look at a repository leaves one."""
    shown = (f'of{n}: repository(organization: "{tenant.organization}", name: "goods-{n}") {{name}}' for n in range(10))
    query = f"{{ {' '.join(shown)} }}"
    for _ in range(-(-entries // 10)):
        answer = await tenant.tidewaiter.graphql(query, None, tenant.owner.name, tenant.owner.password)
        assert not answer.get("errors"), answer


async def asked(server: Server, query: str, **given: int) -> dict[str, Any]:
    """What the administrator is answered, where one thing is asked for."""
    answer = await server.graphql(query, given)
    assert not answer.get("errors"), answer
    (found,) = answer["data"].values()
    return dict(found)


def refused(verdict: Verdict, *reason: str) -> None:
    assert not verdict.accepted
    assert [part in verdict.output for part in reason] == [True] * len(reason), verdict.output


def done(server: Server, *words: str) -> str:
    told = server.command(*words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def export(server: Server, file: Path) -> int:
    """Signs what is new first, and gives the number of entries."""
    done(server, "audit", "export", "--output", str(file))
    return size_of(lines_of(file)[-1]["checkpoint"])


def size_of(note: str) -> int:
    return int(note.split("\n")[1])


def flipped(encoded: str) -> str:
    """The same bytes in base64, but for one bit of the last."""
    data = bytearray(b64decode(encoded))
    data[-1] ^= 1
    return b64encode(data).decode()


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, lines: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file
