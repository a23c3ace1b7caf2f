"""What a change owes the quotas: one line for each counter that it moves, charged all at once when it is complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.places import Place


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """One counter. Dues sort in the order in which counters are locked."""

    order: tuple[int, str]
    scope: UUID
    kind: str
    key: Key


@dataclass(slots=True)
class Line:
    """So much is due for a change at this place; a negative amount is given back. `if_new` comes on top where the
    digest that is linked is new to its organization."""

    due: Due
    place: Place
    amount: int = 0
    if_new: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """One more repository of an organization holds this digest."""

    organization_id: UUID
    digest: str
    size: int


@dataclass(slots=True)
class Dues:
    """`held` bytes of it are written down as held by uploads already. Whoever asks for more of a key had `before` of it
    on its way: what is asked for in all is both."""

    held: int = 0
    before: int = 0
    link: Link | None = None
    _lines: dict[Due, Line] = field(default_factory=dict)

    def add(self, key: Key, place: Place, amounts: int | Mapping[str, int]) -> None:
        """At each scope of the key that the place lies in; `amounts` by the kind of scope, where they differ."""
        for due in dues_of(key, place):
            amount = amounts if isinstance(amounts, int) else amounts[due.kind]
            self._line(due, place).amount += amount

    def add_link(self, key: Key, place: Place, digest: str, size: int) -> None:
        """Bytes that are new to a repository; whether they are to its organization and account, the database will find.
        One in a change."""
        assert self.link is None, "a change links one digest"  # noqa: S101
        assert place.organization_id is not None  # noqa: S101
        self.link = Link(place.organization_id, digest, size)
        for due in dues_of(key, place):
            line = self._line(due, place)
            if due.kind == "repository":
                line.amount += size
            else:
                line.if_new += size

    def forgive(self, scope: UUID) -> None:
        """What is due at a scope that goes with this change."""
        self._lines = {due: line for due, line in self._lines.items() if due.scope != scope}

    def lines(self) -> list[Line]:
        """In the order in which counters are locked."""
        return [line for _, line in sorted(self._lines.items()) if line.amount or line.if_new]

    def _line(self, due: Due, place: Place) -> Line:
        return self._lines.setdefault(due, Line(due, place))


def dues_of(key: Key, place: Place) -> list[Due]:
    """The counters of a key at the scopes that a place lies in, leaf to root."""
    ids = {"repository": place.repository_id, "organization": place.organization_id, "account": place.account_id}
    return [Due(quotas.order(key, kind), scope, kind, key) for kind in quotas.SCOPES[key] if (scope := ids[kind])]
