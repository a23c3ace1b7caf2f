"""Reading the log: newest first, filtered. Owners of an account read their account's entries, platform administrators
all."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlmodel import col

from registry.access import finding
from registry.audit.tables import AuditRow
from registry.work import Work


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """All that is given must hold. `action` and `target` may end in `*`; `until` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    source: str | None = None
    request_id: str | None = None


async def entries(work: Work, wanted: EntryFilter, account: str | None = None) -> Select[Any]:
    """The entries that the actor may read and wants; of one account, if it is named. Raises what `require` raises."""
    conditions = _conditions(wanted)
    platform = await finding.platform(work)
    if account is not None or not work.allows("view_audit", platform):
        place = await finding.account(work, account or await _own(work))
        work.require("view_audit", place)
        conditions.append(col(AuditRow.account_id) == place.id)
    return select(*AuditRow.__table__.columns).where(*conditions)  # type: ignore[attr-defined]


async def entry(work: Work, index: int) -> Any | None:
    """The entry of that index, if the actor may read it."""
    row = await work.fetchrow(select(*AuditRow.__table__.columns).where(col(AuditRow.id) == index))  # type: ignore[attr-defined]
    if row is None:
        return None
    if work.allows("view_audit", await finding.platform(work)):
        return row
    own = await finding.account(work, await _own(work))
    return row if row["account_id"] == own.account_id and work.allows("view_audit", own) else None


async def _own(work: Work) -> str:
    name: str | None = await work.fetchval("SELECT name FROM account WHERE id = $1", work.actor.account_id)
    return name or ""


def _conditions(wanted: EntryFilter) -> list[ColumnElement[bool]]:
    found = [
        _matches(col(AuditRow.action), wanted.action),
        _matches(col(AuditRow.target), wanted.target),
        _equals(col(AuditRow.actor_name), wanted.actor),
        _equals(col(AuditRow.outcome), wanted.outcome),
        _equals(col(AuditRow.source), wanted.source),
        _equals(col(AuditRow.request_id), wanted.request_id),
        None if wanted.since is None else col(AuditRow.recorded_at) >= wanted.since,
        None if wanted.until is None else col(AuditRow.recorded_at) < wanted.until,
    ]
    return [condition for condition in found if condition is not None]


def _equals(column: Any, value: str | UUID | None) -> ColumnElement[bool] | None:
    return None if value is None else column == value


def _matches(column: Any, value: str | None) -> ColumnElement[bool] | None:
    if value is not None and value.endswith("*"):
        return column.startswith(value[:-1], autoescape=True)  # type: ignore[no-any-return]
    return _equals(column, value)
