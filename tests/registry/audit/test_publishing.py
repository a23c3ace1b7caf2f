"""Signing: nothing but the continuation of what was signed before, whoever rewrote or restored the database."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import structlog

from registry import keys
from registry.actors import SYSTEM, Origin
from registry.audit import proving
from registry.audit.anchors import AnchorFailed, FileAnchor
from registry.audit.entries import unwrap
from registry.audit.publishing import AT_LEAST_EVERY
from registry.events import Event, Outcome
from registry.system import System
from registry.transparency import checkpoints
from registry.transparency.notes import SignerKey, open_note, sign, split_note
from tests.support.books import in_process, new_database, opened
from tests.support.server import Server

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
NOTES = "SELECT size, root, note FROM audit_checkpoint ORDER BY at, size"


async def write(system: System, *targets: str) -> None:
    for target in targets:
        at = system.foundation.clock.now()
        await system.foundation.ledger.append(Event(at, "test.happen", Outcome.ALLOWED, SYSTEM, Origin(), target))
    await system.foundation.ledger.catch_up()


async def notes(dsn: str) -> list[asyncpg.Record]:
    async with opened(dsn) as owner:
        return list(await owner.fetch(NOTES))


async def actions(dsn: str) -> list[str]:
    async with opened(dsn) as owner:
        rows = await owner.fetch("SELECT entry FROM audit_log ORDER BY seq")
    return [orjson.loads(unwrap(row["entry"]).body)["action"] for row in rows]


def anchored(folder: Path) -> list[str]:
    lines = (folder / "audit" / "checkpoints.jsonl").read_text().splitlines()
    return [json.loads(line)["note"] for line in lines if line]


async def test_what_is_signed_stands_at_the_anchor_too(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one", "two")
        await system.sequencer.publish_now()
        verifiers = [signer.verifier for signer in system.keys.audit_signing]
    rows = await notes(dsn)
    assert [row["note"] for row in rows] == anchored(tmp_path)
    newest = checkpoints.parse(open_note(rows[-1]["note"], verifiers).text)
    assert (newest.size, newest.root) == (rows[-1]["size"], rows[-1]["root"])
    assert newest.size >= 4
    assert newest.origin.endswith("/audit/1")
    assert (tmp_path / "audit" / "checkpoints.jsonl").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / keys.AUDIT_SIGNING).stat().st_mode & 0o777 == 0o600


async def test_that_nothing_happened_is_signed_too(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        await system.sequencer.publish_now()
        before = len(await notes(dsn))
        await system.sequencer.publish_now()
        assert len(await notes(dsn)) == before
        (tmp_path / "clock").write_text(str(AT_LEAST_EVERY.total_seconds() + 1))
        await system.sequencer.publish_now()
    rows = await notes(dsn)
    assert len(rows) == before + 1
    assert rows[-1]["note"] == rows[-2]["note"]


async def test_the_newest_checkpoint_is_the_largest_though_the_clock_goes_back(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        (tmp_path / "clock").write_text("3600")
        await write(system, "ahead")
        await system.sequencer.publish_now()
        (tmp_path / "clock").write_text("0")
        await write(system, "back")
        await system.sequencer.publish_now()
        newest = await proving.checkpoint(system.foundation.pool.fetch)
    rows = await notes(dsn)
    assert newest is not None
    assert newest.size == max(row["size"] for row in rows)
    assert [row["size"] for row in rows] == sorted(row["size"] for row in rows)
    assert newest.note == anchored(tmp_path)[-1]


async def truncate(owner: asyncpg.Connection) -> None:
    """As a backup from before the last entries would have left it."""
    size = await owner.fetchval("SELECT size FROM audit_tree")
    kept = await owner.fetchval("SELECT max(size) FROM audit_checkpoint WHERE size < $1", size)
    for table in ("audit_log", "audit_checkpoint", "audit_log_rest"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for name in await owner.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
    ):
        await owner.execute(f"ALTER TABLE {name[0]} DISABLE TRIGGER ALL")
    await owner.execute("DELETE FROM audit_log WHERE seq >= $1", kept)
    await owner.execute("DELETE FROM audit_checkpoint WHERE size > $1", kept)
    leaves = b"".join(one["leaf"] for one in await owner.fetch("SELECT leaf FROM audit_log ORDER BY seq"))
    await owner.execute("UPDATE audit_tree SET size = $1, edge = $2", kept, [leaves])


async def rewrite(owner: asyncpg.Connection) -> None:
    """The same number of entries, one of them another, and no checkpoint that would tell."""
    await owner.execute("UPDATE audit_tree SET edge[1] = set_byte(edge[1], 40, 255 - get_byte(edge[1], 40))")
    await owner.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER ALL")
    await owner.execute("DELETE FROM audit_checkpoint")


@pytest.mark.parametrize("change", [truncate, rewrite])
async def test_a_database_that_is_not_the_one_that_was_signed_is_signed_no_more(
    dsn: str, tmp_path: Path, change: Callable[[asyncpg.Connection], Any]
) -> None:
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one", "two")
        await system.sequencer.publish_now()
        await write(system, "three", "four")
        await system.sequencer.publish_now()
    async with opened(dsn) as owner:
        await change(owner)
    before, signed = await notes(dsn), anchored(tmp_path)
    for _ in range(2):  # and a restart does not make it forget
        async with in_process(dsn, tmp_path) as system:
            await write(system, "five")
            await system.sequencer.publish_now()
            fork = system.sequencer.publisher.standing.fork
            assert fork is not None
            assert "anchor" in fork
            # Entries are taken and numbered all the same, however far the log grows.
            await write(system, *(f"more-{number}" for number in range(10)))
            await system.sequencer.publish_now()
            assert system.sequencer.publisher.standing.fork is not None
    assert await notes(dsn) == before
    assert anchored(tmp_path) == signed
    done = await actions(dsn)
    assert done.count("audit.fork") == 2  # once by each server that found it
    assert done.count("test.happen") >= 22


async def test_an_empty_database_beside_an_anchor_is_a_fork(tidewaiter: Server, dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
    async with new_database(tidewaiter) as other, in_process(other, tmp_path) as system:
        await system.sequencer.publish_now()
        fork = system.sequencer.publisher.standing.fork
        assert fork is not None
        assert await notes(other) == []


async def test_an_anchor_that_does_not_take_it_holds_the_signature_back_and_nothing_else(
    dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "blocked").write_text("no folder")
    async with in_process(dsn, tmp_path, audit_anchors=(f"file://{tmp_path}/blocked/checkpoints.jsonl",)) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        standing = system.sequencer.publisher.standing
        assert standing.failure is not None
        assert "Not a directory" in standing.failure
        assert await notes(dsn) == []
        (tmp_path / "blocked").unlink()
        await system.sequencer.publish_now()
        assert standing.failure is None
        assert len(await notes(dsn)) == 1


class Forgetful:
    """An anchor that says it took what it did not."""

    name = "a forgetful one"

    async def newest(self) -> str | None:
        return None

    async def all(self) -> AsyncIterator[str]:
        for note in ():
            yield note

    async def put(self, note: str) -> None:
        pass


async def told_of_anchors(dsn: str) -> list[dict[str, Any]]:
    async with opened(dsn) as owner:
        rows = await owner.fetch("SELECT entry FROM audit_log WHERE action = 'audit.anchor' ORDER BY seq")
    return [orjson.loads(unwrap(row["entry"]).body) for row in rows]


async def test_an_anchor_that_was_emptied_is_not_begun_anew_without_a_word(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "audit" / "checkpoints.jsonl"
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        await write(system, "two")
        await system.sequencer.publish_now()
        assert await told_of_anchors(dsn) == []
        for _ in range(2):
            path.unlink()
            with structlog.testing.capture_logs() as lines:
                for target in ("three", "four"):
                    await write(system, target)
                    await system.sequencer.publish_now()
            warned = [line for line in lines if line["log_level"] == "warning" and line.get("anchor") == str(path)]
            assert len(warned) == 1
        assert system.sequencer.publisher.standing.failure is None
        origin = system.sequencer.publisher.origin
    assert anchored(tmp_path)[-1] == (await notes(dsn))[-1]["note"]
    entry, _ = await told_of_anchors(dsn)
    assert (entry["target"]["name"], entry["change"]) == (origin, {"anchor": [None, str(path)]})
    sentence = f"The anchor {path} holds no checkpoint of this log: it is new, or was emptied."
    assert entry["reason"]["text"] == sentence


async def test_an_anchor_that_stays_empty_is_told_of_once(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        system.sequencer.publisher.anchors = [*system.sequencer.publisher.anchors, Forgetful()]
        for target in ("two", "three", "four"):
            await write(system, target)
            await system.sequencer.publish_now()
    assert [entry["change"]["anchor"] for entry in await told_of_anchors(dsn)] == [[None, "a forgetful one"]]


async def test_the_anchor_of_a_log_that_has_signed_nothing_yet_may_be_empty(dsn: str, tmp_path: Path) -> None:
    """Also of one that was opened after another."""
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        old = keys.read_signers(tmp_path / "keys")
        keys.keep_signers(tmp_path / "keys", [SignerKey.generate(old[0].name.removesuffix("1") + "2")])
        await write(system, "two")
        await system.sequencer.publish_now()
    assert {note.partition("\n")[0][-1] for note in anchored(tmp_path)} == {"1", "2"}
    assert await told_of_anchors(dsn) == []


class Slow:
    """An anchor that answers when it is told to."""

    name = "a slow one"

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.notes: list[str] = []

    async def newest(self) -> str | None:
        self.asked.set()
        await self.answers.wait()
        return self.notes[-1] if self.notes else None

    async def all(self) -> AsyncIterator[str]:
        for note in self.notes:
            yield note

    async def put(self, note: str) -> None:
        self.notes.append(note)


async def test_entries_are_numbered_while_an_anchor_takes_its_time(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        anchor, publisher = Slow(), system.sequencer.publisher
        publisher.anchors = [anchor]
        signing = asyncio.create_task(publisher.publish_now())
        await anchor.asked.wait()
        await write(system, "meanwhile")
        assert "test.happen" in await actions(dsn)
        assert anchor.notes == []
        anchor.answers.set()
        await signing
        await system.sequencer.publish_now()
        assert publisher.standing.failure is None
    assert anchor.notes[-1] == (await notes(dsn))[-1]["note"]


async def test_two_servers_sign_one_log(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as one, in_process(dsn, tmp_path) as other:
        for number in range(6):
            await write((one, other)[number % 2], str(number))
            await asyncio.gather(one.sequencer.publish_now(), other.sequencer.publish_now())
    rows = await notes(dsn)
    assert len({row["size"] for row in rows}) == len({row["root"] for row in rows}) == len(rows)


async def test_keys_overlap_while_one_takes_the_place_of_another(dsn: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        old = keys.read_signers(folder)
        new = SignerKey.generate(old[0].name)
        keys.keep_signers(folder, [new, *old])
        await write(system, "two")
        await system.sequencer.publish_now()
        keys.keep_signers(folder, [new])
        await write(system, "three")
        await system.sequencer.publish_now()
        assert system.sequencer.publisher.standing.fork is None
    rows = await notes(dsn)
    signed = [{signature[:4] for _, signature in split_note(row["note"])[1]} for row in rows[-3:]]
    assert signed == [{old[0].verifier.id}, {new.verifier.id, old[0].verifier.id}, {new.verifier.id}]


async def test_a_new_key_signs_without_waiting_for_an_entry(dsn: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        old = keys.read_signers(folder)
        new = SignerKey.generate(old[0].name)
        keys.keep_signers(folder, [new, *old])
        await system.sequencer.publish_now()
        before = len(await notes(dsn))
        await system.sequencer.publish_now()
    rows = await notes(dsn)
    assert len(rows) == before
    assert rows[-1]["size"] == rows[-2]["size"]
    assert {signature[:4] for _, signature in split_note(rows[-1]["note"])[1]} == {new.verifier.id, old[0].verifier.id}


async def test_an_old_log_is_not_signed_beside_the_one_that_took_its_place(dsn: str, tmp_path: Path) -> None:
    """As when the keys were restored from before a reopening, and the database with them."""
    folder = tmp_path / "keys"
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one")
        await system.sequencer.publish_now()
        old = keys.read_signers(folder)
        keys.keep_signers(folder, [SignerKey.generate(old[0].name.removesuffix("1") + "2")])
        await write(system, "two")
        await system.sequencer.publish_now()
        assert system.sequencer.publisher.standing.fork is None
        keys.keep_signers(folder, old)
        await write(system, "three")
        await system.sequencer.publish_now()
        fork = system.sequencer.publisher.standing.fork
    assert fork is not None
    assert "/audit/2, which was opened after this log" in fork
    assert (await notes(dsn))[-1]["note"].partition("\n")[0].endswith("/audit/2")


async def test_a_damaged_key_holds_signatures_back_and_says_so(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        path = tmp_path / "keys" / keys.AUDIT_SIGNING
        whole = path.read_text()
        path.write_text("nothing of a key\n")
        await write(system, "one")
        await system.sequencer.publish_now()
        failure = system.sequencer.publisher.standing.failure
        assert failure is not None
        assert "keys" in failure
        path.write_text(whole)
        await system.sequencer.publish_now()
        assert system.sequencer.publisher.standing.failure is None


async def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "anchor"
    anchor = FileAnchor(path)
    assert await anchor.newest() is None
    await anchor.put("first")
    with path.open("ab") as file:
        file.write(b'{"note": "sec')
    assert await anchor.newest() == "first"
    await anchor.put("third")
    assert await anchor.newest() == "third"
    assert [note async for note in anchor.all()] == ["first", "third"]


async def test_rubbish_behind_it_hides_no_checkpoint(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "anchor")
    await anchor.put("first")
    with (tmp_path / "anchor").open("ab") as file:
        file.write(b"\n" * 200_000 + b"x" * 200_000)
    assert await anchor.newest() == "first"
    await anchor.put("second")
    assert await anchor.newest() == "second"


async def test_a_foreign_line_at_the_anchor_hides_nothing(dsn: str, tmp_path: Path) -> None:
    """As whoever restored the database would put it there."""
    async with in_process(dsn, tmp_path) as system:
        await write(system, "one", "two")
        await system.sequencer.publish_now()
        await write(system, "three")
        await system.sequencer.publish_now()
    async with opened(dsn) as owner:
        await truncate(owner)
    foreign = SignerKey.generate("elsewhere/audit/1")
    await FileAnchor(tmp_path / "audit" / "checkpoints.jsonl").put(sign("elsewhere/audit/1\n0\n\n", [foreign]))
    async with in_process(dsn, tmp_path) as system:
        await system.sequencer.publish_now()
        fork = system.sequencer.publisher.standing.fork
    assert fork is not None
    assert "anchor" in fork


FILLING = """
import asyncio, resource, sys
from pathlib import Path
from registry.audit.anchors import AnchorFailed, FileAnchor

async def main():
    anchor, kept = FileAnchor(Path(sys.argv[1])), None
    for number in range(100):
        note = f"{number} " + "x" * 300
        try:
            await anchor.put(note)
        except AnchorFailed:
            break
        kept = note
    assert kept is not None and number < 99
    assert await anchor.newest() == kept

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
asyncio.run(main())
"""


def test_an_anchor_that_is_full_says_so_and_keeps_what_it_took(tmp_path: Path) -> None:
    """A disk that fills up takes a part of a line, without an error."""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", FILLING, str(tmp_path / "anchor")], check=True, cwd=root, timeout=60)


async def test_an_anchor_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path)
    with pytest.raises(AnchorFailed, match=str(tmp_path)):
        await anchor.newest()
