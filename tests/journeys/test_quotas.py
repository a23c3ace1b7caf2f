"""What people see when there is no room: the sentence with the numbers, at the first try where the client lets us."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.journeys.test_clients import accepted, refused, signed_in
from tests.support import world
from tests.support.clients import Client, Docker
from tests.support.images import Image, make_layout, payload
from tests.support.meters import limit, used
from tests.support.world import Entry, Tenant, Tidewaiter

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def acme(tidewaiter: Tidewaiter) -> Tenant:
    return await world.tenant(tidewaiter, "full")


@pytest.fixture
async def owner(client: Client, acme: Tenant) -> Client:
    return await signed_in(client, acme, acme.owner)


def image_of(acme: Tenant, tmp_path: Path, name: str, *sizes: int) -> Image:
    layers = [payload(f"{acme.organization} {name} {number}", size) for number, size in enumerate(sizes)]
    return make_layout(tmp_path / name, layers)


async def denied(acme: Tenant, action: str) -> Sequence[Entry]:
    """Each time that a client asked and was refused."""
    return [entry for entry in await world.entries(acme) if entry.told[:2] == (action, "DENIED")]


async def test_a_push_over_quota_is_told_the_numbers_at_the_first_try(
    owner: Client, acme: Tenant, tmp_path: Path
) -> None:
    small = image_of(acme, tmp_path, "small", 4096, 4096)
    await world.limit_storage(acme, 100_000)
    accepted(await owner.push(small, acme.reference("web", "1.0")))
    outcome = await owner.push(image_of(acme, tmp_path, "large", 400_000), acme.reference("web", "2.0"))
    refused(outcome, f"Storage quota of organization '{acme.organization}' exceeded", "ask the platform administrator")
    told = {word: number_after(word, outcome.output) for word in ("limit", "used", "requested")}
    assert told["limit"] == 100_000
    assert sum(len(content) for content in small.payloads) <= told["used"] <= 100_000
    # Who does not say how much comes is refused when the rest of the room is held, by itself too.
    held = number_after("on its way", outcome.output) if "on its way " in outcome.output else 0
    assert told["used"] + held + told["requested"] > 100_000
    # oras asks again, whatever the answer was.
    assert len(await denied(acme, "image.push")) == (3 if owner.name == "oras" else 1)
    assert (await used(acme))[1] == 0
    accepted(await owner.push(image_of(acme, tmp_path, "fits", 20_000), acme.reference("web", "3.0")))


@pytest.mark.parametrize("name", ["docker", "podman", "skopeo"])
async def test_a_layer_that_is_refused_in_its_midst_is_told_at_the_first_try(
    name: str, acme: Tenant, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is still being sent: without a moment of patience the client would see a broken connection, and try again."""
    owner = await signed_in(request.getfixturevalue(name), acme, acme.owner)
    await world.limit_storage(acme, 20 * MEBIBYTE)
    outcome = await owner.push(image_of(acme, tmp_path, "vast", 60 * MEBIBYTE), acme.reference("web", "1.0"))
    refused(outcome, f"Storage quota of organization '{acme.organization}' exceeded")
    assert len(await denied(acme, "image.push")) == 1
    assert (await used(acme))[1] == 0


@pytest.mark.parametrize(("key", "kind"), [("TAGS", "repository"), ("REPOSITORIES", "organization")])
async def test_one_tag_or_repository_too_many(
    docker: Docker, acme: Tenant, tmp_path: Path, key: str, kind: str
) -> None:
    owner = await signed_in(docker, acme, acme.owner)
    image = image_of(acme, tmp_path, "image", 4096)
    accepted(await owner.push(image, acme.reference("web", "1.0")))
    assert await limit(acme, key, kind, 1) == []
    another = acme.reference("web", "2.0") if key == "TAGS" else acme.reference("app", "1.0")
    noun = {"TAGS": "Tag quota of repository", "REPOSITORIES": "Repository quota of organization"}[key]
    refused(await owner.push(image, another), f"{noun} '{acme.organization}", "limit 1 ", "used 1 ")
    # docker asks twice where a repository would have to be made: to mount the layer, and to send it.
    assert len(await denied(acme, "image.push")) <= 2
    accepted(await owner.push(image, acme.reference("web", "1.0")))


async def test_the_same_layer_in_another_repository_costs_nothing_when_all_is_full(
    owner: Client, acme: Tenant, tmp_path: Path
) -> None:
    image = image_of(acme, tmp_path, "image", 50_000)
    accepted(await owner.push(image, acme.reference("web", "1.0")))
    await world.limit_storage(acme, (await used(acme))[0])
    accepted(await owner.push(image, acme.reference("web", "2.0")))


async def test_pulls_of_a_month_are_used_up(docker: Docker, acme: Tenant, tmp_path: Path) -> None:
    owner = await signed_in(docker, acme, acme.owner)
    accepted(await owner.push(image_of(acme, tmp_path, "image", 4096), acme.reference("web", "1.0")))
    assert await limit(acme, "PULLS", "organization", 0) == []
    another = owner.for_person("another-machine")
    accepted(await another.login(acme.tidewaiter.registry, acme.owner.name, acme.owner.password))
    refused(
        await another.pull(acme.reference("web", "1.0"), tmp_path / "pulled"),
        f"Pull quota of organization '{acme.organization}' in ",
        "begins anew with the next month",
    )


def number_after(word: str, text: str) -> int:
    """The whole number that follows a word: `used 4,096 bytes`, `used: 4096`."""
    found = re.search(rf"{word}\W+(\d[\d,_]*)", text)
    assert found, f"no number after {word!r} in: {text}"
    return int(re.sub(r"\D", "", found[1]))
