"""Rows of the quotas room. What moves counters stands in functions of the database, next to the tables' migration."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Date, Identity, Index, SmallInteger, Text, true
from sqlmodel import Field, SQLModel

from registry.identifiers import new_id
from registry.storage.columns import moment, text, whole_number


def plain(*, primary_key: bool = False) -> Any:
    """Text in the order of its bytes."""
    return Field(sa_column=Column(Text(collation="C"), primary_key=primary_key, nullable=False))


def perhaps() -> Any:
    return Field(default=None, sa_type=BigInteger, nullable=True)


class QuotaCounter(SQLModel, table=True):
    """`charged` counts what is there and what is on its way. `hard` is the limit if `explicit`, else the default.

    `period` is the month of what is counted by the month, `sampled` what the last sample found used, and `peak` the
    most that was charged since. `warned` and `soft_warned` say what has been told of a limit that comes near.
    """

    __tablename__ = "quota_counter"
    __table_args__ = (
        CheckConstraint("charged >= 0", name="quota_counter_charged"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    scope_kind: str = text(primary_key=True)
    scope_id: UUID = Field(primary_key=True)
    key: str = text(primary_key=True)
    charged: int = whole_number(default=0)
    explicit: bool = False
    hard: int | None = perhaps()
    soft: int | None = perhaps()
    period: str = plain()
    peak: int = whole_number(default=0)
    sampled: int = whole_number(default=0)
    warned: int = Field(default=0, sa_type=SmallInteger)
    soft_warned: bool = False


class OrganizationBlob(SQLModel, table=True):
    """A digest an organization holds, charged once however many of its repositories link to it (`links`).

    Manifests count here too, each under its own digest.
    """

    __tablename__ = "organization_blob"

    organization_id: UUID = Field(foreign_key="organization.id", primary_key=True)
    digest: str = text(primary_key=True)
    size: int = whole_number()
    links: int = whole_number()
    first_at: datetime = moment()


class QuotaRefund(SQLModel, table=True):
    """What has been given back and is not taken off its counter yet."""

    __tablename__ = "quota_refund"
    __table_args__ = (
        CheckConstraint("amount > 0", name="quota_refund_amount"),
        Index("quota_refund_scope", "scope_kind", "scope_id", "key"),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    scope_kind: str = text()
    scope_id: UUID
    key: str = text()
    period: str = plain()
    amount: int = whole_number()


class QuotaLease(SQLModel, table=True):
    """A part of a month's traffic that one server may let through by itself."""

    __tablename__ = "quota_lease"
    __table_args__ = (
        CheckConstraint("used >= 0", name="quota_lease_used"),
        Index("quota_lease_organization", "organization_id", "key"),
        Index("quota_lease_expiry", "expires_at"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    organization_id: UUID
    key: str = text()
    period: str = plain()
    amount: int = whole_number()
    used: int = whole_number(default=0)
    expires_at: datetime = moment()


class TrafficHour(SQLModel, table=True):
    """What was pulled in an hour, by whom (nobody: the id of zeros) and under which tag (none: empty).

    No foreign keys: what was pulled stays true when a repository goes.
    """

    __tablename__ = "traffic_hour"

    organization_id: UUID = Field(primary_key=True)
    hour: datetime = moment(primary_key=True)
    repository_id: UUID = Field(primary_key=True)
    tag: str = plain(primary_key=True)
    user_id: UUID = Field(primary_key=True)
    pulls: int = whole_number()
    bytes: int = whole_number()


class TrafficDay(SQLModel, table=True):
    """As `TrafficHour`, once its hours are old."""

    __tablename__ = "traffic_day"

    organization_id: UUID = Field(primary_key=True)
    day: date = Field(sa_type=Date, primary_key=True)
    repository_id: UUID = Field(primary_key=True)
    tag: str = plain(primary_key=True)
    user_id: UUID = Field(primary_key=True)
    pulls: int = whole_number()
    bytes: int = whole_number()


class UsageHour(SQLModel, table=True):
    """What a counter said at the end of an hour, and the most it said in it. Hours without a change have no row."""

    __tablename__ = "usage_hour"

    scope_kind: str = text(primary_key=True)
    scope_id: UUID = Field(primary_key=True)
    key: str = text(primary_key=True)
    hour: datetime = moment(primary_key=True)
    value: int = whole_number()
    peak: int = whole_number()


class UsageDay(SQLModel, table=True):
    """As `UsageHour`, once its hours are old."""

    __tablename__ = "usage_day"

    scope_kind: str = text(primary_key=True)
    scope_id: UUID = Field(primary_key=True)
    key: str = text(primary_key=True)
    day: date = Field(sa_type=Date, primary_key=True)
    value: int = whole_number()
    peak: int = whole_number()


class QuotaRequest(SQLModel, table=True):
    """An owner asks for another limit (`wanted`; none: unlimited), and an administrator decides."""

    __tablename__ = "quota_request"
    __table_args__ = (
        CheckConstraint("state IN ('PENDING', 'APPROVED', 'DECLINED')", name="quota_request_state"),
        Index(
            "quota_request_pending",
            "scope_kind",
            "scope_id",
            "key",
            unique=True,
            postgresql_where="state = 'PENDING'",
        ),
        Index("quota_request_time", "requested_at", "id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    scope_kind: str = text()
    scope_id: UUID
    account_id: UUID = Field(foreign_key="account.id")
    key: str = text()
    wanted: int | None = perhaps()
    reason: str = text()
    state: str = text(default="PENDING")
    requested_by: UUID | None = None
    requested_at: datetime = moment()
    decided_by: UUID | None = None
    decided_at: datetime | None = moment(nullable=True)
    note: str = text(default="")


class QuotaRecount(SQLModel, table=True):
    """One row: when all counters were last held against what is there, when they were last sampled, and when what is
    old was last rolled up."""

    __tablename__ = "quota_recount"
    __table_args__ = (CheckConstraint("one", name="quota_recount_one"),)

    one: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=true()))
    verified_at: datetime | None = moment(nullable=True)
    sampled_at: datetime | None = moment(nullable=True)
    rolled_at: datetime | None = moment(nullable=True)


class QuotaDifference(SQLModel, table=True):
    """A counter that the last recount found to say something else than is there."""

    __tablename__ = "quota_difference"

    scope_kind: str = text(primary_key=True)
    scope_id: UUID = Field(primary_key=True)
    key: str = text(primary_key=True)
    charged: int = whole_number()
    owed: int = whole_number()
