"""Random secrets that sign a user in: access keys, temporary login commands, and docker's offline tokens.

A secret is 256 random bits, shown once and stored as a keyed hash. Its level is a ceiling: whatever its user may do
at that moment, and never more than the level. Revoking one is felt by the next request.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from policies.access import Level
from policies.quotas import Key
from registry.access import finding
from registry.accounts.tables import Credential
from registry.actors import Actor
from registry.deciding import HIDDEN, LimitedByToken
from registry.errors import Invalid, NotFound, Refusal, SignInNeeded
from registry.identifiers import show_id
from registry.keys import Keys
from registry.places import Place
from registry.work import Work

PREFIX = "tw_"
LONGEST_NAME = 64
SHORTEST_LOGIN, LONGEST_LOGIN = timedelta(minutes=15), timedelta(hours=24)
USUAL_LOGIN = timedelta(hours=6)
OFFLINE = timedelta(days=90)


class CredentialKind(StrEnum):
    ACCESS_KEY = "ACCESS_KEY"
    LOGIN = "LOGIN"
    OFFLINE = "OFFLINE"


class ExpiryInvalid(Invalid):
    code = "EXPIRY_INVALID"


class CredentialNameInvalid(Invalid):
    code = "NAME_INVALID"


class CredentialNotFound(NotFound):
    code = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Issued:
    """`secret` is known only here and now."""

    credential: Credential
    secret: str


async def create_access_key(work: Work, keys: Keys, name: str, level: Level, expires_at: datetime | None) -> Issued:
    """A long-lived key of the one who asks. Raises `CredentialNameInvalid`, `ExpiryInvalid`, `LimitedByToken`."""
    work.attempt("access_key.create", name)
    if not 1 <= len(name.strip()) <= LONGEST_NAME:
        raise CredentialNameInvalid(f"An access key needs a name of 1 to {LONGEST_NAME} characters.", path=["name"])
    if expires_at is not None and expires_at <= work.now:
        raise ExpiryInvalid(
            "An access key must expire in the future; leave the time out for one that lasts.",
            path=["expiresAt"],
        )
    return await _issue(work, keys, CredentialKind.ACCESS_KEY, name.strip(), level, expires_at)


async def create_login(work: Work, keys: Keys, duration: timedelta | None) -> Issued:
    """A temporary login for `docker login`: 15 minutes to 24 hours. Raises `ExpiryInvalid`."""
    _attempt_for_oneself(work, "login.create")
    lasting = USUAL_LOGIN if duration is None else duration
    if not SHORTEST_LOGIN <= lasting <= LONGEST_LOGIN:
        raise ExpiryInvalid("A login command lasts from 15 minutes to 24 hours.", path=["minutes"])
    level = work.actor.level or Level.MANAGE
    return await _issue(work, keys, CredentialKind.LOGIN, "login command", level, work.now + lasting)


async def create_offline(work: Work, keys: Keys, client: str) -> Issued:
    """What docker keeps instead of a password (an identity token)."""
    _attempt_for_oneself(work, "offline_token.create")
    level = work.actor.level or Level.MANAGE
    return await _issue(work, keys, CredentialKind.OFFLINE, client[:LONGEST_NAME], level, work.now + OFFLINE)


async def revoke(work: Work, credential_id: UUID) -> Credential:
    """Ends a credential of the actor, or of a user of an account the actor manages. Raises `CredentialNotFound`.

    Until it is known that the actor may, the log has the id as it was given: a name may tell of what is not theirs.
    """
    given = show_id("key", credential_id)
    work.attempt("access_key.revoke", given)
    row = await work.fetchrow(
        "SELECT c.*, u.name AS user_name, u.account_id, a.name AS account_name FROM credential c"
        " JOIN users u ON u.id = c.user_id JOIN account a ON a.id = u.account_id WHERE c.id = $1 FOR UPDATE OF c",
        credential_id,
    )
    if row is None:
        raise _absent()
    _attempt_revocation(work, row, given)
    await _require_revocable(work, row)
    _attempt_revocation(work, row, _known_as(row))
    await work.execute(
        "UPDATE credential SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1", credential_id, work.now
    )
    if row["kind"] == CredentialKind.ACCESS_KEY and row["revoked_at"] is None:
        work.charge(Key.ACCESS_TOKENS, -1, Place("account", row["account_name"], account_id=row["account_id"]))
    work.record(changes={"revokedAt": [row["revoked_at"], work.now]})
    return read(row, revoked_at=row["revoked_at"] or work.now)


async def of_user(work: Work, user_id: UUID) -> list[Credential]:
    """Credentials that have not been revoked, newest first, the temporary ones that ended left out."""
    rows = await work.fetch(
        "SELECT * FROM credential WHERE user_id = $1 AND revoked_at IS NULL"
        " AND (kind = 'ACCESS_KEY' OR expires_at IS NULL OR expires_at > $2) ORDER BY created_at DESC LIMIT 200",
        user_id,
        work.now,
    )
    return [read(row) for row in rows]


async def confirm_identity(work: Work) -> None:
    """Raises unless somebody is signed in and that sign-in still holds."""
    if work.actor.user_id is None:
        raise SignInNeeded("This needs somebody who is signed in.")
    await finding.platform(work)


def read(row: Any, **changed: Any) -> Credential:
    values = {name: row[name] for name in Credential.model_fields}
    return Credential(**(values | changed))


def looks_like_secret(text: str) -> bool:
    return text.startswith(PREFIX)


async def _issue(
    work: Work, keys: Keys, kind: CredentialKind, name: str, level: Level, expires_at: datetime | None
) -> Issued:
    await confirm_identity(work)
    _within_ceiling(work.actor, level)
    assert work.actor.user_id is not None  # noqa: S101
    secret = PREFIX + secrets.token_urlsafe(32)
    credential = Credential(
        user_id=work.actor.user_id,
        kind=kind,
        name=name,
        secret_hash=keys.hash_secret(secret),
        level=int(level),
        created_at=work.now,
        expires_at=expires_at,
    )
    await work.add(credential)
    if kind is CredentialKind.ACCESS_KEY:
        work.charge(Key.ACCESS_TOKENS, 1, Place("account", "", account_id=work.actor.account_id))
    work.record(changes={"level": [None, level.name], "expiresAt": [None, expires_at]})
    return Issued(credential, secret)


def _attempt_for_oneself(work: Work, action: str) -> None:
    work.attempt(action, work.actor.name, about=None if work.actor.anonymous else work.actor.name)
    if work.actor.user_id is not None:
        work.concerns(work.actor.user_id)


def _known_as(row: Any) -> str:
    """An offline token is named after the client that asked for it, which the log keeps among what is personal."""
    return "offline token" if row["kind"] == CredentialKind.OFFLINE else row["name"]


def _attempt_revocation(work: Work, row: Any, known_as: str) -> None:
    """At the account of the key's user, whom the target names: it is for that account to know."""
    place = Place("account", row["account_name"], account_id=row["account_id"])
    work.attempt("access_key.revoke", f"{known_as}:{row['user_name']}", place=place, about=row["user_name"])
    work.concerns(row["user_id"])


async def _require_revocable(work: Work, row: Any) -> None:
    if row["user_id"] == work.actor.user_id:
        await confirm_identity(work)
        return
    place = await finding.account(work, row["account_name"])
    try:
        work.require("manage_users", place)
    except Refusal:
        raise _absent(truth=HIDDEN) from None


def _within_ceiling(actor: Actor, level: Level) -> None:
    if actor.level is not None and level > actor.level:
        raise LimitedByToken(
            f"A token of level {actor.level.name} cannot make one of level {level.name}.",
            level=actor.level.name,
        )


def _absent(*, truth: str | None = None) -> CredentialNotFound:
    """The one sentence for what is absent and what is hidden."""
    return CredentialNotFound("There is no access key with this id that you can revoke.", truth=truth)
