"""What the operator's lists say: who did it and who was only claimed to have, under which number, at what time."""

import json
import secrets
from typing import Any

from tests.support import world
from tests.support.server import Server

NEWEST = "{ auditLog(first: 1) { nodes { index } } }"


def lines(server: Server, *words: str) -> list[str]:
    told = server.command("audit", "list", "--number", "40", *words)
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def objects(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(server, "--json")]


async def tried(server: Server, name: str) -> None:
    answer = await server.graphql(NEWEST, user=name, password=secrets.token_urlsafe(8))
    assert answer["errors"][0]["extensions"]["code"] == "SIGN_IN_FAILED", answer


async def test_who_was_only_tried_is_not_shown_as_who_did_it(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "tried")
    await tried(tidewaiter, acme.owner.name)
    line = next(line for line in lines(tidewaiter) if "user.sign_in" in line and acme.owner.name in line)
    assert f' (anonymous, as "{acme.owner.name}") ' in line
    told = next(one for one in objects(tidewaiter) if one["action"] == "user.sign_in")
    assert (told["actor"], told["actorKind"], told["actorId"], told["via"]) == (
        acme.owner.name, "ANONYMOUS", None, None,
    )  # fmt: skip


async def test_who_did_it_is_shown_with_id_and_key(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "did")
    told = next(one for one in objects(tidewaiter) if one["action"] == "organization.create")
    assert (told["actor"], told["actorKind"], told["via"]) == (acme.owner.name, "USER", "PASSWORD")
    assert told["actorId"].startswith("user_")
    assert next(one for one in objects(tidewaiter) if one["action"] == "audit.read")["actorKind"] == "SYSTEM"


async def test_a_line_has_the_number_to_prove_and_the_zone_of_its_time(tidewaiter: Server) -> None:
    await world.tenant(tidewaiter, "numbered")
    told = {one["index"]: one for one in objects(tidewaiter)}
    for line in lines(tidewaiter)[1:20]:
        index, time = line.split()[:2]
        assert told[int(index)]["time"][:19] == time[:19]
        assert (len(time), time[-1], told[int(index)]["time"][-1]) == (20, "Z", "Z")


async def test_what_a_stranger_typed_stays_one_line_and_moves_no_cursor(tidewaiter: Server) -> None:
    name = f"sly\n\x1b[2J\u202e{secrets.token_hex(4)}"
    await tried(tidewaiter, name)
    (line,) = [line for line in lines(tidewaiter) if name[-8:] in line]
    assert line.isprintable()
    assert "user.sign_in" in line


async def test_a_suspended_user_is_called_so(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "suspending")
    leaver = await world.user(acme, "leaver")
    await world.change(tidewaiter, "suspendUser", by=acme.owner, user=leaver.name)
    listed = tidewaiter.command("user", "list").stdout.splitlines()
    assert next(line.split()[1:] for line in listed if line.startswith(leaver.name)) == [acme.account, "suspended"]
    assert next(line.split()[1:] for line in listed if line.startswith("admin ")) == [
        "admin",
        "owner",
        "platform_admin",
    ]
