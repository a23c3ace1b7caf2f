"""Asking for a higher limit, and the decision: who may, what comes of it, and what stands in the log."""

import asyncio
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change, code_of, refusal, verdict
from tests.support import log, world
from tests.support.books import address_of, opened
from tests.support.meters import limit, meter, scope_of
from tests.support.server import Server
from tests.support.world import Person, Tenant

REQUEST = """
    request {
        id account organization repository key limit reason state requestedBy requestedAt decidedBy decidedAt note
    }
"""
REQUESTS = """
    query($state: QuotaRequestState, $first: Int, $after: String) {
        quotaRequests(state: $state, first: $first, after: $after) {
            nodes { id account organization repository key limit state note } pageInfo { hasNextPage endCursor }
        }
    }
"""
KEYS = {"account": "ORGANIZATIONS", "organization": "STORAGE_BYTES", "repository": "TAGS"}
PRESENT = 7


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await limited(tidewaiter)


@pytest.fixture(scope="module")
async def unchanged(tidewaiter: Server) -> Tenant:
    """For tests that leave nothing waiting in it."""
    return await limited(tidewaiter)


async def limited(tidewaiter: Server) -> Tenant:
    """With a repository, and a limit of 7 at each kind of scope."""
    acme = await world.tenant(tidewaiter, "requests")
    await world.repository(acme, "web")
    for kind, key in KEYS.items():
        assert await limit(acme, key, kind, PRESENT) == []
    return acme


def wish(acme: Tenant, kind: str = "organization", most: int | None = 100) -> dict[str, Any]:
    return {"scope": scope_of(acme, kind), "key": KEYS[kind], "limit": most}


async def requested(acme: Tenant, kind: str = "organization", by: Person | None = None, **more: Any) -> Any:
    given = wish(acme, kind) | more
    return (await change(acme.tidewaiter, "requestQuota", by or acme.owner, REQUEST, **given))["request"]  # type: ignore[arg-type]


async def decided(acme: Tenant, request: str, approve: bool, **more: Any) -> Any:
    given = {"request": request, "approve": approve} | more
    return (await change(acme.tidewaiter, "decideQuotaRequest", ADMIN, REQUEST, **given))["request"]  # type: ignore[arg-type]


async def pages(tidewaiter: Server, by: Person, **given: Any) -> list[Any]:
    """All requests that somebody sees, a page at a time."""
    found: list[Any] = []
    while True:
        page = (await ask(tidewaiter, REQUESTS, by, **given))["quotaRequests"]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        given["after"] = page["pageInfo"]["endCursor"]


async def seen_by(acme: Tenant, by: Person, **given: Any) -> set[str]:
    return {one["id"] for one in await pages(acme.tidewaiter, by, **given)}  # type: ignore[arg-type]


async def entries_of(tidewaiter: Server, acme: Tenant, kind: str = "organization") -> list[dict[str, Any]]:
    """What the log tells of the limit, in order."""
    name = {"account": acme.account, "organization": acme.organization, "repository": f"{acme.organization}/web"}[kind]
    async with opened(address_of(tidewaiter)) as books:
        return await log.events(books, target={"name": f"{kind} {name} {KEYS[kind]}"})


@pytest.mark.parametrize("kind", KEYS)
async def test_an_approved_request_sets_the_limit(tidewaiter: Server, acme: Tenant, kind: str) -> None:
    asked = await requested(acme, kind, reason="we grow")
    assert (asked["state"], asked["limit"], asked["reason"]) == ("PENDING", 100, "we grow")
    assert (asked["requestedBy"], asked["decidedBy"], asked["decidedAt"]) == (acme.owner.name, None, None)
    assert {asked["account"], asked["organization"], asked["repository"]} - {None} <= {
        acme.account,
        acme.organization,
        "web",
    }
    assert (await meter(acme, KEYS[kind], kind))["limit"] == PRESENT
    done = await decided(acme, asked["id"], approve=True, note="well earned", reason="ticket 7")
    assert (done["id"], done["state"], done["decidedBy"], done["note"]) == (
        asked["id"],
        "APPROVED",
        "admin",
        "well earned",
    )
    assert (await meter(acme, KEYS[kind], kind))["limit"] == 100


