"""What a request left in the audit log, as the administrator reads it."""

from typing import Any

import httpx2

from tests.support.server import Server

ENTRIES = """
    query($request: String!) {
        auditLog(first: 100, filter: {requestId: $request}) {
            nodes {
                action outcome target digest sizeBytes changes reason statedReason reasonCode client source
                actor { kind name }
            }
        }
    }
"""


async def entries_of(tidewaiter: Server, answer: httpx2.Response) -> list[dict[str, Any]]:
    """The latest hundred entries of the answered request, oldest first."""
    told = await tidewaiter.graphql(ENTRIES, {"request": answer.headers["x-request-id"]})
    assert "errors" not in told, told
    nodes: list[dict[str, Any]] = told["data"]["auditLog"]["nodes"]
    return nodes[::-1]


async def told_of(tidewaiter: Server, answer: httpx2.Response) -> list[tuple[str, str, str]]:
    """Action, outcome and target of each."""
    return [(one["action"], one["outcome"], one["target"]) for one in await entries_of(tidewaiter, answer)]
