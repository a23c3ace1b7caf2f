"""Publishing: signing what is committed, and never two trees of which one is not the beginning of the other.

A checkpoint is signed only for a tree that is committed, and only after it was held against the newest checkpoint of
every anchor. A database that is behind an anchor, or tells another history, was restored or rewritten: nothing is
signed from then on, entries are still accepted and numbered, and it is said wherever somebody looks, until an
operator opens a new log.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from registry.actors import SYSTEM, Origin
from registry.audit import bodies, tiling
from registry.audit.anchors import Anchor, AnchorFailed
from registry.audit.kept import is_later, origin_of
from registry.audit.tiling import Tree
from registry.audit.turns import Turns
from registry.clock import Clock
from registry.events import Event, Outcome
from registry.storage.database import SEQUENCER_ROLE, Connection, OwnConnection
from registry.transparency.checkpoints import Checkpoint, parse
from registry.transparency.notes import KeyInvalid, NoteInvalid, SignerKey, VerifierKey, open_note, sign, split_note

AT_LEAST_EVERY = timedelta(minutes=10)
LOOK_EVERY = 1.0
PATIENCE = 15.0
STATEMENT_SECONDS = 30
LOCK = 0x71DE_1070
TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
NEWEST = """
    SELECT size, root, note, at FROM audit_checkpoint WHERE origin = $1 ORDER BY size DESC, at DESC LIMIT 1
