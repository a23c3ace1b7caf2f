"""What a push would be charged, told before a byte of it is sent, to those who may push.

Nothing is looked at but what charging looks at: whether the repository and its organization hold a digest. What others
hold is new here, and told apart from nothing; and so is what the organization holds where the actor may not see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.errors import Invalid
from registry.oci import media_types
from registry.oci.digest import Digest
from registry.places import Place
from registry.quotas import usage
from registry.quotas.usage import Quota
from registry.repositories import uploading
from registry.repositories.listing import VISIBLE
from registry.repositories.uploading import BlobTooLarge
from registry.work import Work

MOST_PARTS, LARGEST = 500, 2**63 - 1

# Which of these digests the repository holds, and how large they are that others of its organization do that the actor
# may see.
HELD = f"""
    WITH seen AS (SELECT id FROM repository WHERE organization_id = $4 AND (id = $5 OR id IN ({VISIBLE})))
    SELECT p.digest, b.size, coalesce(bool_or(h.repository_id = $5), false) AS here
    FROM unnest($6::text[]) AS p (digest) JOIN organization_blob b ON b.organization_id = $4 AND b.digest = p.digest
    JOIN (
        SELECT repository_id, digest FROM repository_blob WHERE digest = ANY($6)
        UNION ALL SELECT repository_id, digest FROM manifest WHERE digest = ANY($6)
    ) AS h ON h.digest = p.digest AND h.repository_id IN (SELECT id FROM seen)
    GROUP BY p.digest, b.size
"""
ACCOUNT = "SELECT name FROM account WHERE id = $1"


class PartsInvalid(Invalid):
    code = "DESCRIPTOR_INVALID"


class TooManyParts(Invalid):
    code = "TOO_MANY_DESCRIPTORS"


@dataclass(frozen=True, slots=True)
class Part:
    """What a manifest names, or the manifest itself."""

    digest: Digest
    size: int
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class WrongSize:
    digest: Digest
    said: int
    stored: int


@dataclass(frozen=True, slots=True)
class Room:
    """At one scope: what is new there, and what may still be added (none: without limit)."""

    kind: str
    name: str
    new: int
    room: int | None

    def holds(self, amount: int) -> bool:
        return amount <= 0 or self.room is None or amount <= self.room


@dataclass(frozen=True, slots=True)
class Estimate:
    """`missing` are not in the repository; of these, the organization holds the `mountable` elsewhere, where the actor
    sees them. `sent` is their size together. `refusal` is what a push would be told."""

    exists: bool
    rooms: Sequence[Room]
    missing: Sequence[Digest]
    mountable: Sequence[Digest]
    wrong: Sequence[WrongSize]
    sent: int
    refusal: str | None

    @property
    def fits_uploaded(self) -> bool:
        """Whether there is room even if all that is missing is on its way at once."""
        return self.refusal is None and all(room.holds(self.sent) for room in self.rooms)

    @property
    def tightest(self) -> Room | None:
        """The scope that has least left beyond what is new there."""
        limited = [(room.room - room.new, room) for room in self.rooms if room.room is not None]
        return min(limited, key=lambda each: each[0])[1] if limited else None


async def estimate(work: Work, place: Place, parts: Sequence[Part]) -> Estimate:
    """For a place that `creating.foreseen` found for who pushes. Raises `PartsInvalid`, `TooManyParts`."""
    wanted = _distinct(parts)
    by = work.actor.user_id, work.now, work.settings.anonymous_pull
    named = [part.digest for part in wanted]
    rows = await work.fetch(HELD, *by, place.organization_id, place.repository_id, named)
    held: dict[str, Any] = {row["digest"]: row for row in rows}
    missing = [part for part in wanted if part.digest not in held or not held[part.digest]["here"]]
    sizes = {part.digest: held[part.digest]["size"] if part.digest in held else part.size for part in missing}
    sent, above = sum(sizes.values()), sum(size for digest, size in sizes.items() if digest not in held)
    new = {"repository": sent, "organization": above, "account": above}
    rooms, full = await _rooms(work, place, new)
    stored = [WrongSize(part.digest, part.size, held[part.digest]["size"]) for part in wanted if part.digest in held]
    return Estimate(
        place.exists,
        rooms,
        [part.digest for part in missing],
        [part.digest for part in missing if part.digest in held],
        [one for one in stored if one.said != one.stored],
        sent,
        _too_large(work, missing) or full,
    )


def _distinct(parts: Sequence[Part]) -> list[Part]:
    """Each digest once, without what is to be had elsewhere only."""
    if len(parts) > MOST_PARTS:
        raise TooManyParts(
            f"At most {MOST_PARTS} descriptors can be asked about at once; these are {len(parts)}.",
            path=["descriptors"],
        )
    found: dict[str, Part] = {}
    for part in parts:
        if not 0 <= part.size <= LARGEST:
            raise _invalid(f"The size of {part.digest} must be a whole number of bytes from 0.")
        if part.media_type not in media_types.FOREIGN_LAYERS and found.setdefault(part.digest, part).size != part.size:
            raise _invalid(f"{part.digest} is named with two sizes, {found[part.digest].size} and {part.size}.")
    if sum(part.size for part in found.values()) > LARGEST:
        raise _invalid("Together these are more bytes than can be counted.")
    return list(found.values())


def _invalid(sentence: str) -> PartsInvalid:
    return PartsInvalid(sentence, path=["descriptors"])


async def _rooms(work: Work, place: Place, new: dict[str, int]) -> tuple[list[Room], str | None]:
    """What is left at each scope, and what the first that is too full would say."""
    rooms, refusal = [], None
    for scope in await _scopes(work, place):
        found = {quota.key: quota for quota in await usage.standings(work, scope)} if scope.exists else {}
        owed = {Key.REPOSITORIES: 0 if place.exists else 1, Key.STORAGE_BYTES: new[scope.kind]}
        for key, amount in owed.items():
            refusal = refusal or _full(found.get(key), scope, amount)
        rooms.append(Room(scope.kind, scope.name, new[scope.kind], _left(found.get(Key.STORAGE_BYTES))))
    return rooms, refusal


async def _scopes(work: Work, place: Place) -> list[Place]:
    """Leaf to root, as counters are locked."""
    home = replace(place, kind="organization", name=place.name.partition("/")[0], exists=True)
    name = await work.fetchval(ACCOUNT, place.account_id)
    return [place, home, replace(home, kind="account", name=name)]


def _left(quota: Quota | None) -> int | None:
    if quota is None or quota.limit is None:
        return None
    return max(0, quota.limit - quota.used - quota.held)


def _full(quota: Quota | None, scope: Place, amount: int) -> str | None:
    if quota is None or quota.limit is None or quotas.has_room(quota.used + quota.held, amount, quota.limit):
        return None
    return quotas.exceeded(quota.key, f"{scope.kind} '{scope.name}'", quota.limit, quota.used, quota.held, amount)


def _too_large(work: Work, parts: Sequence[Part]) -> str | None:
    try:
        uploading.check_size(work, max((part.size for part in parts), default=0))
    except BlobTooLarge as refusal:
        return refusal.message
    return None
