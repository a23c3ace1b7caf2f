"""A thing that somebody wants to act on, with all that is known of them and it at this moment."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from policies.access import Level


@dataclass(frozen=True, slots=True)
class Held:
    """A role that the actor holds here, and why: the permission, the share, the fact."""

    role: str
    because: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """`exists` tells the registry, never the one who asks, whether the name stands for something.

    `kind` is a word of the law: platform, account, organization or repository. `name` is as the person wrote it.
    """

    kind: str
    name: str
    exists: bool = True
    account_id: UUID | None = None
    organization_id: UUID | None = None
    repository_id: UUID | None = None
    held: tuple[Held, ...] = ()
    share_ended: datetime | None = None

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(held.role for held in self.held)

    @property
    def id(self) -> UUID:
        """The id of the thing itself. Only of places that exist."""
        found = {
            "account": self.account_id,
            "organization": self.organization_id,
            "repository": self.repository_id,
        }
        value = found[self.kind]
        assert value is not None, f"{self.kind} {self.name!r} does not exist"  # noqa: S101
        return value

    @property
    def level(self) -> Level | None:
        """The highest level held here, from whatever source; none for those who hold no level."""
        scale = {"read": Level.READ, "write": Level.WRITE, "manage": Level.MANAGE, "owner": Level.MANAGE}
        levels = [scale[word] for role in self.roles if (word := role.rpartition(".")[2]) in scale]
        return max(levels, default=None)


PLATFORM = "platform"
