"""The rows of the log. What may be done to which table, and by whom, is laid down in the migration."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from registry.storage.columns import moment, text, whole_number

# What entries are found by, byte by byte and so in every locale alike; of long texts, the beginning. Nearly all
# entries are pulls, so whatever else is asked for has an index without them.
INDEXED_TEXT = 400
BEGINNING_OF_TARGET, BEGINNING_OF_STATED = (f'"left"({name}, {INDEXED_TEXT})' for name in ("target", "stated"))
TARGET = literal_column(f'{BEGINNING_OF_TARGET} COLLATE "C"', Text)
STATED = literal_column(f'{BEGINNING_OF_STATED} COLLATE "C"', Text)
ACTION = literal_column('action COLLATE "C"', Text)
PULL = "image.pull"
NO_PULL = literal_column(f"action <> '{PULL}'", Boolean)


class InboxRow(SQLModel, table=True):
    """An event that has no number yet. `id` grows in the order in which the events were written."""

    __tablename__ = "audit_inbox"
    __table_args__ = (CheckConstraint("octet_length(body) <= 65535", name="audit_inbox_small"),)

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True, cache=1), primary_key=True))
    body: bytes


class AuditRow(SQLModel, table=True):
    """An entry. Partitioned by month of `logged_at`; all but the first four columns follow from `entry`.

    `account_id` is whose log this entry stands in: the owner of the target, else the actor's account.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_log_account", "account_id", "logged_at", "seq"),
        Index("audit_log_actor", "actor_id", "logged_at", "seq"),
        Index("audit_log_nobody", "actor_kind", "logged_at", "seq", postgresql_where="actor_id IS NULL"),
        Index("audit_log_refused", "outcome", "logged_at", "seq", postgresql_where="outcome <> 'allowed'"),
        Index("audit_log_request", "request_id"),
        Index("audit_log_source", "source_tag", "logged_at", "seq"),
        Index("audit_log_target", literal_column(BEGINNING_OF_TARGET), "logged_at", "seq"),
        Index(
            "audit_log_stated",
            literal_column(BEGINNING_OF_STATED),
            "logged_at",
            "seq",
            postgresql_where="stated IS NOT NULL",
        ),
        Index("audit_log_reasons", "logged_at", "seq", postgresql_where="stated IS NOT NULL"),
        Index("audit_log_claimed", "actor_tag", "logged_at", "seq", postgresql_where="actor_tag IS NOT NULL"),
        Index("audit_log_besides_pulls", "action", "logged_at", "seq", postgresql_where=NO_PULL),
        {"postgresql_partition_by": "RANGE (logged_at)"},
    )

    logged_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    entry: bytes
    leaf: bytes
    event_id: UUID
    account_id: UUID | None = None
    organization_id: UUID | None = None
    org_seq: int | None = Field(default=None, sa_type=BigInteger)
    repository_id: UUID | None = None
    actor_kind: str = text()
    actor_id: UUID | None = None
    action: str = text()
    outcome: str = text()
    target: str = text()
    stated: str | None = text(nullable=True)
    request_id: str | None = text(nullable=True)
    actor_tag: int | None = Field(default=None, sa_type=BigInteger)
    source_tag: int | None = Field(default=None, sa_type=BigInteger)


class TileRow(SQLModel, table=True):
    """A full tile. `last_at` is the time of the last entry under it, by which entries are found in their partition."""

    __tablename__ = "audit_tile"
    __table_args__ = (CheckConstraint("length(data) = 8192"),)

    level: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    idx: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    data: bytes
    last_at: datetime = moment()


class TreeRow(SQLModel, table=True):
    """The one tree. `edge` holds, by level, the hashes that fill no tile yet."""

    __tablename__ = "audit_tree"

    one: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default="true"))
    size: int = whole_number()
    edge: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    last_at: datetime = moment()


class CheckpointRow(SQLModel, table=True):
    __tablename__ = "audit_checkpoint"
    __table_args__ = (Index("audit_checkpoint_newest", "at", "size"),)

    origin: str = text(primary_key=True)
    size: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    root: bytes
    note: str = text()
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))


class OrganizationHead(SQLModel, table=True):
    """The last number given within an organization; the first is 1."""

    __tablename__ = "audit_org_head"

    organization_id: UUID = Field(primary_key=True)
    org_seq: int = whole_number()


class SubjectRow(SQLModel, table=True):
    """A person's key, wrapped; none once the person is forgotten."""

    __tablename__ = "audit_subject"

    subject: str = text(primary_key=True)
    wrapped: bytes | None = None
    erased_at: datetime | None = moment(nullable=True)


class ScrubRow(SQLModel, table=True):
    """When the whole log was last verified, and what was found; none when it was sound."""

    __tablename__ = "audit_scrub"

    one: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default="true"))
    begun_at: datetime = moment()
    ended_at: datetime | None = moment(nullable=True)
    finding: str | None = text(nullable=True)


class SegmentRow(SQLModel, table=True):
    """What has become of a month."""

    __tablename__ = "audit_segment"

    month: date = Field(primary_key=True)
    first_seq: int | None = Field(default=None, sa_type=BigInteger)
    last_seq: int | None = Field(default=None, sa_type=BigInteger)
    archive: str | None = text(nullable=True)
    digest: str | None = text(nullable=True)
    verified_at: datetime | None = moment(nullable=True)
    dropped_at: datetime | None = moment(nullable=True)
    legal_hold: bool = False
