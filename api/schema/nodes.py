"""Anything by its id. What the viewer may not see is null, as if it did not exist."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import strawberry

from api.schema.accounts import Account, Node, User, account_named, user_named
from api.schema.audit import AuditEntry
from api.schema.context import Info
from api.schema.organizations import organization_where
from api.schema.repositories import repository_where
from registry.audit import reading
from registry.errors import Invalid
from registry.identifiers import read_id

MOST_NODES = 100


class TooManyNodes(Invalid):
    code = "TOO_MANY_IDS"


async def _account(info: Info, id: UUID) -> Account | None:
    name = await info.context.work.fetchval("SELECT name FROM account WHERE id = $1", id)
    return await account_named(info, name) if name else None


async def _user(info: Info, id: UUID) -> User | None:
    name = await info.context.work.fetchval("SELECT name FROM users WHERE id = $1", id)
    return await user_named(info, name) if name else None


FINDERS: dict[str, Callable[[Info, UUID], Awaitable[Node | None]]] = {
    "acct": _account,
    "user": _user,
    "org": lambda info, id: organization_where(info, organization_id=id),
    "repo": lambda info, id: repository_where(info, repository_id=id),
}


async def find(info: Info, id: str) -> Node | None:
    """Raises `IdentifierInvalid`."""
    if id.startswith("audit_") and id[6:].isascii() and id[6:].isdigit() and len(id) < 25:
        async with info.context.looking() as work:
            row = await reading.entry(work, int(id[6:]))
        return AuditEntry.of(row) if row else None
    prefix, value = read_id(id)
    finder = FINDERS.get(prefix)
    return await finder(info, value) if finder else None


@strawberry.type
class NodeQueries:
    @strawberry.field(description="Anything by its id; null if there is nothing that you can see.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        return await find(info, id)

    @strawberry.field(description="Several things by their ids, at most a hundred, in that order.")
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None]:
        if len(ids) > MOST_NODES:
            raise TooManyNodes(f"At most {MOST_NODES} ids can be asked for at once; these are {len(ids)}.")
        return [await find(info, id) for id in ids]
