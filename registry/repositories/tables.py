"""Rows of the repositories room."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from registry.identifiers import new_id
from registry.storage.columns import moment, text, whole_number


class Repository(SQLModel, table=True):
    __tablename__ = "repository"
    __table_args__ = (
        UniqueConstraint("organization_id", "name", name="repository_name"),
        CheckConstraint("visibility IN ('PUBLIC', 'PRIVATE')", name="repository_visibility"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    organization_id: UUID = Field(foreign_key="organization.id")
    name: str = text()
    visibility: str = text(default="PRIVATE")
    category: str = text(default="OTHER")
    description: str = text(default="")
    created_by: UUID | None = None
    created_at: datetime = moment()
    updated_at: datetime = moment()


class Blob(SQLModel, table=True):
    """Bytes the store holds, known by their digest; the row is written after they are safe on disk."""

    __tablename__ = "blob"

    digest: str = text(primary_key=True)
    size: int = whole_number()
    stored_at: datetime = moment()


class RepositoryBlob(SQLModel, table=True):
    __tablename__ = "repository_blob"
    __table_args__ = (Index("repository_blob_digest", "digest"), Index("repository_blob_linked", "linked_at"))

    repository_id: UUID = Field(foreign_key="repository.id", primary_key=True, ondelete="CASCADE")
    digest: str = text(primary_key=True, foreign_key="blob.digest")
    linked_at: datetime = moment()


class BlobSweep(SQLModel, table=True):
    """One row: of which age links have been looked at for blobs that no manifest came for."""

    __tablename__ = "blob_sweep"
    __table_args__ = (CheckConstraint("one", name="blob_sweep_one"),)

    one: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=true()))
    linked_until: datetime = moment()


class Manifest(SQLModel, table=True):
    """A manifest as pushed, byte for byte. `total_size` is its own size and that of the distinct blobs it names."""

    __tablename__ = "manifest"
    __table_args__ = (
        Index("manifest_subject", "repository_id", "subject", postgresql_where="subject IS NOT NULL"),
        Index("manifest_pushed", "repository_id", "pushed_at"),
    )

    repository_id: UUID = Field(foreign_key="repository.id", primary_key=True, ondelete="CASCADE")
    digest: str = text(primary_key=True)
    media_type: str = text()
    artifact_type: str | None = text(nullable=True)
    subject: str | None = text(nullable=True)
    config_digest: str | None = text(nullable=True)
    annotations: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    platforms: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    size: int = whole_number()
    total_size: int = whole_number()
    pushed_by: UUID | None = None
    pushed_at: datetime = moment()


class ManifestPart(SQLModel, table=True):
    """What a manifest needs: its config, its layers, or the manifests of an index."""

    __tablename__ = "manifest_part"
    __table_args__ = (
        ForeignKeyConstraint(
            ["repository_id", "manifest_digest"],
            ["manifest.repository_id", "manifest.digest"],
            ondelete="CASCADE",
        ),
        Index("manifest_part_digest", "repository_id", "digest"),
    )

    repository_id: UUID = Field(primary_key=True)
    manifest_digest: str = text(primary_key=True)
    digest: str = text(primary_key=True)
    kind: str = text()


class Tag(SQLModel, table=True):
    __tablename__ = "tag"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "digest"], ["manifest.repository_id", "manifest.digest"]),
        Index("tag_digest", "repository_id", "digest"),
        Index("tag_pushed", "repository_id", "pushed_at", "name"),
    )

    repository_id: UUID = Field(primary_key=True)
    name: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    digest: str = text()
    created_at: datetime = moment()
    pushed_by: UUID | None = None
    pushed_at: datetime = moment()


class Upload(SQLModel, table=True):
    """A blob on its way. One request at a time may move it: `lease` names the one that does, until `leased_until`.

    `held` bytes of the quota are its own, until `held_until` or for as long as it is moved. While it moves, it is
    `unannounced` how many there will be, and where there is no room it waits, `waits_until` then at least.
    """

    __tablename__ = "upload"
    __table_args__ = (
        Index("upload_expiry", "expires_at"),
        Index("upload_user", "user_id"),
        Index("upload_held", "held_until", postgresql_where="held > 0"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    repository_id: UUID = Field(foreign_key="repository.id", ondelete="CASCADE", index=True)
    user_id: UUID | None = None
    received: int = whole_number()
    algorithm: str = text(default="sha256")
    held: int = whole_number(default=0)
    lease: UUID | None = None
    leased_until: datetime | None = moment(nullable=True)
    started_at: datetime = moment()
    expires_at: datetime = moment()
    client: str | None = text(nullable=True)
    held_until: datetime = moment()
    waits_until: datetime | None = moment(nullable=True)
    unannounced: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class PullCount(SQLModel, table=True):
    """Pulls of a repository (empty `tag`) and of each tag; written with the audit entries of the same pulls.

    No foreign key: a count may arrive in the moment its repository goes, and must not take its batch down with it.
    """

    __tablename__ = "pull_count"

    repository_id: UUID = Field(primary_key=True)
    tag: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    pulls: int = whole_number()
    last_pulled_at: datetime = moment()