"""
# The newest is the one with the latest time, so times never go back.
LAST = "SELECT max(at) FROM audit_checkpoint"
ADD = "INSERT INTO audit_checkpoint (origin, size, root, note, at) VALUES ($1, $2, $3, $4, $5)"
RECORD = "INSERT INTO audit_inbox (body) VALUES ($1)"
log = structlog.get_logger("audit")


KeyRing = tuple[Sequence[SignerKey], Sequence[VerifierKey]]
"""The keys that sign, and those that signed once."""


class Fork(Exception):
    """The database does not continue what was signed before; its text says in what it differs."""


@dataclass
class Standing:
    """How the log stands; `fork`, `failure` and `tampered` are sentences for operators, or None. `tried_at` is when it
    was last held against what was signed, `published_at` when that ended well: everything up to `published_size` is
    under a checkpoint since then."""

    fork: str | None = None
    failure: str | None = None
    tampered: str | None = None
    size: int = 0
    published_size: int = 0
    published_at: datetime | None = None
    tried_at: datetime | None = None


class Publisher:
    """`run` works until cancelled, on a connection and under a lock of its own: however long an anchor takes, entries
    are numbered meanwhile.

    `signers` are the keys that sign, the newest first; all bear the log's origin as their name. `retired` are those
    that signed once, for this log or one before it. They are what `reload` gave last, since an operator may change
    them.
    """

    def __init__(
        self,
        dsn: str,
        reload: Callable[[], KeyRing],
        anchors: Sequence[Anchor],
        clock: Clock,
        every: timedelta,
    ) -> None:
        self.standing = Standing()
        self.signers, self.retired = reload()
        self.anchors = anchors
        self._own = OwnConnection(dsn, SEQUENCER_ROLE, STATEMENT_SECONDS)
        self._reload = reload
        self._clock = clock
        self._every = every
        self._turns = Turns(LOOK_EVERY)
        self._empty: set[str] = set()

    @property
    def origin(self) -> str:
        return self.signers[0].name

    @property
    def verifiers(self) -> list[VerifierKey]:
        """By which what this log ever signed is recognised."""
        return [key for key in self.known if key.name == self.origin]

    @property
    def known(self) -> list[VerifierKey]:
        """Those of the logs before this one too."""
        return [*(signer.verifier for signer in self.signers), *self.retired]

    async def publish_now(self) -> None:
        """Returns when what was committed before the call is signed, or it is known why not, or after some seconds."""
        await self._turns.one(PATIENCE)

    async def run(self) -> None:
        try:
            await self._turns.run(self._turn, self._failed)
        finally:
            self._own.drop()

    async def _turn(self, asked: bool) -> bool:
        """False when another server is at it."""
        connection = await self._own.get()
        self.standing.size = await connection.fetchval("SELECT size FROM audit_tree")
        if not asked and not self.is_due(self.standing.size):
            return True
        async with connection.transaction():
            if not await connection.fetchval(TRY_LOCK, LOCK):
                return False
            await self._publish(connection)
        return True

    def _failed(self, error: Exception) -> None:
        log.error("no checkpoint could be published", error=repr(error))
        self._own.drop()

    def is_due(self, size: int) -> bool:
        """At once at the start, for what is new soon, and when nothing happens so often that this too is provable."""
        at = self.standing.tried_at
        if at is None:
            return True
        waited = abs(self._clock.now() - at)  # or a clock that went back would keep everybody waiting
        return waited >= (AT_LEAST_EVERY if size == self.standing.published_size else self._every)

    async def _publish(self, connection: Connection) -> None:
        """Signs and stores a checkpoint of the tree, which is a committed one: nothing but this is done in the
        transaction."""
        now = self._clock.now()
        tree = await tiling.tree_of(connection.fetch)
        try:
            self.signers, self.retired = self._reload()
            newest = await self._check(connection, tree)
            if newest is None or self._is_old(newest, tree.size, now):
                await self._sign(connection, tree, now)
            self.standing.fork = self.standing.failure = None
            self.standing.size = self.standing.published_size = tree.size
            self.standing.published_at = now
        except Fork as fork:
            await self._alarm(connection, str(fork), now)
        except AnchorFailed as failure:
            self._fail(str(failure))
        except (KeyInvalid, OSError) as error:
            self._fail(f"The keys that sign cannot be read: {error}")
        self.standing.tried_at = now

    def _fail(self, sentence: str) -> None:
        if self.standing.failure != sentence:
            log.error("no checkpoint can be published", reason=sentence)
        self.standing.failure = sentence

    def _is_old(self, newest: Any, size: int, now: datetime) -> bool:
        """Too small, too old, or without the signature of a key that signs now."""
        signed = {signature[:4] for _, signature in split_note(newest["note"])[1]}
        unsigned = {signer.verifier.id for signer in self.signers} - signed
        return newest["size"] != size or bool(unsigned) or abs(now - newest["at"]) >= AT_LEAST_EVERY

    async def _sign(self, connection: Connection, tree: Tree, now: datetime) -> None:
        checkpoint = Checkpoint(self.origin, tree.size, tree.root)
        note = sign(checkpoint.text, self.signers)
        for anchor in self.anchors:
            await anchor.put(note)
        last = await connection.fetchval(LAST)
        at = now if last is None else max(now, last + timedelta(microseconds=1))
        await connection.execute(ADD, self.origin, tree.size, tree.root, note, at)

    async def examine(self, connection: Connection) -> None:
        """As far as can be told without signing or writing. Raises `Fork` and `AnchorFailed`."""
        await self._check_here(connection, None)
        for anchor in self.anchors:
            await self._check_there(connection, None, anchor)

    async def _check(self, connection: Connection, tree: Tree) -> Any | None:
        """The newest checkpoint of this log in the database, which is one more thing to agree with.

        Raises `Fork` and `AnchorFailed`.
        """
        row = await self._check_here(connection, tree)
        for anchor in self.anchors:
            if await self._check_there(connection, tree, anchor):
                self._empty.discard(anchor.name)
            elif row is not None:
                await self._tell_of_empty(connection, anchor)
        return row

    async def _check_here(self, connection: Connection, tree: Tree | None) -> Any | None:
        row = await connection.fetchrow(NEWEST, self.origin)
        if row is not None:
            await self._compare(connection, tree, "the database's newest checkpoint", row["note"])
        return row

    async def _check_there(self, connection: Connection, tree: Tree | None, anchor: Anchor) -> bool:
        """Whether the anchor holds anything."""
        note = await self._newest_at(anchor)
        if note is not None:
            await self._compare(connection, tree, f"the anchor {anchor.name}", note)
        return note is not None

    async def _tell_of_empty(self, connection: Connection, anchor: Anchor) -> None:
        """Once, until it holds something again. What is signed next is put there, and tells nothing of what went."""
        if anchor.name in self._empty:
            return
        self._empty.add(anchor.name)
        sentence = f"The anchor {anchor.name} holds no checkpoint of this log: it is new, or was emptied."
        log.warning("an anchor holds no checkpoint of the audit log", anchor=anchor.name, reason=sentence)
        changes, now = {"anchor": [None, anchor.name]}, self._clock.now()
        await connection.execute(RECORD, system_body("audit.anchor", self.origin, now, sentence, changes=changes))

    async def _newest_at(self, anchor: Anchor) -> str | None:
        """Where the newest is of another log, as when this one has just been opened, or somebody put a foreign line
        there to hide what is ahead of it, all are looked through for the largest of this one."""
        newest = await anchor.newest()
        if newest is None or origin_of(newest) == self.origin or is_later(origin_of(newest), self.origin):
            return newest
        ours = [note async for note in anchor.all() if origin_of(note) == self.origin]
        return max(ours, key=_size_of, default=None)

    async def _compare(self, connection: Connection, tree: Tree | None, where: str, note: str) -> None:
        """What an earlier log of this installation left is no measure for the one that was opened after it; what a
        later one left says that this one has ended. Who holds no lock gives no tree: it is read now, since it may have
        grown until the note was signed."""
        origin = origin_of(note)
        if is_later(origin, self.origin):
            raise Fork(
                f"{where[0].upper()}{where[1:]} holds a checkpoint of {origin}, which was opened after this log."
            )
        if origin != self.origin:
            return
        try:
            known = parse(open_note(note, self.verifiers).text)
        except NoteInvalid as error:
            raise Fork(f"What {where} holds was not signed by this log's key: {error}") from error
        tree = tree or await tiling.tree_of(connection.fetch)
        if known.size > tree.size:
            raise Fork(f"The log has {tree.size} entries, but {where} was signed for {known.size}.")
        if await tiling.root_at(connection.fetch, tree, known.size) != known.root:
            raise Fork(f"The first {known.size} entries are not those which {where} was signed for.")

    async def _alarm(self, connection: Connection, sentence: str, now: datetime) -> None:
        if self.standing.fork is None:
            log.critical("the audit log is not the one that was signed", reason=sentence)
            body = system_body("audit.fork", self.origin, now, sentence, outcome=Outcome.FAILED)
            await connection.execute(RECORD, body)
        self.standing.fork = sentence


def _size_of(note: str) -> int:
    """As it says of itself, unverified; what says nothing is the least."""
    line = note.split("\n")[1:2]
    return int(line[0]) if line and line[0].isdecimal() else -1


def system_body(
    action: str,
    target: str,
    now: datetime,
    reason: str | None = None,
    *,
    outcome: Outcome = Outcome.ALLOWED,
    changes: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of an entry that the log makes about itself."""
    event = Event(now, action, outcome, SYSTEM, Origin(), target, reason=reason, changes=changes or {})
    return bodies.encode(event, b"", None, None, {})
