"""The people and places of a journey, made through the same GraphQL door that everybody uses.

    acme = await world.tenant(tidewaiter, "acme")           # account, owner, organization
    reader = await world.user(acme, "reader", level="READ")
    await world.limit_storage(acme, 100_000)

Each call makes new names, so that journeys share one running server and never meet in it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol


class Tidewaiter(Protocol):
    """What a journey needs of the running server. `advance` moves its clock forward and never back."""

    admin_password: str

    @property
    def registry(self) -> str: ...

    @property
    def url(self) -> str: ...

    async def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        user: str = "admin",
        password: str | None = None,
    ) -> dict[str, Any]: ...

    def advance(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    password: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account that owns one organization. `owner` manages everything in it."""

    tidewaiter: Tidewaiter
    account: str
    organization: str
    owner: Person

    def reference(self, repository: str, tag: str) -> str:
        """The name by which clients push and pull."""
        return f"{self.tidewaiter.registry}/{self.organization}/{repository}:{tag}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's audit log."""

    time: datetime
    action: str
    outcome: str
    actor: str
    target: str
    reason: str | None

    @property
    def told(self) -> tuple[str, str, str]:
        return (self.action, self.outcome, self.actor)


async def tenant(tidewaiter: Tidewaiter, name: str) -> Tenant:
    """An account with an owner and an organization, all with names that begin with `name`."""
    unique = f"{name}-{secrets.token_hex(4)}"
    owner = Person(f"{unique}-owner", secrets.token_urlsafe(12))
    await change(tidewaiter, "createAccount", name=unique, ownerName=owner.name, ownerPassword=owner.password)
    await change(tidewaiter, "createOrganization", by=owner, name=unique)
    return Tenant(tidewaiter, account=unique, organization=unique, owner=owner)


async def user(tenant: Tenant, name: str, level: str | None = None) -> Person:
    """A user of the tenant's account, who holds `level` on its organization; without one, nothing."""
    person = Person(f"{tenant.account}-{name}", secrets.token_urlsafe(12))
    who = {"name": person.name, "password": person.password}
    await change(tenant.tidewaiter, "createUser", by=tenant.owner, account=tenant.account, **who)
    if level is not None:
        await permit(tenant, person, level)
    return person


async def permit(tenant: Tenant, person: Person, level: str) -> None:
    place = {"organization": tenant.organization, "user": person.name, "level": level}
    await change(tenant.tidewaiter, "setOrganizationPermission", by=tenant.owner, **place)


async def withdraw(tenant: Tenant, person: Person) -> None:
    """Takes away what the person holds on the organization."""
    place = {"organization": tenant.organization, "user": person.name}
    await change(tenant.tidewaiter, "removeOrganizationPermission", by=tenant.owner, **place)


async def repository(tenant: Tenant, name: str, visibility: str = "PRIVATE") -> None:
    place = {"organization": tenant.organization, "name": name, "visibility": visibility}
    await change(tenant.tidewaiter, "createRepository", by=tenant.owner, **place)


async def share(tenant: Tenant, repository: str, receiver: Tenant, seconds: float) -> None:
    """Lets the receiver's account pull the repository for so many seconds of the server's clock."""
    until = await now(tenant) + timedelta(seconds=seconds)
    place = {"organization": tenant.organization, "repository": repository}
    terms = {"account": receiver.account, "expiresAt": until.isoformat()}
    await change(tenant.tidewaiter, "createShare", by=tenant.owner, **place, **terms)


async def limit_storage(tenant: Tenant, limit_bytes: int) -> None:
    scope = {"organization": tenant.organization}
    await change(tenant.tidewaiter, "setQuota", scope=scope, key="STORAGE_BYTES", limit=limit_bytes)


async def now(tenant: Tenant) -> datetime:
    """The server's time, which journeys move: that of its latest entry. The tenant's own making is one."""
    return (await entries(tenant))[0].time


async def entries(tenant: Tenant) -> list[Entry]:
    """The latest of the tenant's audit log, newest first, as its owner sees it."""
    query = "query { auditLog(first: 50) { nodes { time action outcome actor { name } target reason } } }"
    owner = tenant.owner
    answer = await tenant.tidewaiter.graphql(query, None, user=owner.name, password=owner.password)
    assert not answer.get("errors"), answer
    return [_entry(node) for node in answer["data"]["auditLog"]["nodes"]]


async def story(tenant: Tenant) -> list[Entry]:
    """What the log tells about images of the tenant's organization, oldest first. No answer leaves before its entry."""
    return [entry for entry in reversed(await entries(tenant)) if _is_about_images_of(tenant, entry)]


async def change(tidewaiter: Tidewaiter, mutation: str, by: Person | None = None, **given: Any) -> None:
    """Makes one change as `by`, or as the administrator. Raises AssertionError when it was refused."""
    kind = f"{mutation[0].upper()}{mutation[1:]}Input"
    query = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ errors {{ message code }} }} }}"
    signed_in = {} if by is None else {"user": by.name, "password": by.password}
    answer = await tidewaiter.graphql(query, {"input": given}, **signed_in)
    assert not answer.get("errors"), (mutation, answer)
    assert not answer["data"][mutation]["errors"], (mutation, answer)


def _entry(node: Mapping[str, Any]) -> Entry:
    moment = datetime.fromisoformat(node["time"])
    said = (node["action"], node["outcome"], node["actor"]["name"], node["target"], node["reason"])
    return Entry(moment, *said)


def _is_about_images_of(tenant: Tenant, entry: Entry) -> bool:
    return entry.action.startswith("image.") and tenant.organization in entry.target
