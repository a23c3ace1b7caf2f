"""Making and changing repositories, where a test has to open the transactions itself."""

import pytest

from registry.errors import NotFound
from registry.repositories import creating, deleting
from tests.support.inside import Household


async def test_what_goes_while_it_is_changed_is_not_there(ours: Household) -> None:
    await ours.ensure("web")
    async with ours.begin() as work:
        place = await ours.place(work, "web")
        async with ours.begin() as other:
            await deleting.delete_repository(other, await ours.place(other, "web"))
        with pytest.raises(NotFound):
            await creating.update(work, place, {"description": "too late"})
