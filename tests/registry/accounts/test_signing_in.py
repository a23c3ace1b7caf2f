"""Signing in through the door."""

import asyncio
from collections import Counter

from registry.accounts.passwords import AT_ONCE
from registry.accounts.throttling import PER_USER, WINDOW
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server


async def test_guesses_sent_at_once_are_counted_as_if_one_came_after_another(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "guessed")
    name = acme.owner.name
    async with knocking(tidewaiter) as door:
        guesses = (door.get("/token", auth=(name, f"guess {number}")) for number in range(40))
        answers = Counter(answer.status_code for answer in await asyncio.gather(*guesses))
        assert set(answers) == {401, 429}
        assert PER_USER <= answers[401] < PER_USER + AT_ONCE

        right = (name, acme.owner.password)
        held_up = await door.get("/token", auth=right)
        assert (held_up.status_code, held_up.json()["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
        assert 0 < int(held_up.headers["retry-after"]) <= WINDOW.total_seconds() + 1
        at_the_other_door = await door.post("/graphql", json={"query": "{ __typename }"}, auth=right)
        assert at_the_other_door.status_code == 429
        assert at_the_other_door.headers["retry-after"]

        tidewaiter.advance(WINDOW.total_seconds() + 1)
        assert (await door.get("/token", auth=right)).status_code == 200
