"""Journeys of people with the clients they already have. What a client shows is all that a person learns."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import world
from tests.support.clients import Client, Oras, Outcome
from tests.support.images import Image, make_layout, payload
from tests.support.world import Entry, Person, Tenant, Tidewaiter

HOUR = 3600


@pytest.fixture
async def acme(tidewaiter: Tidewaiter) -> Tenant:
    return await world.tenant(tidewaiter, "acme")


@pytest.fixture
def image(acme: Tenant, tmp_path: Path) -> Image:
    """Two layers of a few KB that no other test has."""
    return make_layout(tmp_path / "image", [payload(f"{acme.organization} {number}", 4096) for number in (1, 2)])


@pytest.fixture
async def owner(client: Client, acme: Tenant) -> Client:
    """The client in the hands of the organization's owner, signed in."""
    return await signed_in(client, acme, acme.owner)


async def signed_in(client: Client, tenant: Tenant, person: Person) -> Client:
    own = client.for_person(person.name)
    accepted(await own.login(tenant.tidewaiter.registry, person.name, person.password))
    return own


def accepted(outcome: Outcome) -> Outcome:
    assert outcome.accepted, outcome.output
    return outcome


def refused(outcome: Outcome, *sentence: str) -> None:
    """The client gave up by itself, and showed these words."""
    assert outcome.code not in (0, 124), outcome.output
    for word in sentence:
        assert word in outcome.output


def refused_as_unknown_or_unseen(outcome: Outcome) -> None:
    """Clients word it in their own ways, and some ask with HEAD, whose refusal has no text."""
    refused(outcome)
    known = ("denied", "unauthorized", "not found", "unknown", "forbidden")
    assert any(word in outcome.output.lower() for word in known), outcome.output


async def test_what_is_pushed_is_what_is_pulled(owner: Client, acme: Tenant, image: Image, tmp_path: Path) -> None:
    pushed = accepted(await owner.push(image, acme.reference("web", "1.0")))
    pulled = accepted(await owner.pull(acme.reference("web", "1.0"), tmp_path / "pulled"))
    assert pushed.digest is not None
    assert pulled.digest == pushed.digest


async def test_skopeo_changes_no_byte(skopeo: Client, acme: Tenant, image: Image) -> None:
    owner = await signed_in(skopeo, acme, acme.owner)
    pushed = accepted(await owner.push(image, acme.reference("web", "1.0")))
    assert pushed.digest == image.digest


async def test_oras_brings_back_the_same_files(oras: Oras, acme: Tenant, image: Image, tmp_path: Path) -> None:
    """This client checks no digest of what it receives, so the files themselves are compared."""
    owner = await signed_in(oras, acme, acme.owner)
    accepted(await owner.push(image, acme.reference("charts", "1.0")))
    accepted(await owner.pull(acme.reference("charts", "1.0"), tmp_path / "pulled"))
    pulled = [(tmp_path / "pulled" / f"payload-{number}").read_bytes() for number in (0, 1)]
    assert pulled == list(image.payloads)


@pytest.mark.parametrize("name", ["skopeo", "podman", "docker"])
async def test_a_wrong_password_is_refused_at_login(name: str, acme: Tenant, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(name)
    outcome = await client.login(acme.tidewaiter.registry, acme.owner.name, "not the password")
    refused(outcome)
    assert re.search("unauthorized|password", outcome.output, re.IGNORECASE), outcome.output
    assert "not the password" not in outcome.output


async def test_oras_with_a_wrong_password_is_told_so(oras: Oras, acme: Tenant, tmp_path: Path) -> None:
    """It never shows a password at login. With Basic at hand its first request is refused in our words."""
    person = Oras(oras.folder, door="basic")
    accepted(await person.login(acme.tidewaiter.registry, acme.owner.name, "not the password"))
    outcome = await person.pull(acme.reference("web", "1.0"), tmp_path / "pulled")
    refused(outcome, "password")
    assert "not the password" not in outcome.output


async def test_who_signed_out_is_nobody(owner: Client, acme: Tenant, image: Image, tmp_path: Path) -> None:
    accepted(await owner.push(image, acme.reference("web", "1.0")))
    accepted(await owner.logout(acme.tidewaiter.registry))
    refused_as_unknown_or_unseen(await owner.pull(acme.reference("web", "1.0"), tmp_path / "pulled"))


async def test_a_reader_who_pushes_is_told_what_is_held_and_what_is_needed(
    client: Client, acme: Tenant, image: Image
) -> None:
    reader = await signed_in(client, acme, await world.user(acme, "reader", level="READ"))
    await world.repository(acme, "web")
    outcome = await reader.push(image, acme.reference("web", "1.0"))
    refused(outcome, acme.organization, "READ", "WRITE")


async def test_a_share_holds_until_its_deadline(
    client: Client, owner: Client, acme: Tenant, image: Image, tmp_path: Path
) -> None:
    partner = await world.tenant(acme.tidewaiter, "partner")
    receiver = await signed_in(client, partner, await world.user(partner, "receiver"))
    await world.repository(acme, "web")
    pushed = accepted(await owner.push(image, acme.reference("web", "1.0")))
    await world.share(acme, "web", partner, seconds=HOUR)

    pulled = accepted(await receiver.pull(acme.reference("web", "1.0"), tmp_path / "in time"))
    assert pulled.digest == pushed.digest
    acme.tidewaiter.advance(HOUR + 1)
    refused_as_unknown_or_unseen(await receiver.pull(acme.reference("web", "1.0"), tmp_path / "late"))


async def test_a_withdrawn_permission_ends_the_next_pull(
    client: Client, owner: Client, acme: Tenant, image: Image, tmp_path: Path
) -> None:
    """The reader stays signed in, and may no longer see what a minute ago could be pulled."""
    person = await world.user(acme, "reader", level="READ")
    reader = await signed_in(client, acme, person)
    await world.repository(acme, "web")
    accepted(await owner.push(image, acme.reference("web", "1.0")))

    accepted(await reader.pull(acme.reference("web", "1.0"), tmp_path / "before"))
    await world.withdraw(acme, person)
    refused_as_unknown_or_unseen(await reader.pull(acme.reference("web", "1.0"), tmp_path / "after"))


async def test_the_audit_log_tells_the_same_story(
    client: Client, owner: Client, acme: Tenant, image: Image, tmp_path: Path
) -> None:
    person = await world.user(acme, "reader", level="READ")
    reader = await signed_in(client, acme, person)
    await world.repository(acme, "web")
    accepted(await owner.push(image, acme.reference("web", "1.0")))
    accepted(await reader.pull(acme.reference("web", "1.0"), tmp_path / "before"))
    refused(await reader.push(image, acme.reference("web", "2.0")))
    await world.withdraw(acme, person)
    refused(await reader.pull(acme.reference("web", "1.0"), tmp_path / "after"))

    happened = [
        ("image.push", "ALLOWED", acme.owner.name),
        ("image.pull", "ALLOWED", person.name),
        ("image.push", "DENIED", person.name),
        ("image.pull", "DENIED", person.name),
    ]
    log = await world.story(acme)
    assert without_repeats(log) == happened
    assert all(entry.reason for entry in log if entry.outcome == "DENIED")


def without_repeats(log: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Some clients ask again after a refusal; the log holds each time they asked."""
    return [told for told, _ in itertools.groupby(entry.told for entry in log)]
