"""Rows of the organizations room."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, SQLModel

from registry.identifiers import new_id
from registry.storage.columns import moment, text


class Organization(SQLModel, table=True):
    __tablename__ = "organization"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    account_id: UUID = Field(foreign_key="account.id", index=True)
    name: str = text(unique=True)
    created_by: UUID | None = None
    created_at: datetime = moment()
