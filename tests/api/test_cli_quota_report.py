"""`tidewaiter quota report`: what the operator is told of a scope, in words and as JSON, with an entry in the log."""

import json
import secrets
from datetime import timedelta
from typing import Any

import pytest

from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import knocking
from tests.support.images import payload
from tests.support.meters import limit
from tests.support.server import Server
from tests.support.world import Tenant

KEYS = {
    "account": {"ORGANIZATIONS", "USERS", "ACCESS_TOKENS", "SHARES", "TRIGGERS", "REPOSITORIES", "STORAGE_BYTES"},
    "organization": {"REPOSITORIES", "TAGS", "STORAGE_BYTES", "EGRESS_BYTES", "PULLS"},
    "repository": {"TAGS", "STORAGE_BYTES"},
}
TRAFFIC = {"EGRESS_BYTES", "PULLS"}


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    """It holds one image, which was pulled twice; three tags at most are allowed, and one is there."""
    acme = await world.tenant(tidewaiter, "told")
    name = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(name, "1.0", payload("layer", 5000))
        for _ in range(2):
            assert (await door.get(f"/v2/{name}/manifests/1.0")).status_code == 200
    assert await limit(acme, "TAGS", "organization", 1) == []
    return acme


def report(server: Server, scope: str) -> dict[str, Any]:
    told = server.command("quota", "report", "--scope", scope, "--json")
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


async def test_one_document_tells_all_of_an_organization(tidewaiter: Server, acme: Tenant) -> None:
    told = report(tidewaiter, f"organization:{acme.organization}")
    assert told["scope"] == {"kind": "organization", "name": acme.organization}
    assert told["time"].endswith("Z")
    quotas = {one["key"]: one for one in told["quotas"]}
    stored = quotas["STORAGE_BYTES"]["used"]
    assert 5000 < stored < 6000
    assert quotas["TAGS"] == {
        "key": "TAGS", "limit": 1, "softLimit": None, "used": 1, "held": 0, "percent": 100.0, "unit": "tags",
    }  # fmt: skip
    assert told["alerts"] == [{"step": 100, **quotas["TAGS"]}]
    assert [len(one["points"]) for one in told["usage"].values()] == [30] * 5
    assert [one["points"][-1]["value"] for one in told["usage"].values()][:3] == [1, 1, stored]
    assert told["usage"]["PULLS"]["points"][-1] == {
        "time": f"{tidewaiter.now:%Y-%m-%d}T00:00:00Z", "value": 2, "peak": 2,
    }  # fmt: skip
    assert told["usage"]["TAGS"]["trendPerDay"] is None
    assert told["usage"]["TAGS"]["fullInDays"] == 0
    assert told["topConsumers"]["STORAGE_BYTES"] == {
        "organizations": [],
        "repositories": [{"name": "web", "value": stored, "deleted": False}],
        "tags": [{"name": "web:1.0", "value": stored, "deleted": False}],
        "users": [{"name": acme.owner.name, "value": stored, "deleted": False}],
    }
    assert told["topConsumers"]["PULLS"]["users"] == [{"name": acme.owner.name, "value": 2, "deleted": False}]


async def test_each_kind_of_scope_tells_what_is_counted_there(tidewaiter: Server, acme: Tenant) -> None:
    scopes = {
        "account": f"account:{acme.account}",
        "organization": f"organization:{acme.organization}",
        "repository": f"repository:{acme.organization}/web",
    }
    for kind, scope in scopes.items():
        told = report(tidewaiter, scope)
        assert {one["key"] for one in told["quotas"]} == KEYS[kind]
        more = TRAFFIC if kind == "account" else set()
        assert set(told["usage"]) == set(told["topConsumers"]) == KEYS[kind] | more


async def test_numbers_are_whole_however_large(tidewaiter: Server, acme: Tenant) -> None:
    most = 2**62 + 1
    assert await limit(acme, "STORAGE_BYTES", "organization", most) == []
    told = tidewaiter.command("quota", "report", "--scope", f"organization:{acme.organization}", "--json")
    assert f'"limit":{most},' in told.stdout


async def test_in_words(tidewaiter: Server, acme: Tenant) -> None:
    async with opened(address_of(tidewaiter)) as books:
        days = [(tidewaiter.now - timedelta(days=number), 6000 - 1000 * number) for number in range(1, 4)]
        for day, value in days:
            await books.execute(
                "INSERT INTO usage_hour SELECT 'organization', id, 'STORAGE_BYTES', $2, $3, $3"
                " FROM organization WHERE name = $1",
                acme.organization,
                day.replace(minute=0, second=0, microsecond=0),
                value,
            )
    assert await limit(acme, "STORAGE_BYTES", "organization", 6000) == []
    told = tidewaiter.command("quota", "report", "--scope", f"organization:{acme.organization}")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"organization {acme.organization}, 20")
    assert "TAGS           used 1 tags, of 1 tags, 100.0 %" in lines
    assert "TAGS           100 % of 1 tags reached" in lines
    assert "TAGS           from 0 tags to 1 tags, at most 1 tags, full" in lines
    stored = next(line for line in lines[lines.index("LAST 30 DAYS") :] if line.startswith("STORAGE_BYTES"))
    assert " from 0 bytes to 5" in stored
    assert stored.endswith(" a day, full in about 1 day")
    assert lines[lines.index("TOP TAGS BY STORAGE_BYTES") + 1].startswith("web:1.0 ")
    assert lines[lines.index("TOP USERS BY PULLS") + 1].split() == [acme.owner.name, "2", "pulls"]


async def test_an_empty_account_has_little_to_tell(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "empty")
    told = tidewaiter.command("quota", "report", "--scope", f"account:{acme.account}")
    lines = told.stdout.splitlines()
    assert lines[lines.index("ALERTS") + 1] == "none"
    assert not any(line.startswith("TOP TAGS") for line in lines)


async def test_that_it_was_read_is_on_the_books(tidewaiter: Server, acme: Tenant) -> None:
    report(tidewaiter, f"repository:{acme.organization}/web")
    entry = next(entry for entry in await world.entries(acme) if entry.action == "quota.report")
    assert (entry.outcome, entry.actor, entry.target) == ("ALLOWED", "system", f"repository {acme.organization}/web")


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("acme", "names no scope"),
        ("account:", "names no scope"),
        ("account:a/b", "names no scope"),
        ("repository:acme", "names no scope"),
        ("platform:acme", "names no scope"),
        ("organization:nowhere", "nowhere"),
        ("account:nowhere", "nowhere"),
        ("repository:nowhere/web", "nowhere/web"),
    ],
)
def test_what_cannot_be_told_is_told_in_a_sentence(tidewaiter: Server, scope: str, said: str) -> None:
    told = tidewaiter.command("quota", "report", "--scope", scope)
    assert (told.returncode, told.stdout) == (1, "")
    assert said in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_name_that_moves_the_cursor_stays_one_line(tidewaiter: Server) -> None:
    told = tidewaiter.command("quota", "report", "--scope", f"organization:sly\x1b[2J{secrets.token_hex(2)}")
    assert told.returncode == 1
    assert told.stderr.rstrip("\n").isprintable()
