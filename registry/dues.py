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
    """So much is due for a change at this place; a negative amount is given back."""

    due: Due
    place: Place
    amount: int


@dataclass(slots=True)
class Dues:
    """`held` bytes of it are written down as held by uploads already."""

    held: int = 0
    _lines: dict[Due, Line] = field(default_factory=dict)

    def add(self, key: Key, place: Place, amounts: int | Mapping[str, int]) -> None:
        """At each scope of the key that the place lies in; `amounts` by the kind of scope, where they differ."""
        for due in dues_of(key, place):
            amount = amounts if isinstance(amounts, int) else amounts[due.kind]
            self._lines.setdefault(due, Line(due, place, 0)).amount += amount

    def forgive(self, scope: UUID) -> None:
        """What is due at a scope that goes with this change."""
        self._lines = {due: line for due, line in self._lines.items() if due.scope != scope}

    def lines(self) -> list[Line]:
        """In the order in which counters are locked."""
        return [self._lines[due] for due in sorted(self._lines) if self._lines[due].amount]


def dues_of(key: Key, place: Place) -> list[Due]:
    """The counters of a key at the scopes that a place lies in, leaf to root."""
    ids = {"repository": place.repository_id, "organization": place.organization_id, "account": place.account_id}
    return [Due(quotas.order(key, kind), scope, kind, key) for kind in quotas.SCOPES[key] if (scope := ids[kind])]
