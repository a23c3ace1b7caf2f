"""Charging what a change adds, and giving back what it takes out.

A verb only says what is due (`Work.charge`); all of it is charged in one statement when the change is complete, just
before its commit (`settle_dues`, which every Work calls). So a change is charged whole or not at all, counters are
locked for the shortest time, after all else and in one order, and nobody waits for them in a circle. Where there is no
room, the change is rolled back and `QuotaExceeded` raised as the Work is left.
"""

from collections.abc import Sequence
from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.dues import Due, Line, dues_of
from registry.errors import QuotaExceeded, TrafficExceeded
from registry.places import Place
from registry.quotas.scopes import NAMES, held
from registry.settings import Settings
from registry.work import Work

# There are clients that wait as long as they are told, a minute at most, and ask five times: who told them of the next
# month would keep their user waiting for minutes before the sentence is shown. A limit may be raised at any time.
RETRY_SECONDS = 1
CHARGE = "SELECT * FROM quota_charge($1, $2, $3, $4, $5, $6, $7)"
# As one statement: whether the digest is new to the organization says what is charged.
LINK_AND_CHARGE = """
    WITH linked AS (
        INSERT INTO organization_blob AS b (organization_id, digest, size, links, first_at)
        VALUES ($7, $8, $9, 1, $10)
        ON CONFLICT (organization_id, digest) DO UPDATE SET links = b.links + 1 RETURNING b.links = 1 AS is_new)
    SELECT c.* FROM linked, quota_charge(
        $1, $2, $3, $4, CASE WHEN is_new THEN $11::bigint[] ELSE $5::bigint[] END, $6) AS c
"""
UNLINK = """
    WITH gone AS (SELECT digest, count(*) AS links FROM unnest($2::text[]) AS digest GROUP BY digest),
    locked AS (
        SELECT digest FROM organization_blob WHERE organization_id = $1 AND digest = ANY($2)
        ORDER BY digest FOR UPDATE),
    left_over AS (
        UPDATE organization_blob b SET links = b.links - gone.links FROM gone JOIN locked USING (digest)
        WHERE b.organization_id = $1 AND b.digest = gone.digest RETURNING b.digest, b.links, b.size)
    SELECT digest, size FROM left_over WHERE links <= 0
"""
DROP = "DELETE FROM organization_blob WHERE organization_id = $1 AND digest = ANY($2::text[])"
FORGET = """
    WITH counters AS (DELETE FROM quota_counter WHERE scope_kind = $1 AND scope_id = $2),
    refunds AS (DELETE FROM quota_refund WHERE scope_kind = $1 AND scope_id = $2),
    requests AS (DELETE FROM quota_request WHERE scope_kind = $1 AND scope_id = $2),
    leases AS (DELETE FROM quota_lease WHERE organization_id = $2)
    SELECT 1
"""
# The name of a scope, and how much of what is charged there is on its way. $2 the key, $3 the month.
STANDING = {kind: f"SELECT ({name}) AS name, {held(kind, '$2', '$3')} AS held" for kind, name in NAMES.items()}


async def settle_dues(work: Work) -> None:
    """Charges what the Work owes. Raises `QuotaExceeded`; a limit that comes near is told in an entry besides."""
    lines, link = work.dues.lines(), work.dues.link
    arguments = _arguments(work, lines)
    if link is not None:
        linked = link.organization_id, link.digest, link.size, work.now, [line.amount + line.if_new for line in lines]
        await read_charged(work, lines, await work.fetch(LINK_AND_CHARGE, *arguments, *linked))
    elif lines and not await work.commit_with(quietly(arguments, holding=work.dues.held > 0)):
        await read_charged(work, lines, await work.fetch(CHARGE, *arguments, work.dues.held > 0))


def quietly(arguments: Sequence[Sequence[Any]], *, holding: bool) -> str:
    """`CHARGE` spelled out, where nothing comes of it that has to be told: in words, ids and numbers of ours. Nothing
    of it was typed by anybody."""
    kinds = ("text", "uuid", "text", "text", "bigint", "bigint")
    arrays = (f"ARRAY[{_spelled(values)}]::{kind}[]" for values, kind in zip(arguments, kinds, strict=True))
    return f"SELECT quota_charge_quietly({', '.join(arrays)}, {holding})"


async def read_charged(work: Work, lines: Sequence[Line], rows: Sequence[Any]) -> None:
    """What `quota_charge` answered. Raises `QuotaExceeded`."""
    for row in sorted(rows, key=lambda row: not row["refused"]):
        line = lines[row["line"] - 1]
        if row["refused"]:
            raise await _exceeded(work, line, row["top"], row["charged"])
        name = (await _standing(work, line.due))["name"]
        tell(work, _scope_of(line, name), line.due.key, row["step"], row["top"], row["charged"])