async def test_each_step_stands_in_the_log_with_before_and_after(tidewaiter: Server, acme: Tenant) -> None:
    first = await requested(acme, reason="we grow")
    await decided(acme, first["id"], approve=False, note="not yet")
    second = await requested(acme, limit=None)
    await decided(acme, second["id"], approve=True, note="so be it", reason="ticket 7")
    _, *entries = await entries_of(tidewaiter, acme)
    assert [(entry["action"], entry["outcome"], entry["change"]) for entry in entries] == [
        ("quota.request", "allowed", {"limit": [PRESENT, 100]}),
        (
            "quota.decline",
            "allowed",
            {"state": ["PENDING", "DECLINED"], "limit": [PRESENT, PRESENT], "note": [None, "not yet"]},
        ),
        ("quota.request", "allowed", {"limit": [PRESENT, None]}),
        (
            "quota.approve",
            "allowed",
            {"state": ["PENDING", "APPROVED"], "limit": [PRESENT, None], "note": [None, "so be it"]},
        ),
        ("quota.set", "allowed", {"limit": [PRESENT, None]}),
    ]
    assert entries[0]["reason"]["stated"] == "we grow"
    assert {entry["reason"]["stated"] for entry in entries[3:]} == {"ticket 7"}
    seen = [entry.action for entry in await world.entries(acme) if entry.action.startswith("quota.")]
    assert {"quota.request", "quota.approve", "quota.decline"} <= set(seen)


async def test_a_declined_request_leaves_the_limit_and_room_for_another(tidewaiter: Server, acme: Tenant) -> None:
    asked = await requested(acme)
    done = await decided(acme, asked["id"], approve=False)
    assert (done["state"], done["note"], (await meter(acme, "STORAGE_BYTES"))["limit"]) == ("DECLINED", "", PRESENT)
    assert (await requested(acme))["id"] != asked["id"]


async def test_one_request_of_a_scope_and_key_waits_at_a_time(tidewaiter: Server, acme: Tenant) -> None:
    await requested(acme)
    error = await refusal(tidewaiter, "requestQuota", acme.owner, REQUEST, **wish(acme, most=200))
    assert (error["code"], error["__typename"]) == ("REQUEST_PENDING", "ConflictError")
    await requested(acme, "repository")
    assert await limit(acme, "TAGS", "organization", 1) == []
    await requested(acme, key="TAGS")
    assert len(await pages(tidewaiter, acme.owner, state="PENDING")) == 3


async def test_of_many_who_ask_at_once_one_has_asked(tidewaiter: Server, acme: Tenant) -> None:
    found = await asyncio.gather(*(verdict(tidewaiter, "requestQuota", acme.owner, **wish(acme)) for _ in range(8)))
    assert sorted(found) == ["DONE", *["REQUEST_PENDING"] * 7]
    assert len(await pages(tidewaiter, acme.owner)) == 1


async def test_of_two_who_decide_at_once_one_has_decided(tidewaiter: Server, acme: Tenant) -> None:
    """And what the limit is then agrees with what the request says."""
    for _ in range(5):
        asked = await requested(acme)
        found = await asyncio.gather(
            *(
                verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=asked["id"], approve=approve)
                for approve in (True, False, True, False)
            )
        )
        assert sorted(found) == ["DONE", *["REQUEST_DECIDED"] * 3]
        (row,) = [one for one in await pages(tidewaiter, acme.owner) if one["id"] == asked["id"]]
        assert row["state"] == ("APPROVED" if found.index("DONE") % 2 == 0 else "DECLINED")
        most = (await meter(acme, "STORAGE_BYTES"))["limit"]
        assert most == (100 if row["state"] == "APPROVED" else PRESENT)
        assert await limit(acme, "STORAGE_BYTES", "organization", PRESENT) == []


