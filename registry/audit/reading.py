"""Reading the log: newest first, filtered. Owners of an account read their account's entries, platform administrators
all.

Who asks has what is on its way numbered first, so that everybody finds what they did a moment ago. People are asked
for by name and stand in the log by id; what is sealed is asked for by its tag under each key that may have sealed it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col

from registry.access import finding
from registry.audit import sealing
from registry.audit.entries import signed_tag
from registry.audit.tables import AuditRow
from registry.audit.tiling import Tree, tree_of
from registry.work import Work

LINE: tuple[Any, ...] = (
    col(AuditRow.seq),
    col(AuditRow.logged_at),
    col(AuditRow.leaf),
    col(AuditRow.entry),
    col(AuditRow.account_id),
)
# The time of the entries around one: a tile's last is the next one's first.
AROUND = """
    SELECT (SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1::bigint - 1) AS since,
        (SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1::bigint) AS until
"""
BY_INDEX = """
    SELECT seq, logged_at, leaf, entry, account_id FROM audit_log
    WHERE seq = $1 AND logged_at >= coalesce($2::timestamptz, '-infinity')
        AND logged_at <= coalesce($3::timestamptz, 'infinity')
"""
PUBLISHED = "SELECT size FROM audit_checkpoint ORDER BY at DESC, size DESC LIMIT 1"
USER = "SELECT id FROM users WHERE name = $1"
SUBJECTS_OF_ACCOUNT = """
    SELECT subject FROM audit_subject
    WHERE wrapped IS NOT NULL AND ($1::uuid IS NULL OR subject LIKE 'strangers:%'
        OR subject IN (SELECT 'user:' || replace(id::text, '-', '') FROM users WHERE account_id = $1 OR platform_admin))
"""


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """All that is given must hold. `action`, `target` and `reason` may end in `*`; `until` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    source: str | None = None
    request_id: str | None = None
    reason: str | None = None


async def entries(work: Work, wanted: EntryFilter, account: str | None = None) -> Select[Any]:
    """The rows that the actor may read and wants; of one account, if it is named. Raises what `require` raises."""
    whose = await scope(work, account)
    conditions = [*_plain(wanted), *await _personal(work, wanted, whose)]
    if whose is not None:
        conditions.append(col(AuditRow.account_id) == whose)
    return select(*LINE).where(*conditions)


async def entry(work: Work, index: int) -> Any | None:
    """The row of that index, if the actor may read it."""
    row = await row_of(work, index)
    if row is None or work.allows("view_audit", await finding.platform(work)):
        return row
    own = await finding.account(work, await _own(work))
    return row if row["account_id"] == own.account_id and work.allows("view_audit", own) else None


async def row_of(work: Work, index: int) -> Any | None:
    """The row of that index, whoever asks. The tiles tell its time, and so its partition."""
    around = await work.fetchrow(AROUND, index // 256)
    assert around is not None  # noqa: S101
    return await work.fetchrow(BY_INDEX, index, around["since"], around["until"])


async def scope(work: Work, account: str | None) -> UUID | None:
    """Whose log is read: the account's that is named, else all for platform administrators, else one's own.

    Raises what `require` raises.
    """
    platform = await finding.platform(work)
    if account is None and work.allows("view_audit", platform):
        return None
    place = await finding.account(work, account or await _own(work))
    work.require("view_audit", place)
    return place.id


async def published(work: Work) -> int:
    """How many entries stand under the newest checkpoint."""
    size: int | None = await work.fetchval(PUBLISHED)
    return size or 0


async def tree(work: Work) -> Tree:
    return await tree_of(work.fetch)


async def _own(work: Work) -> str:
    name: str | None = await work.fetchval("SELECT name FROM account WHERE id = $1", work.actor.account_id)
    return name or ""


def _plain(wanted: EntryFilter) -> list[ColumnElement[bool]]:
    found = [
        _matches(col(AuditRow.action), wanted.action),
        _matches(col(AuditRow.stated), wanted.reason),
        _equals(col(AuditRow.outcome), wanted.outcome.lower() if wanted.outcome else None),
        _equals(col(AuditRow.request_id), wanted.request_id),
        None if wanted.since is None else col(AuditRow.logged_at) >= wanted.since,
        None if wanted.until is None else col(AuditRow.logged_at) < wanted.until,
    ]
    return [condition for condition in found if condition is not None]


async def _personal(work: Work, wanted: EntryFilter, whose: UUID | None) -> list[ColumnElement[bool]]:
    """The conditions on what stands in the log by an id or a tag."""
    found: list[ColumnElement[bool]] = []
    if wanted.target is not None:
        found.append(await _target(work, wanted.target))
    if wanted.actor is None and wanted.source is None:
        return found
    subjects = [row["subject"] for row in await work.fetch(SUBJECTS_OF_ACCOUNT, whose)]
    keys = await sealing.keys_of(work.fetch, work.foundation.sealing, subjects)
    if wanted.actor is not None:
        found.append(await _actor(work, wanted.actor, keys))
    if wanted.source is not None:
        found.append(_tagged(col(AuditRow.source_tag), "source", wanted.source, keys.values()))
    return found


async def _actor(work: Work, name: str, keys: sealing.Keys) -> ColumnElement[bool]:
    """Whoever acts under this name, or claimed it when signing in failed."""
    if name in ("system", "anonymous"):
        return col(AuditRow.actor_kind) == name
    user_id = await work.fetchval(USER, name)
    strangers = [key for subject, key in keys.items() if subject.startswith("strangers:")]
    claimed = _tagged(col(AuditRow.actor_tag), "name", name, strangers)
    return claimed if user_id is None else or_(col(AuditRow.actor_id) == user_id, claimed)


async def _target(work: Work, target: str) -> ColumnElement[bool]:
    """A user at the end of a target stands there by id."""
    place, colon, name = target.rpartition(":")
    user_id = None if target.endswith("*") else await work.fetchval(USER, name)
    plain = _matches(col(AuditRow.target), target)
    assert plain is not None  # noqa: S101
    return plain if user_id is None else or_(plain, col(AuditRow.target) == f"{place}{colon}user_{user_id.hex}")


def _tagged(column: Any, kind: str, text: str, keys: Iterable[bytes | None]) -> ColumnElement[bool]:
    tags = [signed_tag(sealing.tag(key, kind, text)) for key in keys if key]
    return column == func.any(bindparam(None, tags, type_=ARRAY(BigInteger)))  # type: ignore[no-any-return]


def _equals(column: Any, value: str | UUID | None) -> ColumnElement[bool] | None:
    return None if value is None else column == value


def _matches(column: Any, value: str | None) -> ColumnElement[bool] | None:
    if value is not None and value.endswith("*"):
        return column.startswith(value[:-1], autoescape=True)  # type: ignore[no-any-return]
    return _equals(column, value)
