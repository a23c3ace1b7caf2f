"""What operators and their machines ask a server: is it alive, is it ready, what does it measure.

Health is also asked at the public door, so its routes are given separately; the measures belong to the admin
listener alone, which nobody outside should reach.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry.telemetry import EXPOSITION_TYPE

Problems = Callable[[], Awaitable[Mapping[str, str]]]
"""Tells what stands in the way of serving: a sentence for each part that fails; nothing when ready."""

Warnings = Callable[[], Mapping[str, str]]
"""Tells what an operator has to see to although requests are served."""

READY_SECONDS = 3
NO_STORE = {"Cache-Control": "no-store"}


def operations(
    exposition: Callable[[], bytes],
    problems: Problems,
    warnings: Warnings = dict,
    ready_seconds: float = READY_SECONDS,
) -> Starlette:
    """The application of the admin listener: /metrics, /healthz, /readyz."""

    async def metrics(_: Request) -> Response:
        return Response(exposition(), headers={"Content-Type": EXPOSITION_TYPE, **NO_STORE})

    return Starlette(routes=[Route("/metrics", metrics), *health_routes(problems, warnings, ready_seconds)])


def health_routes(problems: Problems, warnings: Warnings = dict, ready_seconds: float = READY_SECONDS) -> list[Route]:
    """/healthz answers as long as the process does; /readyz answers 503 while something is in the way, and lists
    warnings, which are no reason to send requests elsewhere."""

    async def healthz(request: Request) -> Response:
        _named(request, "/healthz")
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    async def readyz(request: Request) -> Response:
        _named(request, "/readyz")
        found = await _asked(problems, ready_seconds)
        status = "not ready" if found else "ready"
        told = {"status": status, "problems": found, "warnings": dict(warnings())}
        return JSONResponse(told, 503 if found else 200, NO_STORE)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _asked(problems: Problems, seconds: float) -> dict[str, str]:
    """The problems, or that they could not be told: who asks must get an answer soon, whatever hangs."""
    try:
        async with asyncio.timeout(seconds):
            return dict(await problems())
    except TimeoutError:
        return {"server": f"The checks did not end within {seconds:g} seconds."}


def _named(request: Request, route: str) -> None:
    """Tells the outer layer which route to measure."""
    request.scope.setdefault("state", {})["route"] = route