async def settle_storage(work: Work, place: Place, within: str, *arguments: Any) -> None:
    """What was held is content now: by `within`, a statement that does that and more, whose last parameter are the
    limits by default, after the others that are given."""
    lines = [Line(due, place) for due in dues_of(Key.STORAGE_BYTES, place)]
    defaults = [default_limit(work.settings, Key.STORAGE_BYTES, line.due.kind) for line in lines]
    await read_charged(work, lines, await work.fetch(within, *arguments, defaults))


def link(work: Work, digest: str, size: int, place: Place) -> None:
    """One more repository of the organization holds this digest: it is charged where it is new."""
    work.dues.add_link(Key.STORAGE_BYTES, place, digest, size)


async def unlink(work: Work, sizes: Sequence[tuple[str, int]], place: Place) -> int:
    """Takes one link for each digest given, and gives back its size at the repository, and what no repository of the
    organization holds any more there; returns the latter, in bytes."""
    gone = await work.fetch(UNLINK, place.organization_id, [digest for digest, _ in sizes])
    freed: int = sum(row["size"] for row in gone)
    if gone:
        await work.execute(DROP, place.organization_id, [row["digest"] for row in gone])
    linked = sum(size for _, size in sizes)
    work.charge(Key.STORAGE_BYTES, {"repository": -linked, "organization": -freed, "account": -freed}, place)
    return freed


async def forget(work: Work, place: Place) -> None:
    """The counters of a scope that goes, with all that hangs on them."""
    work.dues.forgive(place.id)
    await work.execute(FORGET, place.kind, place.id)


def default_limit(settings: Settings, key: Key, scope_kind: str) -> int | None:
    """The limit of a scope that was never given one of its own; only the key's home has one."""
    if scope_kind != quotas.HOME[key]:
        return None
    value: int | None = getattr(settings, f"quota_{key.value.lower()}")
    return value


def tell(work: Work, place: Place, key: Key, step: int, limit: int, used: int) -> None:
    """Puts on the books that a limit comes near, in the transaction that brought it there. `step` is in per cent, or 0
    for a soft limit."""
    changes = {
        "step": [None, f"{step} %" if step else "soft limit"],
        "used": [None, used],
        "limit": [None, limit],
    }
    work.also("quota.alert", place, changes, target=f"{place.kind} {place.name} {key.value}")


def _spelled(values: Sequence[Any]) -> str:
    return ", ".join("NULL" if value is None else f"'{value}'" for value in values)


def _arguments(work: Work, lines: Sequence[Line]) -> list[list[Any]]:
    dues = [line.due for line in lines]
    return [
        [due.kind for due in dues],
        [due.scope for due in dues],
        [due.key.value for due in dues],
        [quotas.period_of(due.key, work.now) for due in dues],
        [line.amount for line in lines],
        [default_limit(work.settings, due.key, due.kind) for due in dues],
    ]


async def _exceeded(work: Work, line: Line, limit: int, charged: int) -> QuotaExceeded:
    """What whoever asks holds itself is part of what they ask for, and nothing to wait for."""
    row = await _standing(work, line.due)
    key, scope = line.due.key, f"{line.due.kind} '{row['name']}'"
    needed, before = line.amount + line.if_new, work.dues.before
    all_held = row["held"] - (work.dues.held if key is Key.STORAGE_BYTES else 0)
    used, held, requested = charged - all_held, all_held - before, needed + before
    if period := quotas.period_of(key, work.now):
        scope = f"{scope} in {period}"
    sentence = quotas.exceeded(key, scope, limit, used, held, requested)
    numbers = {"limit": limit, "used": used, "held": held, "requested": requested}
    if not period:
        refusal = QuotaExceeded(sentence, key=key.value, scope=scope, **numbers)
        refusal.kind, refusal.scope_id, refusal.needed = line.due.kind, line.due.scope, needed
        return refusal
    resets = quotas.next_month(work.now).isoformat()
    return TrafficExceeded(sentence, key=key.value, scope=scope, retry_after=RETRY_SECONDS, resets_at=resets, **numbers)


async def _standing(work: Work, due: Due) -> Any:
    return await work.fetchrow(STANDING[due.kind], due.scope, due.key.value, quotas.period_of(due.key, work.now))


def _scope_of(line: Line, name: str) -> Place:
    kind, place = line.due.kind, line.place
    repository = place.repository_id if kind == "repository" else None
    organization = None if kind == "account" else place.organization_id
    return Place(kind, name, True, place.account_id, organization, repository)
