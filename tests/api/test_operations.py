from collections.abc import Awaitable, Callable, Mapping

import anyio
import httpx2

from api.operations import operations

Problems = Callable[[], Awaitable[Mapping[str, str]]]


def problems(**found: str) -> Problems:
    async def tell() -> Mapping[str, str]:
        return found

    return tell


async def get(path: str, told: Problems, exposition: bytes = b"", seconds: float = 3) -> httpx2.Response:
    transport = httpx2.ASGITransport(operations(lambda: exposition, told, ready_seconds=seconds))
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as client:
        return await client.get(path)


async def test_metrics_are_given_as_they_are() -> None:
    answer = await get("/metrics", problems(), b"# HELP x\nx 1.0\n")
    assert answer.status_code == 200
    assert answer.content == b"# HELP x\nx 1.0\n"
    assert answer.headers["content-type"].startswith("text/plain; version=")


async def test_a_live_server_is_alive_even_when_not_ready() -> None:
    answer = await get("/healthz", problems(database="The database does not answer."))
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_a_server_without_problems_is_ready() -> None:
    answer = await get("/readyz", problems())
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "problems": {}, "warnings": {}})
    assert answer.headers["cache-control"] == "no-store"


async def test_a_server_with_a_problem_says_which() -> None:
    answer = await get("/readyz", problems(database="The database does not answer."))
    assert answer.status_code == 503
    assert answer.json()["problems"] == {"database": "The database does not answer."}


async def test_checks_that_hang_end_in_an_answer() -> None:
    async def hang() -> Mapping[str, str]:
        await anyio.sleep_forever()
        return {}

    answer = await get("/readyz", hang, seconds=0)
    assert answer.status_code == 503
    assert "did not end" in answer.json()["problems"]["server"]
