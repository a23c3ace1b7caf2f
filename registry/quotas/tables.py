"""Rows of the quotas room."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint
from sqlmodel import Field, SQLModel

from registry.storage.columns import moment, text, whole_number


class QuotaCounter(SQLModel, table=True):
    """`charged` counts what is there and what is on its way. `hard` is the limit if `explicit`, else the default."""

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
    hard: int | None = Field(default=None, sa_type=BigInteger, nullable=True)


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
