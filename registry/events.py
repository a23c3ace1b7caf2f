"""Facts that happened, as the audit log keeps them. Frozen: what happened does not change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from registry.actors import Actor, Origin
from registry.identifiers import new_id


class Outcome(StrEnum):
    """ALLOWED: it was done. DENIED: the law or a quota refused it. FAILED: allowed, but it could not be done."""

    ALLOWED = "ALLOWED"
    DENIED = "DENIED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a decision rests on: the rule that spoke, and of a refusal the level held, the one that was needed, and the
    revision of the law."""

    rule: str | None = None
    held: str | None = None
    needed: str | None = None
    law: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`action` is `noun.verb`, listed in docs/reference/audit-actions.md. `changes` maps a field to [before, after].

    `account_id` is whose log it stands in: the owner of the target, else the actor's own account. `stated` is the
    reason that the actor gave. `about` is the name of a user as it stands in the target and the changes, and
    `about_id` that user: the log keeps the id in the place of the name, since a person may have to be forgotten.
    """

    at: datetime
    action: str
    outcome: Outcome
    actor: Actor
    origin: Origin
    target: str
    account_id: UUID | None = None
    organization_id: UUID | None = None
    repository_id: UUID | None = None
    digest: str | None = None
    reason_code: str | None = None
    reason: str | None = None
    grounds: Grounds | None = None
    stated: str | None = None
    about: str | None = None
    about_id: UUID | None = None
    media_type: str | None = None
    size: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Leased:
    """So much of a month's traffic was taken out of a lease."""

    lease: UUID
    key: str
    period: str
    amount: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What leaves the registry, or, where negative, did not leave after all. `tag` is none for what was asked for by
    digest, `user_id` for who has not signed in."""

    organization_id: UUID
    repository_id: UUID
    tag: str | None
    user_id: UUID | None
    at: datetime
    pulls: int
    bytes: int
    leased: tuple[Leased, ...] = ()
