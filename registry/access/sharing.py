"""Shares: every user of another account may pull one private repository until a deadline.

The deadline is read with each request, so nothing has to run for a share to end. An ended share keeps its row.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from policies.quotas import Key
from registry.access import finding
from registry.access.tables import Share
from registry.errors import Conflict, Invalid, NotFound
from registry.places import Place
from registry.work import Work

LONGEST_DESCRIPTION = 1000
MOST_SHARES = 500


class ShareInvalid(Invalid):
    code = "SHARE_INVALID"


class ReceiverNotFound(NotFound):
    code = "NOT_FOUND"


class ShareNotFound(NotFound):
    code = "NOT_FOUND"


class AlreadyShared(Conflict):
    code = "ALREADY_SHARED"


class TooManyShares(Conflict):
    code = "TOO_MANY_SHARES"


async def share(work: Work, place: Place, account: str, expires_at: datetime | None, description: str) -> Share:
    """`expires_at` none: forever. Raises `ShareInvalid`, `ReceiverNotFound`, `AlreadyShared`, `TooManyShares`."""
    work.attempt("share.create", f"{place.name}:{account}", place=place)
    work.require("share", place)
    _check(work, expires_at, description)
    repository = await finding.lock(work, place)
    if repository["visibility"] == "PUBLIC":
        raise ShareInvalid(f"Repository '{place.name}' is public: every account can pull it without a share.")
    receiver = await _receiver(work, place, account)
    if await work.fetchval("SELECT count(*) FROM share WHERE repository_id = $1", place.id) >= MOST_SHARES:
        raise TooManyShares(f"A repository is shared with at most {MOST_SHARES} accounts; remove a share first.")
    row = Share(
        repository_id=place.id,
        account_id=receiver,
        description=description,
        expires_at=expires_at,
        created_by=work.actor.user_id,
        created_at=work.now,
        updated_at=work.now,
    )
    try:
        await work.add(row)
    except asyncpg.UniqueViolationError:
        raise AlreadyShared(
            f"Repository '{place.name}' is shared with account '{account}' already; change that share instead."
        ) from None
    work.charge(Key.SHARES, 1, place)
    work.record(changes={"account": [None, account], "expiresAt": [None, expires_at]})
    return row


async def change(work: Work, place: Place, account: str, **changed: Any) -> Share:
    """`changed` holds `expires_at` and `description`, whichever changes. Raises `ShareInvalid`, `ShareNotFound`."""
    work.attempt("share.update", f"{place.name}:{account}", place=place)
    work.require("share", place)
    _check(work, changed.get("expires_at"), changed.get("description", ""))
    before = await _existing(work, place, account)
    after = Share(**(before.model_dump() | changed | {"updated_at": work.now}))
    await work.execute(
        "UPDATE share SET expires_at = $2, description = $3, updated_at = $4 WHERE id = $1",
        before.id,
        after.expires_at,
        after.description,
        work.now,
    )
    work.record(changes={name: [getattr(before, name), value] for name, value in changed.items()})
    return after


async def unshare(work: Work, place: Place, account: str) -> Share:
    """Ends a share at once. Raises `ShareNotFound`."""
    work.attempt("share.delete", f"{place.name}:{account}", place=place)
    work.require("share", place)
    row = await _existing(work, place, account)
    await work.execute("DELETE FROM share WHERE id = $1", row.id)
    work.charge(Key.SHARES, -1, place)
    work.record(changes={"account": [account, None], "expiresAt": [row.expires_at, None]})
    return row


async def shares(work: Work, repositories: list[UUID]) -> dict[UUID, list[tuple[Share, str]]]:
    """The shares of each repository with the receiving account's name, by that name; ended ones included.

    The caller has been required to be allowed to share each.
    """
    rows = await work.fetch(
        "SELECT s.*, a.name AS account FROM share s JOIN account a ON a.id = s.account_id"
        " WHERE s.repository_id = ANY($1::uuid[]) ORDER BY a.name",
        repositories,
    )
    found: dict[UUID, list[tuple[Share, str]]] = {one: [] for one in repositories}
    for row in rows:
        found[row["repository_id"]].append((read_share(row), row["account"]))
    return found


def check_deadline(expires_at: datetime | None, *, forever: bool) -> None:
    """A share without an end must be meant. Raises `ShareInvalid`."""
    if (expires_at is None) is not forever:
        raise ShareInvalid("Say when the share ends, or that it is forever; one of the two.", path=["expiresAt"])


def read_share(row: Any) -> Share:
    return Share(**{name: row[name] for name in Share.model_fields})


async def _existing(work: Work, place: Place, account: str) -> Share:
    row = await work.fetchrow(
        "SELECT s.* FROM share s JOIN account a ON a.id = s.account_id"
        " WHERE s.repository_id = $1 AND a.name = $2 FOR UPDATE OF s",
        place.id,
        account,
    )
    if row is None:
        raise ShareNotFound(f"Repository '{place.name}' is not shared with an account '{account}'.")
    return read_share(row)


async def _receiver(work: Work, place: Place, account: str) -> UUID:
    receiver: UUID | None = await work.fetchval("SELECT id FROM account WHERE name = $1", account)
    if receiver is None:
        raise ReceiverNotFound(f"There is no account '{account}' to share with; check its name.", path=["account"])
    if receiver == place.account_id:
        raise ShareInvalid("A share is for another account; give a permission to users of your own.", path=["account"])
    return receiver


def _check(work: Work, expires_at: datetime | None, description: str) -> None:
    if expires_at is not None and expires_at <= work.now:
        raise ShareInvalid("A share must end in the future; remove it to end it now.", path=["expiresAt"])
    if len(description) > LONGEST_DESCRIPTION:
        raise ShareInvalid(
            f"A share's description has at most {LONGEST_DESCRIPTION} characters; this one has {len(description)}.",
            path=["description"],
        )
