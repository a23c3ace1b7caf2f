import asyncio
from tests.support import world
from tests.support.handmade import knocking

async def test_dbg(tidewaiter):
    for n in range(4):
        acme = await world.tenant(tidewaiter, "guessed")
        name = acme.owner.name
        async with knocking(tidewaiter) as door:
            answers = await asyncio.gather(*(door.get("/token", auth=(name, f"guess {k}")) for k in range(40)))
            print(n, [a.status_code for a in answers], [a.text for a in answers if a.status_code == 503][:2])
        tidewaiter.advance(400)
    print(tidewaiter.output[-3000:])
    assert 0
