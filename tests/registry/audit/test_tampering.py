"""Whoever owns the database can change it. That it was changed cannot be hidden: each way is found.

The owner switches the triggers off and does as they like; afterwards the database is verified as it stands, and an
export of it is, as an auditor would who kept a checkpoint.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from registry.actors import SYSTEM, Origin
from registry.audit import verifying
from registry.audit.kept import Known, known_elsewhere
from registry.audit.lines import Span, checkpoint_line, json_line
from registry.audit.scrubbing import scrub
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED
from registry.events import Event, Outcome
from registry.transparency import tiles
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import CompactRange, leaf_hash
from registry.transparency.notes import SignerKey, VerifierKey, sign
from tests.support.books import in_process, new_database, opened
from tests.support.server import Server

SIZE = 700
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'audit_log'"
TABLES = ("audit_log", "audit_tile", "audit_checkpoint")


@dataclass(frozen=True, slots=True)
class Log:
    """A log of SIZE entries or more, signed in the middle and at the end."""

    dsn: str
    keys: list[VerifierKey]
    notes: list[str]
    middle: int

    @property
    def known(self) -> Known:
        return known_elsewhere(self.notes, self.keys)


@pytest.fixture(scope="module")
async def log(tidewaiter: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Log]:
    folder: Path = tmp_path_factory.mktemp("log")
    async with new_database(tidewaiter) as dsn:
        async with in_process(dsn, folder) as system:
            ledger, sizes = system.foundation.ledger, []
            for part in range(2):
                for number in range(SIZE // 2):
                    at = system.foundation.clock.now()
                    organization = UUID(int=number % 3 + 1) if number % 4 else None
                    event = Event(
                        at,
                        "test.happen",
                        Outcome.ALLOWED,
                        SYSTEM,
                        Origin(source="192.0.2.1"),
                        f"part-{part}-{number}",
                        organization_id=organization,
                    )
                    async with system.foundation.pool.acquire() as connection:
                        await ledger.write(connection, [event])  # type: ignore[list-item]
                await system.sequencer.publish_now()
                sizes.append(system.sequencer.publisher.standing.published_size)
            keys = [signer.verifier for signer in system.keys.audit_signing]
        async with opened(dsn) as owner:
            notes = [row["note"] for row in await owner.fetch("SELECT note FROM audit_checkpoint")]
        yield Log(dsn, keys, notes, sizes[0])


@pytest.fixture
async def owner(log: Log) -> AsyncIterator[asyncpg.Connection]:
    """As the owner with the triggers off; whatever a test does is undone after it."""
    async with opened(log.dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        names = await connection.fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"
        )
        for table in (*TABLES, *(row[0] for row in names)):
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        yield connection
        await transaction.rollback()


async def exported(owner: asyncpg.Connection) -> list[bytes]:
    """The export of the database as it stands, under the newest checkpoint in it."""
    note = await owner.fetchval("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    rows = await owner.fetch("SELECT seq, entry, leaf FROM audit_log ORDER BY seq")
    lines = [json_line(row["seq"], row["entry"], row["leaf"]) for row in rows]
    return [*lines, checkpoint_line(note, Span())]


async def edit(owner: asyncpg.Connection, seq: int, *, leaf: bool) -> None:
    entry = await owner.fetchval("SELECT entry FROM audit_log WHERE seq = $1", seq)
    forged = entry.replace(b'"allowed"', b'"denied" ').replace(b'"denied" ', b'"denied"')
    assert forged != entry
    await owner.execute("UPDATE audit_log SET entry = $2, outcome = 'denied' WHERE seq = $1", seq, forged)
    if leaf:
        await owner.execute("UPDATE audit_log SET leaf = $2 WHERE seq = $1", seq, leaf_hash(forged))


async def rebuild(owner: asyncpg.Connection) -> None:
    """Makes tiles, tree and numbers within organizations what they would be over the entries as they stand."""
    leaves = [row["leaf"] for row in await owner.fetch("SELECT leaf FROM audit_log ORDER BY seq")]
    growth = tiles.grow(0, [], leaves)
    at = await owner.fetchval("SELECT max(last_at) FROM audit_tile")
    await owner.execute("DELETE FROM audit_tile")
    for level, index, data in growth.full:
        await owner.execute("INSERT INTO audit_tile VALUES ($1, $2, $3, $4)", level, index, data, at)
    await owner.execute("UPDATE audit_tree SET size = $1, edge = $2", growth.size, growth.edge)
    await owner.execute("DELETE FROM audit_org_head")
    await owner.execute(
        "INSERT INTO audit_org_head SELECT organization_id, max(org_seq) FROM audit_log"
        " WHERE organization_id IS NOT NULL GROUP BY 1"
    )


async def shift(owner: asyncpg.Connection, first: int, by: int) -> None:
    """In two steps, since no two may have one number even for a moment."""
    await owner.execute("UPDATE audit_log SET seq = -seq WHERE seq >= $1", first)
    await owner.execute("UPDATE audit_log SET seq = $1 - seq WHERE seq < 0", by)


async def edited(owner: asyncpg.Connection, log: Log) -> None:
    await edit(owner, 300, leaf=False)


async def edited_with_leaf(owner: asyncpg.Connection, log: Log) -> None:
    await edit(owner, 300, leaf=True)


async def edited_with_all_that_follows(owner: asyncpg.Connection, log: Log) -> None:
    await edit(owner, 300, leaf=True)
    await rebuild(owner)


async def deleted(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("DELETE FROM audit_log WHERE seq = 300")


async def deleted_and_renumbered(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("DELETE FROM audit_log WHERE seq = 300")
    await shift(owner, 301, -1)
    await rebuild(owner)


async def swapped(owner: asyncpg.Connection, log: Log) -> None:
    for before, after in ((300, -1), (301, 300), (-1, 301)):
        await owner.execute("UPDATE audit_log SET seq = $2 WHERE seq = $1", before, after)


async def inserted(owner: asyncpg.Connection, log: Log) -> None:
    await shift(owner, 300, 1)
    columns = [row["column_name"] for row in await owner.fetch(COLUMNS)]
    names = ", ".join(columns)
    values = ", ".join("300" if name == "seq" else name for name in columns)
    await owner.execute(f"INSERT INTO audit_log ({names}) SELECT {values} FROM audit_log WHERE seq = 299")
    await rebuild(owner)


async def truncated(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("DELETE FROM audit_log WHERE seq >= 600")


async def truncated_with_all_that_follows(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("DELETE FROM audit_log WHERE seq >= 600")
    await rebuild(owner)


async def hidden_from_its_owner(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_log SET organization_id = $1 WHERE seq = 301", UUID(int=9))


async def hidden_from_an_account(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_log SET account_id = $1 WHERE seq = 300", UUID(int=9))


async def renamed_in_a_column(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_log SET target = 'elsewhere' WHERE seq = 300")


async def dated_otherwise(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_log SET logged_at = logged_at + interval '1 microsecond' WHERE seq = 300")


async def tile_changed(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute(
        "UPDATE audit_tile SET data = set_byte(data, 5, 255 - get_byte(data, 5)) WHERE level = 0 AND idx = 1"
    )


async def tile_missing(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("DELETE FROM audit_tile WHERE level = 0 AND idx = 1")


async def tree_changed(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_tree SET edge[1] = set_byte(edge[1], 5, 255 - get_byte(edge[1], 5))")


async def tree_shortened(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_tree SET size = size - 1")


async def head_changed(owner: asyncpg.Connection, log: Log) -> None:
    await owner.execute("UPDATE audit_org_head SET org_seq = org_seq + 1")


async def checkpoint_forged(owner: asyncpg.Connection, log: Log) -> None:
    """By another key of the same name."""
    key = SignerKey.generate(log.keys[0].name)
    root = CompactRange().root()
    note = sign(Checkpoint(key.name, 0, root).text, [key])
    await owner.execute("UPDATE audit_checkpoint SET note = $1", note)


Change = Callable[[asyncpg.Connection, Log], Awaitable[None]]

# The first entry that is named; None where it cannot be told.
IN_DATABASE: dict[Change, int | None] = {
    edited: 300,
    edited_with_leaf: 300,
    edited_with_all_that_follows: 0,  # one of those up to the first checkpoint
    deleted: 300,
    deleted_and_renumbered: None,
    swapped: 300,
    inserted: 300,
    truncated: 600,
    truncated_with_all_that_follows: 600,
    hidden_from_its_owner: 301,
    hidden_from_an_account: 300,
    renamed_in_a_column: 300,
    dated_otherwise: 300,
    tile_changed: 256,
    tile_missing: 256,
    tree_changed: 512,
    tree_shortened: None,
    head_changed: None,
    checkpoint_forged: None,
}


def name_of(change: Change) -> str:
    return change.__name__


async def test_what_nobody_changed_is_sound(log: Log, owner: asyncpg.Connection) -> None:
    verdict = await scrub(owner.fetch, log.keys, log.notes)
    assert (verdict.status, verdict.sentence) == (SOUND, "Sound.")
    assert verdict.compared == len(set(log.notes)) >= 3, "each once, though it stands here and at the anchor"
    lines = await exported(owner)
    verdict = verifying.verify(lines, log.keys, log.known)
    assert (verdict.status, verdict.entries) == (SOUND, len(lines) - 1)


@pytest.mark.parametrize("change", IN_DATABASE, ids=name_of)
async def test_the_database_tells(log: Log, owner: asyncpg.Connection, change: Change) -> None:
    await change(owner, log)
    verdict = await scrub(owner.fetch, log.keys)
    assert verdict.status == TAMPERED, verdict
    if IN_DATABASE[change] is not None:
        assert verdict.index is not None
        assert abs(verdict.index - (IN_DATABASE[change] or 0)) <= 1, verdict


IN_EXPORT = (
    edited,
    edited_with_leaf,
    edited_with_all_that_follows,
    deleted,
    deleted_and_renumbered,
    swapped,
    inserted,
    truncated,
    truncated_with_all_that_follows,
    checkpoint_forged,
)


@pytest.mark.parametrize("change", IN_EXPORT, ids=name_of)
async def test_an_export_tells(log: Log, owner: asyncpg.Connection, change: Change) -> None:
    await change(owner, log)
    assert verifying.verify(await exported(owner), log.keys).status == TAMPERED


async def test_a_tail_cut_off_with_its_checkpoints_is_told_by_one_kept_elsewhere(
    log: Log, owner: asyncpg.Connection
) -> None:
    """What is left is a log that once was, and was signed; only somebody who remembers more can tell."""
    await owner.execute("DELETE FROM audit_log WHERE seq >= $1", log.middle)
    await owner.execute("DELETE FROM audit_checkpoint WHERE size > $1", log.middle)
    await rebuild(owner)
    assert (await scrub(owner.fetch, log.keys)).status == SOUND
    assert verifying.verify(await exported(owner), log.keys).status == SOUND

    found = await scrub(owner.fetch, log.keys, log.notes)
    assert (found.status, found.index) == (TAMPERED, log.middle)
    assert verifying.verify(await exported(owner), log.keys, log.known).status == INCOMPLETE


async def test_a_whole_other_history_is_told_by_a_checkpoint_kept_elsewhere(
    log: Log, owner: asyncpg.Connection
) -> None:
    """Even by one who holds the signing key and signs it all anew, as the operator could."""
    name = log.keys[0].name
    thief = SignerKey.generate(name)
    keys = [*log.keys, thief.verifier]
    await edit(owner, 300, leaf=True)
    await rebuild(owner)
    leaves = [row["leaf"] for row in await owner.fetch("SELECT leaf FROM audit_log ORDER BY seq")]
    tree = CompactRange()
    tree.extend(leaves)
    note = sign(Checkpoint(name, tree.size, tree.root()).text, [thief])
    await owner.execute("DELETE FROM audit_checkpoint")
    await owner.execute(
        "INSERT INTO audit_checkpoint VALUES ($1, $2, $3, $4, now())", name, tree.size, tree.root(), note
    )
    assert verifying.verify(await exported(owner), keys).status == SOUND
    verdict = verifying.verify(await exported(owner), keys, log.known)
    assert (verdict.status, verdict.index) == (TAMPERED, 0)
    assert f"first {log.middle} entries" in verdict.sentence