async def test_what_was_decided_is_not_decided_again(tidewaiter: Server, acme: Tenant) -> None:
    asked = await requested(acme)
    await decided(acme, asked["id"], approve=False)
    for approve in (True, False):
        error = await refusal(tidewaiter, "decideQuotaRequest", ADMIN, REQUEST, request=asked["id"], approve=approve)
        assert error["code"] == "REQUEST_DECIDED"
        assert "declined at" in error["message"]
    assert (await meter(acme, "STORAGE_BYTES"))["limit"] == PRESENT


@pytest.mark.parametrize("raised", [100, 101, None])
async def test_an_approval_never_lowers_a_limit_that_was_raised_meanwhile(
    tidewaiter: Server, acme: Tenant, raised: int | None
) -> None:
    asked = await requested(acme)
    assert await limit(acme, "STORAGE_BYTES", "organization", raised) == []
    found = await verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=asked["id"], approve=True)
    assert found == "REQUEST_OVERTAKEN"
    assert (await meter(acme, "STORAGE_BYTES"))["limit"] == raised
    assert (await decided(acme, asked["id"], approve=False))["state"] == "DECLINED"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"limit": PRESENT}, "LIMIT_INVALID"),
        ({"limit": PRESENT - 1}, "LIMIT_INVALID"),
        ({"limit": 0}, "LIMIT_INVALID"),
        ({"limit": -1}, "LIMIT_INVALID"),
        ({"limit": 2**63 - 1}, "DONE"),
        ({"limit": 2**63}, "INVALID_QUERY"),
        ({"limit": "8"}, "INVALID_QUERY"),
        ({"key": "ORGANIZATIONS"}, "LIMIT_INVALID"),
        ({"key": "NONSENSE"}, "INVALID_QUERY"),
        ({"key": "TAGS"}, "LIMIT_INVALID"),  # unlimited already
        ({"key": "TAGS", "limit": None}, "LIMIT_INVALID"),
        ({"scope": {}}, "LIMIT_INVALID"),
        ({"scope": {"organization": "nobody-has-this"}}, "NOT_FOUND"),
        ({"reason": "x" * 501}, "REASON_TOO_LONG"),
        ({"reason": "x" * 500}, "DONE"),
        ({"reason": "a\u0000b"}, "INVALID_REQUEST"),
        ({"reason": None}, "DONE"),
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_not_asked_for(
    tidewaiter: Server, unchanged: Tenant, given: dict[str, Any], code: str
) -> None:
    owner = unchanged.owner
    assert await verdict(tidewaiter, "requestQuota", owner, **(wish(unchanged) | given)) == code
    waiting = await pages(tidewaiter, owner, state="PENDING")
    assert len(waiting) == (code == "DONE")
    for one in waiting:
        await decided(unchanged, one["id"], approve=False)


async def test_a_request_without_a_number_is_none(tidewaiter: Server, unchanged: Tenant) -> None:
    """A variable that was forgotten must not ask for all there is."""
    given = wish(unchanged)
    del given["limit"]
    error = await refusal(tidewaiter, "requestQuota", unchanged.owner, REQUEST, **given)
    assert (error["code"], error["path"]) == ("LIMIT_INVALID", ["limit"])


async def test_one_who_asks_for_too_little_is_told_the_present_limit(tidewaiter: Server, unchanged: Tenant) -> None:
    error = await refusal(tidewaiter, "requestQuota", unchanged.owner, REQUEST, **wish(unchanged, most=3))
    ours = f"organization '{unchanged.organization}'"
    assert error["message"] == f"STORAGE_BYTES of {ours} is limited to 7 bytes already. Ask for more than that."


UNKNOWN = f"request_{'0' * 32}"


