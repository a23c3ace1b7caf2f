"""Anything by its id. What the viewer may not see is null, as if it did not exist."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import strawberry

from api.schema.accounts import account_of_id, user_of_id
from api.schema.audit import entry_of_index
from api.schema.context import Info
from api.schema.credentials import access_key_of_id
from api.schema.organizations import organization_of_id
from api.schema.quota_requests import request_of_id
from api.schema.repositories import repository_of_id, share_of_id
from api.schema.scalars import Node
from registry.errors import Invalid
from registry.identifiers import read_id

MOST_NODES = 100


class TooManyNodes(Invalid):
    code = "TOO_MANY_IDS"


FINDERS: dict[str, Callable[[Info, UUID], Awaitable[Node | None]]] = {
    "acct": account_of_id,
    "user": user_of_id,
    "key": access_key_of_id,
    "org": organization_of_id,
    "repo": repository_of_id,
    "share": share_of_id,
    "request": request_of_id,
}


async def find(info: Info, id: str) -> Node | None:
    """Raises `IdentifierInvalid`."""
    if id.startswith("audit_") and id[6:].isascii() and id[6:].isdigit() and len(id) < 25:
        return await entry_of_index(info, int(id[6:]))
    prefix, value = read_id(id)
    finder = FINDERS.get(prefix)
    return await finder(info, value) if finder else None


@strawberry.type
class NodeQueries:
    @strawberry.field(description="Anything by its id; null if there is nothing that you can see.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="An `id` that an answer held.")]
    ) -> Node | None:
        return await find(info, id)

    @strawberry.field(description="Several things by their ids, at most a hundred, in that order.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Ids of any kinds, 1 to 100.")],
    ) -> list[Node | None]:
        if len(ids) > MOST_NODES:
            raise TooManyNodes(f"At most {MOST_NODES} ids can be asked for at once; these are {len(ids)}.")
        found = await asyncio.gather(*(find(info, id) for id in ids), return_exceptions=True)
        # Only when all have come to their end: none may go on reading behind the answer.
        for refusal in found:
            if isinstance(refusal, BaseException):
                raise refusal
        return [one for one in found if not isinstance(one, BaseException)]
