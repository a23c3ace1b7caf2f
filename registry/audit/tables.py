"""The row of an audit entry. The table is partitioned by month and made append-only in its migration."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from registry.storage.columns import text


class AuditRow(SQLModel, table=True):
    """`account_id` is whose log this entry stands in: the owner of the target, else the actor's account."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_log_account", "account_id", "recorded_at", "id"),
        Index("audit_log_actor", "actor_name", "recorded_at", "id"),
        Index("audit_log_refused", "recorded_at", "id", postgresql_where="outcome <> 'ALLOWED'"),
        Index("audit_log_request", "request_id"),
        {"postgresql_partition_by": "RANGE (recorded_at)"},
    )

    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    id: int = Field(sa_column=Column(BigInteger, Identity(always=True, cache=1), primary_key=True))
    event_id: UUID
    action: str = text()
    outcome: str = text()
    reason_code: str | None = text(nullable=True)
    reason: str | None = text(nullable=True)
    actor_kind: str = text()
    actor_id: UUID | None = None
    actor_name: str = text()
    credential_id: UUID | None = None
    account_id: UUID | None = None
    organization_id: UUID | None = None
    repository_id: UUID | None = None
    target: str = text()
    digest: str | None = text(nullable=True)
    source: str | None = text(nullable=True)
    client: str | None = text(nullable=True)
    request_id: str | None = text(nullable=True)
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
