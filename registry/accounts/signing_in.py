"""From a name and a secret to an actor. Every door signs people in through here.

A person's password or a random secret may stand where a password is asked for; secrets are told by their prefix. All
failures say the same words and take the same time, whatever was wrong; the audit log knows which it was. Failures
are throttled per user and address.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from policies.access import Level
from registry.access.finding import SignInEnded
from registry.accounts import credentials
from registry.accounts.passwords import Passwords
from registry.accounts.throttling import Throttle, TooManySignIns
from registry.actors import ANONYMOUS, Actor, ActorKind
from registry.errors import SignInFailed
from registry.keys import Keys
from registry.work import Work

# docker sends an identity token under this name, containerd under none at all.
TOKEN_NAMES = frozenset({"<token>", ""})

CREDENTIAL = """
    SELECT c.id AS credential_id, c.level, c.kind, c.expires_at, c.revoked_at, u.id, u.name, u.account_id,
        u.generation, u.suspended_at
    FROM credential c JOIN users u ON u.id = c.user_id WHERE c.secret_hash = $1
"""
USER = "SELECT id, name, account_id, generation, suspended_at, password_hash FROM users WHERE name = $1"
# Written at most once a minute: the last use is for people to read, not worth a write for every pull.
USED = """
    UPDATE credential SET last_used_at = $2::timestamptz, last_used_from = $3
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
"""
FAILED = "Signing in failed: the name and the password or token do not belong together."


@dataclass(slots=True)
class Gate:
    """What signing in remembers between requests of this process."""

    keys: Keys
    passwords: Passwords = field(default_factory=Passwords)
    throttle: Throttle = field(default_factory=Throttle)


def announce(work: Work) -> None:
    """Before what was sent is even read: what cannot be read is a sign-in that failed, and nothing of it is kept."""
    work.attempt("user.sign_in", "")


def read_basic(value: str) -> tuple[str, str]:
    """Name and secret of a Basic credential (RFC 7617, UTF-8). Raises `SignInFailed`."""
    try:
        name, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # not ASCII, not Base64, or not UTF-8
        raise SignInFailed("The Authorization header does not hold a name and a password.") from None
    if not colon or "\x00" in name:
        raise SignInFailed("The Authorization header does not hold a name and a password.")
    return name, secret


async def by_header(work: Work, gate: Gate, header: str) -> Actor:
    """The actor of an Authorization header: Basic, or Bearer with one of our random secrets; nobody without one.

    Raises as `sign_in`.
    """
    announce(work)
    kind, _, value = header.partition(" ")
    match kind.lower():
        case "":
            return ANONYMOUS
        case "basic":
            return await sign_in(work, gate, *read_basic(value.strip()))
        case "bearer" if credentials.looks_like_secret(value.strip()):
            return await sign_in(work, gate, "", value.strip())
    raise SignInFailed("The Authorization header must be Basic, with a name and a password or token, or Bearer.")


async def sign_in(work: Work, gate: Gate, name: str, secret: str) -> Actor:
    """The actor behind a name and a secret. Raises `SignInFailed`, `SignInEnded` or `TooManySignIns`.

    `work` is an anonymous one; what it records on failure names whom the caller claimed to be.
    """
    claimed = _shown(name)
    work.attempt("user.sign_in", claimed, about=None if name in TOKEN_NAMES else claimed)
    counted, source = "" if name in TOKEN_NAMES else name, work.origin.source or ""

    def check() -> None:
        gate.throttle.check(counted, source, work.now)

    try:
        check()
        if credentials.looks_like_secret(secret):
            actor = await _by_secret(work, gate, name, secret)
        else:
            actor = await _by_password(work, gate, name, secret, check)
    except (SignInFailed, TooManySignIns) as refusal:
        if isinstance(refusal, SignInFailed):
            gate.throttle.failed(counted, source, work.now)
        work.actor = replace(ANONYMOUS, name=claimed or "anonymous")
        raise
    gate.throttle.succeeded(counted, source)
    _concerns(work, actor)
    return actor


def _concerns(work: Work, actor: Actor) -> None:
    """Of whoever was known. A name that is only claimed stays sealed: the log shall not tell who exists here."""
    if actor.user_id is not None:
        work.concerns(actor.user_id)


def _shown(name: str) -> str:
    """Who mistakes the fields and sends a secret as the name must not find it in the log."""
    return f"{credentials.PREFIX}…" if credentials.looks_like_secret(name) and len(name) >= 20 else name


async def _by_secret(work: Work, gate: Gate, name: str, secret: str) -> Actor:
    row = await work.fetchrow(CREDENTIAL, gate.keys.hash_secret(secret))
    if row is None or (name not in TOKEN_NAMES and name != row["name"]):
        raise SignInFailed(FAILED, truth="no such token, or it belongs to another user")
    # Known from here on: that a revoked secret was tried is for its user's account to read.
    work.actor = _actor(row, credential_id=row["credential_id"], level=Level(row["level"]))
    _concerns(work, work.actor)
    _check_credential(work, row)
    await work.execute(USED, row["credential_id"], work.now, work.origin.source)
    return work.actor


async def _by_password(work: Work, gate: Gate, name: str, password: str, check: Callable[[], None]) -> Actor:
    # By a work of its own: guesses wait for their turn below, and would hold every connection of the pool meanwhile.
    async with work.foundation.glance(work.actor, work.origin) as glance:
        row = await glance.fetchrow(USER, name)
    stored = row["password_hash"] if row is not None else None
    if not await gate.passwords.matches(stored, password, before=check) or row is None:
        raise SignInFailed(FAILED, truth="no such user" if row is None else "wrong password")
    if row["suspended_at"] is not None:
        raise SignInFailed(FAILED, truth="the user is suspended")
    return _actor(row)


def _check_credential(work: Work, row: Any) -> None:
    """Who holds the secret may be told why it no longer works. Raises `SignInEnded`."""
    if row["suspended_at"] is not None:
        raise SignInEnded("Signing in failed: the user of this token is suspended.")
    if row["revoked_at"] is not None:
        raise SignInEnded(f"Signing in failed: this token was revoked on {row['revoked_at']:%Y-%m-%d %H:%M:%S UTC}.")
    if row["expires_at"] is not None and row["expires_at"] <= work.now:
        raise SignInEnded(f"Signing in failed: this token expired at {row['expires_at']:%Y-%m-%d %H:%M:%S UTC}.")


def _actor(row: Any, **credential: Any) -> Actor:
    return Actor(
        ActorKind.USER,
        row["name"],
        user_id=row["id"],
        account_id=row["account_id"],
        generation=row["generation"],
        **credential,
    )
