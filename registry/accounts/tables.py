"""Rows of the accounts room."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, SmallInteger
from sqlmodel import Field, SQLModel

from registry.identifiers import new_id
from registry.storage.columns import moment, text


class Account(SQLModel, table=True):
    """A tenant. `suspended_at` freezes it: nothing may grow, everything may still be seen and deleted."""

    __tablename__ = "account"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = text(unique=True)
    created_at: datetime = moment()
    suspended_at: datetime | None = moment(nullable=True)


class User(SQLModel, table=True):
    """`generation` grows when everything issued before must end: a new password, a suspension."""

    __tablename__ = "users"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    account_id: UUID = Field(foreign_key="account.id", index=True)
    name: str = text(unique=True)
    password_hash: str | None = text(nullable=True)
    owner: bool = False
    platform_admin: bool = False
    generation: int = 1
    created_at: datetime = moment()
    created_by: UUID | None = None
    suspended_at: datetime | None = moment(nullable=True)
    forgotten_at: datetime | None = moment(nullable=True)


class Credential(SQLModel, table=True):
    """A random secret that signs a user in; stored only as a keyed hash, so a stolen database opens nothing.

    `level` is the ceiling: nothing done with it exceeds this level, nor what the user holds at that moment.
    """

    __tablename__ = "credential"
    __table_args__ = (Index("credential_user", "user_id", "created_at"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    kind: str = text()
    name: str = text()
    secret_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    level: int = Field(sa_type=SmallInteger)
    created_at: datetime = moment()
    expires_at: datetime | None = moment(nullable=True)
    revoked_at: datetime | None = moment(nullable=True)
    last_used_at: datetime | None = moment(nullable=True)
    last_used_from: str | None = text(nullable=True)
