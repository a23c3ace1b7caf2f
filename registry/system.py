"""Puts the registry together from its settings, and takes it apart again.

async with running(settings, telemetry) as system:
    async with system.foundation.begin(actor, origin) as work: ...
"""

import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import asyncpg
import structlog

from policies.access import Law
from registry.accounts.first_start import first_start
from registry.accounts.passwords import Passwords
from registry.accounts.signing_in import Gate
from registry.accounts.tokens import Tokens
from registry.actors import INSIDE, Origin
from registry.audit import months, subjects
from registry.audit.anchors import Anchor, FileAnchor
from registry.audit.following import Followers
from registry.audit.object_anchor import Bucket, ObjectAnchor
from registry.audit.publishing import KeyRing, Publisher
from registry.audit.recording import Ledger
from registry.audit.sequencing import Sequencer
from registry.audit.subjects import WrongKey
from registry.audit.writing import Scribe
from registry.clock import Clock, FileClock, SystemClock
from registry.errors import Refusal, Unable
from registry.keys import AUDIT_SEALING, AUDIT_SIGNING, Keys, load_keys, missing, read_retired, read_signers
from registry.quotas.charging import settle_dues
from registry.quotas.metering import Meter
from registry.quotas.recounting import Recount
from registry.settings import Settings
from registry.storage import embedded, revisions
from registry.storage.blobs.filesystem import FilesystemStore
from registry.storage.database import connect, open_pool
from registry.storage.embedded import CannotStart
from registry.telemetry import Telemetry
from registry.work import Foundation

LOOK_EVERY_SECONDS = 1
USED_WITH = {
    AUDIT_SIGNING: "SELECT 1 FROM audit_checkpoint LIMIT 1",
    AUDIT_SEALING: "SELECT 1 FROM audit_subject WHERE wrapped IS NOT NULL LIMIT 1",
}
log = structlog.get_logger("system")


class NotMigrated(Unable):
    """The database is not of this version; its text says what to run."""


