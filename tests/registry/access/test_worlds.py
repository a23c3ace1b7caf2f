"""Random worlds of accounts, people, permissions and shares, and three who must agree in each: the decision on one
thing, the lists of things that can be seen, and the rules told again, plainly, over the facts themselves."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from policies.access import Level
from registry.access import finding
from registry.access.tables import OrganizationPermission, RepositoryPermission, Share
from registry.accounts.tables import Account, User
from registry.actors import ANONYMOUS, SYSTEM, Actor, ActorKind, Origin
from registry.organizations import reading as organizations
from registry.organizations.tables import Organization
from registry.repositories import listing
from registry.repositories import reading as repositories
from registry.repositories.tables import Repository
from registry.system import System
from tests.support.books import in_process, new_database
from tests.support.server import Server

ACTS = {"pull": Level.READ, "view": Level.READ, "push": Level.WRITE, "update": Level.WRITE, "delete": Level.MANAGE,
        "grant": Level.MANAGE, "share": Level.MANAGE, "publish": Level.MANAGE}  # fmt: skip
FROZEN = {"push", "update", "grant", "share", "publish"}


@dataclass(slots=True)
class World:
    """Rows, not yet in any database."""

    now: datetime
    anonymous_pull: bool
    accounts: list[Account] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    organizations: list[Organization] = field(default_factory=list)
    repositories: list[Repository] = field(default_factory=list)
    on_organizations: list[OrganizationPermission] = field(default_factory=list)
    on_repositories: list[RepositoryPermission] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)

    @property
    def rows(self) -> list[SQLModel]:
        return [*self.accounts, *self.users, *self.organizations, *self.repositories, *self.on_organizations,
                *self.on_repositories, *self.shares]  # fmt: skip

    def account_of(self, repository: Repository) -> Account:
        organization = next(one for one in self.organizations if one.id == repository.organization_id)
        return next(one for one in self.accounts if one.id == organization.account_id)

    def level(self, user: User, repository: Repository) -> int:
        """The higher of what is held on the organization and on the repository; owners hold all."""
        if user.owner and user.account_id == self.account_of(repository).id:
            return Level.MANAGE
        wide = [p.level for p in self.on_organizations
                if (p.user_id, p.organization_id) == (user.id, repository.organization_id)]  # fmt: skip
        near = [p.level for p in self.on_repositories if (p.user_id, p.repository_id) == (user.id, repository.id)]
        return max([*wide, *near], default=0)

    def shared(self, user: User, repository: Repository) -> bool:
        return any(
            (share.repository_id, share.account_id) == (repository.id, user.account_id)
            and (share.expires_at is None or share.expires_at > self.now)
            for share in self.shares
        )

    def may(self, user: User | None, act: str, repository: Repository) -> bool:
        """The rules of the guide, over plain facts."""
        reads = act in {"pull", "view"}
        if user is None:
            return reads and repository.visibility == "PUBLIC" and self.anonymous_pull
        at_home = next(one for one in self.accounts if one.id == user.account_id)
        if act in FROZEN and (at_home.suspended_at or self.account_of(repository).suspended_at):
            return False
        if self.level(user, repository) >= ACTS[act]:
            return True
        if reads and (repository.visibility == "PUBLIC" or self.shared(user, repository)):
            return True
        return user.platform_admin and act not in {"pull", "push"}


def made_up(seed: int, now: datetime, anonymous_pull: bool) -> World:
    chance = random.Random(seed)
    tag = f"{seed}-{chance.randrange(16**6):06x}"
    world = World(now, anonymous_pull)
    for number in range(3):
        frozen = now if chance.random() < 0.25 else None
        world.accounts.append(Account(name=f"a{number}-{tag}", created_at=now, suspended_at=frozen))
    for number, account in enumerate(world.accounts * 3):
        ranks: dict[str, Any] = {"owner": chance.random() < 0.3, "platform_admin": chance.random() < 0.15}
        world.users.append(User(account_id=account.id, name=f"u{number}-{tag}", created_at=now, **ranks))
    for number, account in enumerate(world.accounts + world.accounts[:1]):
        world.organizations.append(Organization(account_id=account.id, name=f"o{number}-{tag}", created_at=now))
    for number, organization in enumerate(world.organizations * 3):
        visibility = chance.choice(["PRIVATE", "PRIVATE", "PUBLIC"])
        place = {"organization_id": organization.id, "name": f"r{number}", "visibility": visibility}
        world.repositories.append(Repository(**place, created_at=now, updated_at=now))
    _grant(world, chance)
    return world


def _grant(world: World, chance: random.Random) -> None:
    times: dict[str, Any] = {"created_at": world.now, "updated_at": world.now}
    ends = (None, world.now, world.now - timedelta(days=1), world.now + timedelta(seconds=1))
    for user in world.users:
        for organization in world.organizations:
            if organization.account_id == user.account_id and chance.random() < 0.3:
                held = {"user_id": user.id, "level": chance.choice(list(Level))}
                world.on_organizations.append(OrganizationPermission(organization_id=organization.id, **held, **times))
        for repository in world.repositories:
            if world.account_of(repository).id == user.account_id and chance.random() < 0.2:
                held = {"user_id": user.id, "level": chance.choice(list(Level))}
                world.on_repositories.append(RepositoryPermission(repository_id=repository.id, **held, **times))
    for repository in world.repositories:
        for account in world.accounts:
            if world.account_of(repository).id != account.id and chance.random() < 0.3:
                given = {"repository_id": repository.id, "account_id": account.id}
                world.shares.append(Share(**given, expires_at=chance.choice(ends), **times))


@pytest.fixture(scope="module", params=[True, False], ids=["anonymous pull", "no anonymous pull"])
async def system(
    tidewaiter: Server, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[System]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    async with new_database(tidewaiter) as dsn, in_process(dsn, folder, anonymous_pull=request.param) as system:
        yield system


@pytest.mark.parametrize("seed", range(5))
async def test_decisions_and_lists_are_what_the_facts_say(system: System, seed: int) -> None:
    foundation = system.foundation
    world = made_up(seed, foundation.clock.now(), foundation.settings.anonymous_pull)
    async with foundation.begin(SYSTEM, Origin()) as work:
        for row in world.rows:
            await work.add(row)
    names = {one.id: one.name for one in world.organizations}
    addresses = {one.id: f"{names[one.organization_id]}/{one.name}" for one in world.repositories}
    for user in (*world.users, None):
        async with foundation.view(actor_of(user), Origin()) as work:
            work.now = world.now
            visible = set()
            for repository in world.repositories:
                place = await finding.repository(work, names[repository.organization_id], repository.name)
                allowed = {act for act in ACTS if work.allows(act, place)}
                assert allowed == {act for act in ACTS if world.may(user, act, repository)}, (user, repository)
                visible |= {addresses[repository.id]} if "view" in allowed else set()
            catalog = (await listing.catalog(work, "", 10_000)).items
            assert set(catalog) & set(addresses.values()) == visible
            seen = await work.fetch(select(repositories.seen(work)))
            assert {row["full_name"] for row in seen} & set(addresses.values()) == visible
            await assert_organizations(world, work, user, visible)


async def assert_organizations(world: World, work: Any, user: User | None, visible: set[str]) -> None:
    """Those on which something is held, those of which a repository can be seen, and no others; one by one as in the
    list."""
    seen = {row["organization_name"] for row in await work.fetch(select(organizations.seen(work)))}
    for organization in world.organizations:
        place = await finding.organization(work, organization.name)
        held = user is not None and (
            user.platform_admin
            or (user.owner and user.account_id == organization.account_id)
            or any((p.user_id, p.organization_id) == (user.id, organization.id) for p in world.on_organizations)
        )
        expected = held or any(address.startswith(f"{organization.name}/") for address in visible)
        assert work.allows("view", place) == (organization.name in seen) == expected, (user, organization)


def actor_of(user: User | None) -> Actor:
    if user is None:
        return ANONYMOUS
    return Actor(ActorKind.USER, user.name, user_id=user.id, account_id=user.account_id, generation=user.generation)