@pytest.mark.parametrize(
    ("request_id", "code"),
    [
        (UNKNOWN, "NOT_FOUND"),
        ("", "INVALID_ID"),
        ("request_", "INVALID_ID"),
        ("request_" + "z" * 32, "INVALID_ID"),
        ("request_" + "0" * 10_000, "INVALID_ID"),
        ("request_\u0000", "INVALID_REQUEST"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_request_that_is_none_is_not_decided(tidewaiter: Server, request_id: str, code: str) -> None:
    for approve in (True, False):
        assert await verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=request_id, approve=approve) == code


async def test_a_note_is_one_line_that_is_not_too_long(tidewaiter: Server, acme: Tenant) -> None:
    asked = await requested(acme)
    long = await verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=asked["id"], approve=True, note="x" * 501)
    assert long == "REASON_TOO_LONG"
    done = await decided(acme, asked["id"], approve=True, note=" so\n\u202ebe it ")
    assert done["note"] == "so be it"


ASKERS = {
    "account": {"owner"},
    "organization": {"owner", "manager"},
    "repository": {"owner", "manager"},
}


@pytest.mark.parametrize("kind", ASKERS)
async def test_owners_and_managers_ask_and_others_hear_what_they_may_see(
    tidewaiter: Server, cast: Cast, kind: str
) -> None:
    if kind == "repository":
        await world.repository(cast.acme, "web")
    assert await limit(cast.acme, KEYS[kind], kind, PRESENT) == []
    for role, person in cast.everybody.items():
        found = await verdict(tidewaiter, "requestQuota", person, **wish(cast.acme, kind))
        if role in ASKERS[kind]:
            assert found == "DONE", role
            (waiting,) = [one for one in await pages(tidewaiter, ADMIN, state="PENDING") if is_of(one, cast, kind)]
            await change(tidewaiter, "decideQuotaRequest", ADMIN, request=waiting["id"], approve=False)
        elif role == "nobody":
            assert found == "SIGN_IN_NEEDED"
        elif role == "stranger" or (role == "colleague" and kind != "account"):
            assert found == "NOT_FOUND", role
        else:
            assert found == "DENIED", role


def is_of(one: Any, cast: Cast, kind: str) -> bool:
    return one["account"] == cast.acme.account and one["key"] == KEYS[kind]


async def test_of_a_repository_that_is_hidden_nothing_is_told(tidewaiter: Server, acme: Tenant) -> None:
    """Whether it is there, or not."""
    reader = await world.user(acme, "reader", "READ")
    other = await world.tenant(tidewaiter, "requests-other")
    for person in (reader, other.owner):
        answers = set()
        for name in ("web", "absent"):
            scope = {"organization": acme.organization, "repository": name}
            error = await refusal(tidewaiter, "requestQuota", person, REQUEST, scope=scope, key="TAGS", limit=100)
            answers.add((error["code"], error["message"]))
        assert len(answers) == 1
    scope = {"organization": acme.organization, "repository": "absent"}
    assert await verdict(tidewaiter, "requestQuota", acme.owner, scope=scope, key="TAGS", limit=9) == "NOT_FOUND"


async def test_only_platform_administrators_decide(tidewaiter: Server, cast: Cast) -> None:
    acme = await limited(tidewaiter)
    asked = await requested(acme)
    people = {**cast.everybody, "owner": acme.owner}
    del people["admin"]
    for role, person in people.items():
        for request in (asked["id"], UNKNOWN):
            found = await verdict(tidewaiter, "decideQuotaRequest", person, request=request, approve=True)
            assert found == ("SIGN_IN_NEEDED" if role == "nobody" else "DENIED"), role
    assert (await meter(acme, "STORAGE_BYTES"))["limit"] == PRESENT


async def test_a_suspended_account_asks_for_nothing(tidewaiter: Server, acme: Tenant) -> None:
    asked = await requested(acme, "account")
    await change(tidewaiter, "suspendAccount", ADMIN, account=acme.account)
    for kind in KEYS:
        assert await verdict(tidewaiter, "requestQuota", acme.owner, **wish(acme, kind)) == "ACCOUNT_SUSPENDED"
    assert (await decided(acme, asked["id"], approve=True))["state"] == "APPROVED"


async def test_each_sees_the_requests_for_what_is_theirs(tidewaiter: Server, cast: Cast) -> None:
    acme, other = await limited(tidewaiter), await limited(tidewaiter)
    manager = await world.user(acme, "manager", "MANAGE")
    writer = await world.user(acme, "writer", "WRITE")
    ours = {kind: (await requested(acme, kind))["id"] for kind in KEYS}
    theirs = {(await requested(other, kind))["id"] for kind in KEYS}
    assert await seen_by(acme, acme.owner) == set(ours.values())
    assert await seen_by(acme, manager) == {ours["organization"], ours["repository"]}
    assert await seen_by(acme, other.owner) == theirs
    assert await seen_by(acme, writer) == await seen_by(acme, cast.colleague) == await seen_by(acme, NOBODY) == set()
    assert theirs | set(ours.values()) <= await seen_by(acme, ADMIN, first=2)
    for person, found in ((acme.owner, True), (manager, True), (writer, False), (other.owner, False), (ADMIN, True)):
        node = await ask(tidewaiter, "query($id: ID!) { node(id: $id) { id } }", person, id=ours["repository"])
        assert node["node"] == ({"id": ours["repository"]} if found else None)


async def test_requests_are_found_by_their_state_newest_first(tidewaiter: Server, acme: Tenant) -> None:
    ids = []
    for approve in (False, True):
        asked = await requested(acme, limit=100 if not approve else 200)
        await decided(acme, asked["id"], approve=approve)
        ids.append(asked["id"])
    ids.append((await requested(acme, limit=300))["id"])
    assert [one["id"] for one in await pages(tidewaiter, acme.owner, first=1)] == ids[::-1]
    for state, id in zip(("DECLINED", "APPROVED", "PENDING"), ids, strict=True):
        assert await seen_by(acme, acme.owner, state=state) == {id}
    assert await code_of(tidewaiter, REQUESTS, acme.owner, first=101) == "PAGE_SIZE_OUT_OF_RANGE"
    assert await code_of(tidewaiter, REQUESTS, acme.owner, state="LOST") == "INVALID_QUERY"


@pytest.mark.parametrize(("level", "seen"), [("READ", False), ("WRITE", False), ("MANAGE", True)])
async def test_a_token_of_a_lower_level_neither_sees_nor_asks(
    tidewaiter: Server, acme: Tenant, level: str, seen: bool
) -> None:
    asked = await requested(acme)
    key = await change(tidewaiter, "createAccessKey", acme.owner, "secret", name="key", level=level)
    holder = Person(acme.owner.name, key["secret"])
    assert await seen_by(acme, holder) == ({asked["id"]} if seen else set())
    found = await verdict(tidewaiter, "requestQuota", holder, **wish(acme, "account"))
    assert found == ("DONE" if seen else "LIMITED_BY_TOKEN")


async def test_with_its_repository_a_request_goes(tidewaiter: Server, acme: Tenant) -> None:
    asked, kept = await requested(acme, "repository"), await requested(acme)
    await change(tidewaiter, "deleteRepository", acme.owner, organization=acme.organization, name="web", confirm="web")
    assert await seen_by(acme, ADMIN, state="PENDING") >= {kept["id"]}
    assert await seen_by(acme, acme.owner) == {kept["id"]}
    found = await verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=asked["id"], approve=True)
    assert found == "NOT_FOUND"
    await change(tidewaiter, "deleteOrganization", acme.owner, name=acme.organization)
    assert await seen_by(acme, acme.owner) == set()


async def test_a_repository_that_goes_while_it_is_decided_takes_no_harm(tidewaiter: Server, acme: Tenant) -> None:
    """One comes first; nobody waits for the other in a circle."""
    for _ in range(5):
        asked = await requested(acme, "repository")
        place = {"organization": acme.organization, "name": "web", "confirm": "web"}
        decision, deletion = await asyncio.gather(
            verdict(tidewaiter, "decideQuotaRequest", ADMIN, request=asked["id"], approve=True),
            verdict(tidewaiter, "deleteRepository", acme.owner, **place),
        )
        assert (decision in {"DONE", "NOT_FOUND"}, deletion) == (True, "DONE")
        await world.repository(acme, "web")
        assert await limit(acme, "TAGS", "repository", PRESENT) == []
