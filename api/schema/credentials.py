"""Random secrets to sign in with: access keys and temporary login commands."""

from datetime import datetime, timedelta
from uuid import UUID

import strawberry
from sqlalchemy import select
from sqlmodel import col

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import Level, Node
from policies.access import Level as LawLevel
from registry.accounts import credentials
from registry.accounts.tables import Credential
from registry.identifiers import read_id, show_id


@strawberry.type(description="A random secret that signs its user in, at most up to its level.")
class AccessKey(Node):
    kind: str = strawberry.field(description="ACCESS_KEY, LOGIN (a temporary login command) or OFFLINE (docker's own).")
    name: str = strawberry.field(description="What its user called it.")
    level: Level = strawberry.field(description="The most it can be used for.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null if it does not.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null if it was not.")
    last_used_at: datetime | None = strawberry.field(description="Its last use, to the minute; null if never used.")
    last_used_from: str | None = strawberry.field(description="The address of its last use.")

    @classmethod
    def of(cls, row: Credential) -> "AccessKey":
        return cls(
            id=strawberry.ID(show_id("key", row.id)),
            kind=row.kind,
            name=row.name,
            level=Level[LawLevel(row.level).name],
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            last_used_from=row.last_used_from,
        )


@strawberry.input(description="What the key is for and how long it lasts.")
class CreateAccessKeyInput(Change):
    name: str = strawberry.field(description="What to call it, 1 to 64 characters.")
    level: Level = strawberry.field(default=Level.MANAGE, description="The most it can be used for.")
    expires_at: datetime | None = strawberry.field(default=None, description="When it ends; null for never.")


@strawberry.type(description="The key with its secret, or why there is none.")
class CreateAccessKeyPayload:
    access_key: AccessKey | None = strawberry.field(description="The new key; null if it was refused.")
    secret: str | None = strawberry.field(description="What to sign in with, in place of a password. Shown only here.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Which key is meant.")
class RevokeAccessKeyInput(Change):
    access_key: strawberry.ID = strawberry.field(description="The key's id.")


@strawberry.type(description="The key that ended, or why it did not.")
class RevokeAccessKeyPayload:
    access_key: AccessKey | None = strawberry.field(description="The revoked key; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="How long the login shall last.")
class CreateLoginCommandInput(Change):
    minutes: int | None = strawberry.field(default=None, description="How long it lasts, 15 to 1440; null for 360.")


@strawberry.type(description="Lines to paste into a shell, or why there are none.")
class CreateLoginCommandPayload:
    access_key: AccessKey | None = strawberry.field(description="The credential behind it; null if it was refused.")
    docker: str | None = strawberry.field(description="A ready `docker login` line. Shown only here.")
    podman: str | None = strawberry.field(description="A ready `podman login` line. Shown only here.")
    skopeo: str | None = strawberry.field(description="A ready `skopeo login` line. Shown only here.")
    expires_at: datetime | None = strawberry.field(description="When it ends.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


async def access_key_of_id(info: Info, id: UUID) -> AccessKey | None:
    """One of the viewer's own."""
    columns = Credential.__table__.columns  # type: ignore[attr-defined]
    row = await info.context.of_id("access key", id, lambda ids: select(*columns).where(col(Credential.id).in_(ids)))
    if row is None or row["user_id"] != info.context.work.actor.user_id:
        return None
    return AccessKey.of(credentials.read(row))


@strawberry.type
class CredentialMutations:
    @strawberry.mutation(description="Makes a long-lived key of the viewer's own, for machines.")
    async def create_access_key(self, info: Info, input: CreateAccessKeyInput) -> CreateAccessKeyPayload:
        keys = info.context.system.gate.keys
        issued, errors = await changing(
            info,
            input,
            lambda work: credentials.create_access_key(
                work, keys, input.name, input.level.of_the_law, input.expires_at
            ),
        )
        key, secret = (AccessKey.of(issued.credential), issued.secret) if issued else (None, None)
        return CreateAccessKeyPayload(access_key=key, secret=secret, errors=errors)

    @strawberry.mutation(description="Ends a key at once, registry tokens made with it included.")
    async def revoke_access_key(self, info: Info, input: RevokeAccessKeyInput) -> RevokeAccessKeyPayload:
        row, errors = await changing(info, input, lambda work: credentials.revoke(work, read_id(input.access_key)[1]))
        return RevokeAccessKeyPayload(access_key=AccessKey.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="A temporary login for docker and its kin: 15 minutes to 24 hours.")
    async def create_login_command(self, info: Info, input: CreateLoginCommandInput) -> CreateLoginCommandPayload:
        keys = info.context.system.gate.keys
        duration = None if input.minutes is None else timedelta(minutes=input.minutes)
        issued, errors = await changing(info, input, lambda work: credentials.create_login(work, keys, duration))
        if issued is None:
            return CreateLoginCommandPayload(
                access_key=None, docker=None, podman=None, skopeo=None, expires_at=None, errors=errors
            )
        host = info.context.system.foundation.settings.registry_host
        line = f"login -u {info.context.actor.name} -p {issued.secret} {host}"
        return CreateLoginCommandPayload(
            access_key=AccessKey.of(issued.credential),
            docker=f"docker {line}",
            podman=f"podman {line}",
            skopeo=f"skopeo {line}",
            expires_at=issued.credential.expires_at,
            errors=[],
        )
