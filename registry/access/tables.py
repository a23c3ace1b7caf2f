"""Rows of the access room."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, SmallInteger
from sqlmodel import Field, SQLModel

from registry.identifiers import new_id
from registry.storage.columns import moment, text

LEGAL_LEVEL = "level IN (1, 3, 7)"


class OrganizationPermission(SQLModel, table=True):
    """A level on an organization holds for each of its repositories, present and future."""

    __tablename__ = "organization_permission"
    __table_args__ = (CheckConstraint(LEGAL_LEVEL, name="organization_permission_level"),)

    organization_id: UUID = Field(foreign_key="organization.id", primary_key=True, ondelete="CASCADE")
    user_id: UUID = Field(foreign_key="users.id", primary_key=True, ondelete="CASCADE", index=True)
    level: int = Field(sa_type=SmallInteger)
    granted_by: UUID | None = None
    created_at: datetime = moment()
    updated_at: datetime = moment()


class RepositoryPermission(SQLModel, table=True):
    __tablename__ = "repository_permission"
    __table_args__ = (CheckConstraint(LEGAL_LEVEL, name="repository_permission_level"),)

    repository_id: UUID = Field(foreign_key="repository.id", primary_key=True, ondelete="CASCADE")
    user_id: UUID = Field(foreign_key="users.id", primary_key=True, ondelete="CASCADE", index=True)
    level: int = Field(sa_type=SmallInteger)
    granted_by: UUID | None = None
    created_at: datetime = moment()
    updated_at: datetime = moment()


class Share(SQLModel, table=True):
    """Every user of the receiving account may pull one private repository until `expires_at`; none means forever.

    An expired share keeps its row: it is shown as ended, and tells a refused puller when it ended.
    """

    __tablename__ = "share"
    __table_args__ = (
        Index("share_repository_account", "repository_id", "account_id", unique=True),
        Index("share_account", "account_id", "created_at"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    repository_id: UUID = Field(foreign_key="repository.id", ondelete="CASCADE")
    account_id: UUID = Field(foreign_key="account.id")
    description: str = text(default="")
    expires_at: datetime | None = moment(nullable=True)
    created_by: UUID | None = None
    created_at: datetime = moment()
    updated_at: datetime = moment()
