"""One request to the registry: who makes it, from where, and about what. Handlers get a `Call` and give a response."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from registry.accounts.signing_in import Gate
from registry.accounts.tokens import Tokens
from registry.actors import Actor, Origin
from registry.oci.reference import check_repository_path
from registry.repositories.receiving import SenderGone
from registry.work import Foundation, Work


@dataclass(frozen=True, slots=True)
class Door:
    """What the protocol stands on."""

    foundation: Foundation
    gate: Gate
    tokens: Tokens


@dataclass(slots=True)
class Call:
    door: Door
    request: Request
    actor: Actor
    origin: Origin
    organization: str = ""
    repository: str = ""
    reference: str = ""

    @property
    def foundation(self) -> Foundation:
        return self.door.foundation

    @property
    def spot(self) -> tuple[str, str]:
        return self.organization, self.repository

    @property
    def name(self) -> str:
        return f"{self.organization}/{self.repository}"

    def begin(self) -> Work:
        return self.foundation.begin(self.actor, self.origin)

    def promise(self) -> Work:
        return self.foundation.promise(self.actor, self.origin)

    def glance(self) -> Work:
        return self.foundation.glance(self.actor, self.origin)

    def about(self, name: str) -> None:
        """Reads the repository's full name from the path. Raises `NameInvalid`."""
        self.organization, self.repository = check_repository_path(name)

    def query(self, name: str) -> str | None:
        value = self.request.query_params.get(name)
        return None if value is None else storable(value)

    @property
    def length(self) -> int | None:
        """The announced length of the body; none when it comes in chunks."""
        value = self.request.headers.get("content-length")
        return int(value) if value is not None and value.isdigit() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `SenderGone` when the connection is cut before its end."""
        while True:
            message: Any = await self.request.receive()
            if message["type"] == "http.disconnect":
                raise SenderGone
            if body := message.get("body"):
                yield body
            if not message.get("more_body"):
                return


def storable(text: str) -> str:
    """Without NUL, which PostgreSQL cannot hold; it becomes what bytes that are no UTF-8 have become before."""
    return text.replace("\x00", "\ufffd")


def origin_of(request: Request) -> Origin:
    """What the outermost layer found out about where a request came from."""
    state = request.scope.get("state") or {}
    client = request.client
    source = state.get("source") or (client.host if client else None)
    return Origin(
        state.get("request_id", ""),
        source,
        request.headers.get("user-agent"),
        peer=state.get("peer"),
        forwarded=state.get("forwarded", ()),
        client_request_id=state.get("client_request_id"),
    )
