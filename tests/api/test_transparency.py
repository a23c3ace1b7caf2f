"""The log as static files, and a witness that reads them: what anybody can check from outside."""

import json
import os
from pathlib import Path

import httpx2

from registry.transparency import checkpoints, tiles
from registry.transparency.merkle import leaf_hash
from registry.transparency.notes import SignerKey, VerifierKey, open_note, sign
from tests.support import world
from tests.support.server import Server


async def test_checkpoint_tiles_and_bundles_belong_together(tidewaiter: Server) -> None:
    await world.tenant(tidewaiter, "tiles")
    assert tidewaiter.command("audit", "checkpoint").returncode == 0
    key = VerifierKey.parse(tidewaiter.command("audit", "key").stdout)
    async with httpx2.AsyncClient(base_url=f"{tidewaiter.url}/audit/", verify=False) as client:
        note = await client.get("checkpoint")
        assert str(key) in (await client.get("key")).text
        checkpoint = checkpoints.parse(open_note(note.text, [key]).text)
        found = {}
        for level, index in tiles.tiles_for_range(checkpoint.size):
            width = min(256, (checkpoint.size >> 8 * level) - index * 256)
            answer = await client.get(tiles.Tile(level, index, width).path)
            assert (answer.status_code, len(answer.content)) == (200, width * 32)
            found[level, index] = answer.content
        assert tiles.root_at(checkpoint.size, found) == checkpoint.root
        bundle = "tile/entries/000.p/2"
        assert (await client.get(bundle)).status_code == 401
        entries = tiles.read_bundle((await client.get(bundle, auth=("admin", tidewaiter.admin_password))).content)
        hashes = (await client.get("tile/0/000.p/2")).content
        assert b"".join(map(leaf_hash, entries)) == hashes


async def test_only_administrators_read_entries_and_that_is_recorded(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "bundles")
    owner = tenant.owner
    async with httpx2.AsyncClient(base_url=f"{tidewaiter.url}/audit/", verify=False) as client:
        answer = await client.get("tile/entries/000.p/1", auth=(owner.name, owner.password))
        assert answer.status_code in (403, 404)
        assert answer.json()["errors"][0]["detail"]["requestId"] == answer.headers["x-request-id"]


async def test_what_is_not_published_or_no_tile_is_not_there(tidewaiter: Server) -> None:
    paths = ("tile/0/x999/999", "tile/9/000", "tile/0/000.p/0", "tile/0/0", "nothing", "tile/entries/x999/999")
    async with httpx2.AsyncClient(base_url=f"{tidewaiter.url}/audit/", verify=False) as client:
        for path in paths:
            answer = await client.get(path, auth=("admin", tidewaiter.admin_password))
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "TILE_NOT_FOUND"), path


async def test_a_line_end_behind_an_address_makes_it_another(tidewaiter: Server) -> None:
    """Starlette's own routes let one pass, and what is not there must not be served for ever to be kept."""
    assert tidewaiter.command("audit", "checkpoint").returncode == 0
    async with httpx2.AsyncClient(base_url=tidewaiter.url, verify=False) as client:
        for path in ("/audit/tile/0/000.p/1", "/audit/checkpoint", "/audit/key", "/healthz", "/graphql/schema.graphql"):
            assert (await client.get(path)).status_code == 200, path
            assert (await client.get(f"{path}%0a")).status_code == 404, path


async def test_a_witness_sees_a_log_grow_and_keeps_evidence_of_one_that_was_rewritten(
    tidewaiter: Server, tmp_path: Path
) -> None:
    assert tidewaiter.command("audit", "checkpoint").returncode == 0
    (tmp_path / "key").write_text(tidewaiter.command("audit", "key").stdout)
    state = tmp_path / "watch.json"
    words = ("audit", "witness", tidewaiter.url, "--key", str(tmp_path / "key"), "--state", str(state))
    first = tidewaiter.command(*words, "--cosign", str(tmp_path / "witness.key"))
    assert (first.returncode, "for the first time" in first.stdout) == (0, True), first.stderr
    await world.tenant(tidewaiter, "watched")
    assert tidewaiter.command("audit", "checkpoint").returncode == 0
    second = tidewaiter.command(*words)
    assert (second.returncode, "consistent with" in second.stdout) == (0, True), second.stderr

    # As if it had seen another log of the same name and key before: one that a thief of the key has signed.
    (name, note), *_ = json.loads(state.read_text()).items()
    signer = SignerKey.parse((tidewaiter.folder / "data" / "keys" / "audit-signing.key").read_text().splitlines()[0])
    size = checkpoints.parse(open_note(note, [signer.verifier]).text).size
    for forged, sentence in ((size - 1, "not those that were signed"), (size + 10**6, "cut off")):
        other = sign(checkpoints.Checkpoint(name, forged, bytes(32)).text, [signer])
        state.write_text(json.dumps({name: other}))
        told = tidewaiter.command(*words)
        assert (told.returncode, sentence in told.stderr) == (1, True), told.stderr
        assert json.loads(state.read_text()) == {name: other}
    evidence = [f"{state}.evidence-{number}" for number in (1, 2)]
    assert [os.path.exists(path) for path in evidence] == [True, True]  # noqa: ASYNC240, PTH110

    gone = tidewaiter.command(*(word.replace(tidewaiter.url, "http://127.0.0.1:1") for word in words))
    assert gone.returncode == 2
