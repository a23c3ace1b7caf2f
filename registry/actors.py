"""Who acts, and from where: plain values that travel with a piece of work."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from policies.access import Level
from registry.oci.scopes import Scope


class ActorKind(StrEnum):
    USER = "USER"
    ANONYMOUS = "ANONYMOUS"
    SYSTEM = "SYSTEM"


# What a credential of each level may at most be used for. The same law reads these roles as reads a user's own.
CEILINGS = {
    Level.READ: frozenset({"organization.read", "account.member"}),
    Level.WRITE: frozenset({"organization.write", "account.member"}),
    Level.MANAGE: frozenset({"account.owner", "platform.admin"}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Identity and ceiling only. Rights are read anew for each request, and so is whether this identity still holds.

    `level` is the ceiling of the credential used (none: a password, no ceiling). `scopes` is the ceiling of a
    registry token (none: not a registry token). `generation` is the user's at sign-in; a newer one ends this identity.
    """

    kind: ActorKind
    name: str
    user_id: UUID | None = None
    account_id: UUID | None = None
    generation: int = 0
    credential_id: UUID | None = None
    level: Level | None = None
    scopes: tuple[Scope, ...] | None = None

    @property
    def anonymous(self) -> bool:
        return self.kind is ActorKind.ANONYMOUS

    @property
    def ceiling(self) -> frozenset[str] | None:
        return None if self.level is None else CEILINGS[self.level]

    def scope_covers(self, repository: str, action: str) -> bool:
        """Whether a registry token asked for this when it was issued; who holds no such token is not bound by one."""
        if self.scopes is None:
            return True
        return any(
            scope.type == "repository" and scope.name == repository and not scope.actions.isdisjoint({action, "*"})
            for scope in self.scopes
        )


ANONYMOUS = Actor(ActorKind.ANONYMOUS, "anonymous")
SYSTEM = Actor(ActorKind.SYSTEM, "system")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. `source` is the socket's address, or what a trusted proxy says stood before it.

    `peer` is the socket's address itself where it differs, `forwarded` what the proxies said, `client_request_id` the
    name that the client gave its request.
    """

    request_id: str = ""
    source: str | None = None
    client: str | None = None
    peer: str | None = None
    forwarded: tuple[str, ...] = ()
    client_request_id: str | None = None


INSIDE = Origin()  # nobody asked for it from outside
