"""A reason given on the command line is held to what one given over GraphQL is held to."""

from typing import Any

import pytest

from tests.support import world
from tests.support.server import Server

LONG = "x" * 501
CREATE = """
    mutation($input: CreateAccountInput!) { createAccount(input: $input) { errors { message code } } }
"""
DONE = """
    query($action: String!) { auditLog(first: 1, filter: {action: $action}) { nodes { target statedReason } } }
"""
COMMANDS = [
    ("key", "--rotate"),
    ("reopen",),
    ("drop", "--month", "2031-01"),
    ("hold", "--month", "2031-01"),
    ("forget", "admin"),
]


async def newest(tidewaiter: Server, action: str) -> list[dict[str, Any]]:
    answer = await tidewaiter.graphql(DONE, {"action": action})
    assert "errors" not in answer, answer
    found: list[dict[str, Any]] = answer["data"]["auditLog"]["nodes"]
    return found


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_a_reason_that_is_too_long_is_refused_in_the_words_of_graphql(
    tidewaiter: Server, words: tuple[str, ...]
) -> None:
    """Before anything is done."""
    given = {"name": "unreasonable", "ownerName": "unreasonable", "ownerPassword": "unreasonable", "reason": LONG}
    answer = await tidewaiter.graphql(CREATE, {"input": given})
    (error,) = answer["data"]["createAccount"]["errors"]
    assert error["code"] == "REASON_TOO_LONG"
    told = tidewaiter.command("audit", *words, "--reason", LONG)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"tidewaiter: {error['message']}\n")


async def test_a_reason_is_kept_as_one_line(tidewaiter: Server) -> None:
    """Whichever way the command takes it to the log."""
    acme = await world.tenant(tidewaiter, "reasons")
    leaver = await world.user(acme, "leaver")
    given, kept = "  one line\r\nanother\x1b[2J\u202e", "one line another [2J"
    month = f"{tidewaiter.now:%Y-%m}"
    held = tidewaiter.command("audit", "hold", "--month", month, "--off", "--reason", given)
    assert held.returncode == 0, held.stderr
    assert await newest(tidewaiter, "audit.hold") == [{"target": month, "statedReason": kept}]
    forgot = tidewaiter.command("audit", "forget", leaver.name, "--reason", given)
    assert forgot.returncode == 0, forgot.stderr
    assert [one["statedReason"] for one in await newest(tidewaiter, "audit.subject_erased")] == [kept]
