"""Floods: whoever is refused again and again cannot fill the log.

Denials are equal that share source, actor, action, reason code and target. In each minute of the clock the first
twenty of them are entries like all others. The next opens a flood, in an entry that says so; those that follow are only
counted, until an entry tells how many they were. It comes when the minute is over, or earlier when there are too many
kinds to remember. Whoever is refused at ever new targets is counted likewise: beyond six hundred single denials of one
source and actor the rest of the minute is told together, in the log of each account it concerns.

The time is passed in and nothing is written here: what is to be written is `owed`. Each denial either stands by itself
or is part of exactly one count.
"""

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from registry.actors import ANONYMOUS
from registry.audit.bodies import shortened
from registry.events import Event
from registry.identifiers import new_id

EQUAL, OF_ONE = 20, 600
MOST_KEPT = 4096
MOST_OWED = 4096
ANY = "*"

Who = tuple[str | None, UUID | None]


@dataclass(slots=True)
class Kind:
    """Equal denials of this minute: so many stand by themselves, and `count` have not been told yet."""

    singles: int = 0
    opened: bool = False
    count: int = 0
    first: datetime | None = None
    last: Event | None = None


class Floods:
    """Of one process. `owed` holds entries to be written; whoever takes them out writes them, or puts them back."""

    def __init__(self, equal: int = EQUAL, of_one: int = OF_ONE, kept: int = MOST_KEPT) -> None:
        self.owed: deque[Event] = deque()
        self._equal, self._of_one, self._kept = equal, of_one, kept
        self._minute: datetime | None = None
        self._kinds: OrderedDict[bytes, Kind] = OrderedDict()
        self._singles: OrderedDict[Who, int] = OrderedDict()

    def swallows(self, denial: Event, now: datetime) -> bool:
        """Whether this denial is only counted. Else it is to be recorded by itself: also when so much is owed, because
        nothing can be written, that counting would have no bound."""
        self.pass_time(now)
        if len(self.owed) >= MOST_OWED:
            return False
        who = denial.origin.source, denial.actor.user_id
        equal = _key(*who, denial.action, denial.reason_code, denial.target)
        singles = self._kinds[equal].singles if equal in self._kinds else 0
        if singles < self._equal and self._singles.get(who, 0) < self._of_one:
            self._kind(equal).singles += 1
            self._count_single(who)
            return False
        if singles < self._equal:
            self._count(self._kind(_key(*who, denial.account_id)), _of_any(denial))
        else:
            self._count(self._kind(equal), denial)
        return True

    def pass_time(self, now: datetime) -> None:
        """Ends what belongs to a minute that is over."""
        minute = now.replace(second=0, microsecond=0)
        if minute != self._minute:
            self.end()
            self._minute = minute

    def end(self) -> None:
        """Owes whatever was only counted, and begins anew."""
        for kind in self._kinds.values():
            self._owe(kind)
        self._kinds.clear()
        self._singles.clear()

    def _kind(self, key: bytes) -> Kind:
        kind = self._kinds.setdefault(key, Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > self._kept:
            self._owe(self._kinds.popitem(last=False)[1])
        return kind

    def _count_single(self, who: Who) -> None:
        self._singles[who] = self._singles.get(who, 0) + 1
        self._singles.move_to_end(who)
        if len(self._singles) > self._kept:
            self._singles.popitem(last=False)

    def _count(self, kind: Kind, denial: Event) -> None:
        kind.count += 1
        kind.first = kind.first or denial.at
        kind.last = _bounded(denial)
        if not kind.opened:
            kind.opened = True
            self._owe(kind, "Denied too often within a minute: from here on it is only counted.")

    def _owe(self, kind: Kind, reason: str | None = None) -> None:
        if kind.last is None:
            return
        again = "once" if kind.count == 1 else f"{kind.count} times"
        self.owed.append(_entry(kind, kind.last, reason or f"Denied {again} more within the minute."))
        kind.count, kind.first, kind.last = 0, None, None


def _entry(kind: Kind, last: Event, reason: str) -> Event:
    """The request is that of the last denial that it counts."""
    told = {"action": last.action, "count": kind.count, "first": kind.first, "last": last.at}
    changes = {field: [None, value] for field, value in told.items()}
    return replace(last, id=new_id(), action="denial.flood", reason=reason, changes=changes)


def _of_any(denial: Event) -> Event:
    """What is left of a denial that is counted with others of the same source, actor and account."""
    return replace(
        denial,
        actor=ANONYMOUS if denial.actor.anonymous else denial.actor,
        action=ANY,
        target=ANY,
        reason_code=None,
        organization_id=None,
        repository_id=None,
        digest=None,
        about=None,
        about_id=None,
    )


def _bounded(denial: Event) -> Event:
    """Strangers may make these long, and the count is kept for a while."""
    origin = replace(denial.origin, client=shortened(denial.origin.client))
    return replace(denial, target=shortened(denial.target) or "", origin=origin)


def _key(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=16).digest()
