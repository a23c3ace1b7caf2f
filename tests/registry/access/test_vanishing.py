"""What goes while somebody builds on it is refused as if it had never been, and nothing is given back twice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from policies.access import Level
from policies.quotas import Key
from registry.access import finding, granting, sharing
from registry.accounts import managing
from registry.deciding import PlaceNotFound
from registry.organizations import founding
from registry.quotas import usage
from registry.repositories import creating, deleting
from registry.work import Work
from tests.support.books import in_process, new_database
from tests.support.inside import Household, settle
from tests.support.server import Server


@pytest.fixture
async def ours(tidewaiter: Server, tmp_path: Path) -> AsyncIterator[Household]:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        yield await settle(system, "ships")


async def shared(work: Work, ours: Household) -> None:
    place = await ours.place(work, "web")
    await gone(ours, "web")
    await sharing.share(work, place, "admin", work.now + timedelta(days=1), "")


async def granted(work: Work, ours: Household) -> None:
    place = await ours.place(work, "web")
    await gone(ours, "web")
    await granting.set_permission(work, place, f"{ours.name}-other", Level.READ)


async def updated(work: Work, ours: Household) -> None:
    place = await ours.place(work, "web")
    await gone(ours, "web")
    await creating.update(work, place, {"description": "too late"})


async def deleted(work: Work, ours: Household) -> None:
    place = await ours.place(work, "web")
    await gone(ours, "web")
    await deleting.delete_repository(work, place)


async def gone(ours: Household, repository: str) -> None:
    async with ours.begin() as other:
        await deleting.delete_repository(other, await ours.place(other, repository))


@pytest.mark.parametrize("act", [shared, granted, updated, deleted])
async def test_a_repository_that_goes_in_between(
    ours: Household, act: Callable[[Work, Household], Awaitable[None]]
) -> None:
    await ours.ensure("web")
    passwords = ours.system.gate.passwords
    async with ours.begin() as work:
        await managing.create_user(work, passwords, ours.name, f"{ours.name}-other", "a password of theirs")
    with pytest.raises(PlaceNotFound):
        async with ours.begin() as work:
            await act(work, ours)


async def test_an_organization_that_two_delete_is_given_back_once(ours: Household) -> None:
    async with ours.begin() as one:
        place = await finding.organization(one, ours.name)
        async with ours.begin() as two:
            await founding.dissolve(two, ours.name)
        with pytest.raises(PlaceNotFound):
            await finding.lock(one, place)
    async with ours.begin() as work:
        account = await finding.account(work, ours.name)
        used = {quota.key: quota.used for quota in await usage.quotas_of(work, account)}
        assert used[Key.ORGANIZATIONS] == 0