@dataclass(frozen=True, slots=True)
class System:
    """`generated_password` is the administrator's, on the first start that made it up."""

    foundation: Foundation
    gate: Gate
    tokens: Tokens
    keys: Keys
    sequencer: Sequencer
    followers: Followers
    meter: Meter
    recount: Recount
    generated_password: str | None


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The address of the database: the one that is set, or the embedded one, met if it runs and else started.

    All who use the embedded one hold a shared lock, so the last to leave knows that it is the last, and stops it; who
    was killed holds none.
    """
    if settings.database_url:
        yield settings.database_url
        return
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.data / "postgres.users").open("a") as users:
        await anyio.to_thread.run_sync(fcntl.flock, users, fcntl.LOCK_SH, abandon_on_cancel=True)
        server = await _start_embedded(settings)
        try:
            yield server.dsn
        finally:
            with anyio.CancelScope(shield=True), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                await embedded.stop(embedded.running(server.folder) or server)


@asynccontextmanager
async def running(settings: Settings, telemetry: Telemetry, dsn: str, here: Origin = INSIDE) -> AsyncIterator[System]:
    """Everything a server or a command needs, over a database of this version. `here` is as in `Foundation`. Raises
    `NotMigrated`, `KeyMissing`, `KeyDamaged`."""
    await check_version(dsn)
    clock = FileClock(settings.clock_file) if settings.clock_file else SystemClock()
    keys = await _keys(settings, dsn)
    publisher = publisher_of(settings, clock, dsn)
    sequencer = Sequencer(dsn, clock, telemetry, publisher)
    meter, recount = Meter(clock), Recount(telemetry)
    ledger = Ledger(dsn, telemetry, Scribe(keys.audit_sealing), sequencer, clock, meter.forget)
    blobs = FilesystemStore(settings.blobs_folder, durable=settings.embedded_fsync)
    pool = await open_pool(dsn, settings.database_pool)
    _watch(telemetry, ledger, sequencer, clock)
    telemetry.watch_pool(lambda: pool.get_size() - pool.get_idle_size(), pool.get_idle_size)
    law, sealing = Law.load(), keys.audit_sealing
    foundation = Foundation(settings, clock, pool, blobs, law, ledger, meter, telemetry, sealing, settle_dues, here)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        tasks.start_soon(ledger.count_floods)
        tasks.start_soon(sequencer.run)
        tasks.start_soon(publisher.run)
        try:
            yield await _open(foundation, sequencer, meter, recount, keys)
        finally:
            with anyio.CancelScope(shield=True):
                await _give_leases_back(meter, foundation)
                await ledger.drain()
                tasks.cancel_scope.cancel()
                await pool.close()
                blobs.close()


async def keep_database(settings: Settings) -> None:
    """Starts the embedded database again when it has died under a running server; the pool then connects anew."""
    if settings.database_url:
        return
    while True:
        await anyio.sleep(LOOK_EVERY_SECONDS)
        if await anyio.to_thread.run_sync(embedded.running, settings.data / "postgres") is None:
            log.error("the embedded database is gone; it is started again")
            try:
                await _start_embedded(settings)
            except CannotStart as error:
                log.error("the embedded database cannot be started", error=str(error))


async def check_version(dsn: str) -> None:
    connection = await connect(dsn)
    try:
        if sentence := await revisions.pending(connection):
            raise NotMigrated(sentence)
    finally:
        await connection.close()


async def _keys(settings: Settings, dsn: str) -> Keys:
    """The database is asked before the files are looked for: who starts at the same time makes them, and only then
    uses them."""
    folder = settings.data / "keys"
    used = await _used_with(dsn) if missing(folder) else []
    return load_keys(folder, settings.registry_host, used)


async def _used_with(dsn: str) -> list[str]:
    connection = await connect(dsn)
    try:
        return [name for name, query in USED_WITH.items() if await connection.fetchval(query)]
    finally:
        await connection.close()


async def _start_embedded(settings: Settings) -> embedded.Server:
    return await embedded.start(settings.data / "postgres", durable=settings.embedded_fsync)


async def _open(foundation: Foundation, sequencer: Sequencer, meter: Meter, recount: Recount, keys: Keys) -> System:
    gate = Gate(keys, Passwords())
    await months.prepare(foundation)
    generated = await first_start(foundation, gate.passwords)
    try:
        await subjects.check(foundation.pool.fetch, foundation.sealing)
    except WrongKey as error:
        log.critical("nothing can be recorded", reason=str(error))
    settings = foundation.settings
    tokens = Tokens(keys.signing, settings.address, settings.registry_host, timedelta(minutes=settings.token_minutes))
    log.info("opened", law=foundation.law.revision, time=foundation.clock.now().isoformat())
    return System(foundation, gate, tokens, keys, sequencer, Followers(), meter, recount, generated)


async def _give_leases_back(meter: Meter, foundation: Foundation) -> None:
    """Without a database they end by themselves."""
    with suppress(Refusal, asyncpg.PostgresError, OSError):
        await meter.tend(foundation, closing=True)


def publisher_of(settings: Settings, clock: Clock, dsn: str) -> Publisher:
    """Raises `KeyInvalid`, and OSError where there are no keys."""
    every = timedelta(seconds=settings.audit_publish_seconds)
    folder = settings.data / "keys"

    def reload() -> KeyRing:
        return read_signers(folder), read_retired(folder)

    return Publisher(dsn, reload, _anchors(settings), clock, every)


def _anchors(settings: Settings) -> list[Anchor]:
    if not settings.audit_anchors:
        return [FileAnchor(settings.data / "audit" / "checkpoints.jsonl")]
    return [_anchor(settings, address) for address in settings.audit_anchors]


def _anchor(settings: Settings, address: str) -> Anchor:
    if address.startswith("file:"):
        return FileAnchor(Path(unquote(urlsplit(address).path)))
    secret = settings.audit_s3_secret.get_secret_value() if settings.audit_s3_secret else ""
    return ObjectAnchor(Bucket.parse(address, settings.audit_s3_key or "", secret))


def _watch(telemetry: Telemetry, ledger: Ledger, sequencer: Sequencer, clock: Clock) -> None:
    """How far each step of an audit entry's life is behind the one before."""

    entry, standing, began = "{entry}", sequencer.publisher.standing, clock.now()

    def since_checkpoint() -> float:
        """Nothing is late while nothing waits for a signature."""
        late = standing.size > standing.published_size or standing.failure or standing.fork
        return (clock.now() - (standing.published_at or began)).total_seconds() if late else 0.0

    watch = telemetry.watch
    watch("registry.audit.queue.length", entry, "Audit entries that wait for their commit.", lambda: ledger.length)
    watch("registry.audit.inbox.length", entry, "Audit entries without a number.", lambda: sequencer.backlog.length)
    watch("registry.audit.inbox.age", "s", "Age of the oldest of them.", lambda: sequencer.backlog.seconds)
    watch(
        "registry.audit.checkpoint.size", entry, "Entries under the newest checkpoint.", lambda: standing.published_size
    )
    watch("registry.audit.checkpoint.age", "s", "How long entries have waited for a signature.", since_checkpoint)
    watch(
        "registry.audit.unsigned",
        entry,
        "Entries under no checkpoint yet.",
        lambda: standing.size - standing.published_size,
    )
    watch("registry.audit.fork", "1", "1 while the log is not the one that was signed.", lambda: bool(standing.fork))
    watch("registry.audit.failing", "1", "1 while nothing can be signed.", lambda: bool(standing.failure))
    watch("registry.audit.tampered", "1", "1 since the log was found changed.", lambda: bool(standing.tampered))
