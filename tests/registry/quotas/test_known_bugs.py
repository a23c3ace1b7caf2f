"""What went wrong in other registries, each as a test.

There is no collector of bytes yet: where theirs spoiled the numbers, what is tested is what takes content out of the
numbers here, which is deleting, expiry, and the recount.

| Where | What happened | Tests |
|---|---|---|
| Harbor #18440, #21075, #23789, #19902 | Pushes side by side tried again and again, or failed. | test_known_races.test_fifty_pushes_at_once_ask_as_often_as_one_by_one, test_concurrency.test_two_hundred_pushes_into_room_for_half_of_them |
| harbor-next#712 | A counter was locked while bytes moved. | test_known_races.test_no_counter_is_locked_while_bytes_move |
| harbor-next#712 | A second connection was needed while one was held. | test_known_races.test_one_connection_is_enough_for_many |
| harbor-next#712 | A crash between holding and giving back was for ever. | test_known_races.test_what_a_killed_server_held_comes_back |
| Harbor #8688, #8797, #8693 | Clients tried again, and the refusal named nothing. | journeys/test_quotas.test_a_push_over_quota_is_told_the_numbers_at_the_first_try, test_reserving.test_what_would_pass_a_limit_is_refused_with_its_numbers |
| Harbor #12033, #18131, #11193, #8699 | A push that was broken off stayed charged. | test_reserving.test_an_upload_that_is_cut_holds_no_more_than_what_came, test_reserving.test_a_wrong_digest_gives_back, test_sweeping.test_what_no_manifest_came_for_is_given_back_and_told |
| Harbor #8815 | After a collection, what was pushed again was charged wrongly. | test_what_goes_and_comes_again_is_charged_as_before |
| Harbor #8888 | A copy that was deleted took the original with it. | test_deleting_a_copy_leaves_the_original |
| Harbor #8888 | A layer that a manifest names twice was charged twice. | test_a_layer_that_is_named_twice_is_charged_once |
| Harbor #21227, #19295, #13844 | After a collection, a part stayed charged. | test_when_all_is_gone_nothing_is_charged |
| Harbor #8681, #15615 | Over its limit, nothing could be deleted. | test_reserving.test_deleting_is_never_refused_and_lowering_a_limit_deletes_nothing |
| Harbor #11398 | Deleting a blob gave nothing back. | test_reserving.test_a_layer_of_two_repositories_is_charged_once_and_given_back_with_the_last |
| Harbor #11239, #11314 | The empty blob was refused when all was full. | test_an_empty_blob_is_welcome_when_all_is_full |
| Harbor #11071, Quay 3906 | A manifest of blobs that exist elsewhere was not charged. | test_a_manifest_of_what_only_another_organization_holds_gets_no_tag, test_reserving.test_a_manifest_that_does_not_fit_gets_no_tag |
| Harbor #17293, #17315 | A copy was charged without its signatures and children. | test_a_copy_is_charged_with_its_children_and_signatures |
| Harbor #23500 | A manifest could be of any size. | protocol/test_manifests.test_a_manifest_over_the_limit_is_413 |
| Harbor #23520 | What had no quota of its own was in no report. | test_usage.test_every_key_of_a_scope_is_told_whether_charged_or_not |
| Harbor #11517 | A copy within a full project was refused. | test_reserving.test_mounting_within_an_organization_is_free_at_a_full_quota |
| Harbor #14708 | Each of thousands of tags was accounted for by itself. | test_known_races.test_thousands_of_tags_go_with_as_few_statements_as_one |
| Quay 12368 | What was refused stayed counted. | test_after_a_refusal_what_is_small_enough_still_fits |
| Quay 6637 | What was on its way was counted twice. | test_reserving.test_what_was_received_of_an_upload_is_held_until_it_ends, test_usage.test_used_and_held_count_against_the_limit_together |
| Quay 3942 | Layers that are shared were counted for each image. | test_concurrency.test_the_same_layer_from_many_at_once_is_charged_once |
| Quay 3752 | Many who were first counted the same. | test_known_races.test_many_who_are_first_make_each_counter_once |
| Quay 4670 | Pulling an image twice added to what is stored. | test_pulling_adds_nothing_to_what_is_stored |
| Quay 12230 | Numbers were no whole numbers. | test_numbers_are_whole_numbers |
| Quay 8857 | A threshold was told again and again. | test_alerts.test_each_step_is_told_once, test_alerts.test_many_who_cross_it_together_tell_it_once |
| Quay 5512 | What was below an index that is gone was lost sight of. | test_children_of_an_index_that_is_gone_are_charged_until_they_go |
| Quay 5469 | Owners who do not count were counted. | test_counts.test_users |
| HDDS-7006 | A counter was raised before the limit was looked at. | test_reserving.test_the_tightest_of_several_limits_decides, test_after_a_refusal_what_is_small_enough_still_fits |
| calendarserver#93 | A counter fell below nothing. | test_no_counter_falls_below_nothing |
"""  # noqa: E501

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import INDEX, Door, digest_of, index_of, knocking, manifest_of, refusal
from tests.support.images import MANIFEST, payload
from tests.support.meters import QUOTAS, limit, meter, scope_of, used
from tests.support.server import Server
from tests.support.world import Tenant


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    """Its second organization is named like the first, with `-two` behind."""
    acme = await world.tenant(tidewaiter, "known")
    await world.change(tidewaiter, "createOrganization", by=acme.owner, name=f"{acme.organization}-two")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


@pytest.fixture
def web(acme: Tenant) -> str:
    return f"{acme.organization}/web"


@pytest.fixture
def copy(acme: Tenant) -> str:
    return f"{acme.organization}-two/web"


async def delete(door: Door, repository: str, *contents: bytes) -> None:
    """Manifests, one after the other."""
    for content in contents:
        assert (await door.delete(f"/v2/{repository}/manifests/{digest_of(content)}")).status_code == 202


async def test_what_goes_and_comes_again_is_charged_as_before(acme: Tenant, door: Door, web: str) -> None:
    layer = payload(acme.account, 5000)
    charged = set()
    for _ in range(3):
        manifest = await door.push_image(web, "1.0", layer)
        charged.add(await used(acme))
        await delete(door, web, manifest)
        assert await used(acme) == await used(acme, kind="repository") == (0, 0)
        assert await used(acme, "TAGS") == (0, 0)
    assert charged == {(5002 + len(manifest), 0)}


async def test_deleting_a_copy_leaves_the_original(acme: Tenant, door: Door, web: str, copy: str) -> None:
    layer = payload(acme.account, 5000)
    manifest = await door.push_image(web, "1.0", layer)
    for digest in (digest_of(layer), digest_of(b"{}")):
        assert (await door.mount(copy, digest, web)).status_code == 201
    assert (await door.push_manifest(copy, "1.0", manifest)).status_code == 201
    once = 5002 + len(manifest)
    assert await used(acme, kind="account") == (2 * once, 0)
    await delete(door, copy, manifest)
    assert await used(acme, kind="account") == await used(acme) == (once, 0)
    assert (await door.get(f"/v2/{web}/manifests/1.0")).content == manifest
    assert (await door.get(f"/v2/{web}/blobs/{digest_of(layer)}")).content == layer


async def test_a_layer_that_is_named_twice_is_charged_once(acme: Tenant, door: Door, web: str) -> None:
    layer = payload(acme.account, 5000)
    manifest = await door.push_image(web, "1.0", layer, layer)
    assert await used(acme) == await used(acme, kind="repository") == (5002 + len(manifest), 0)
    await delete(door, web, manifest)
    assert await used(acme) == await used(acme, kind="repository") == (0, 0)


async def test_when_all_is_gone_nothing_is_charged(acme: Tenant, door: Door, web: str) -> None:
    manifests = [await door.push_image(web, f"{n}.0", payload(acme.account, 5000), bytes([n]) * n) for n in range(5)]
    full = (await used(acme))[0]
    assert await limit(acme, "STORAGE_BYTES", "organization", full) == []
    assert (await meter(acme, "STORAGE_BYTES"))["percent"] == 100.0
    await delete(door, web, *manifests)
    found = await meter(acme, "STORAGE_BYTES")
    assert (found["used"], found["held"], found["percent"]) == (0, 0, 0.0)
    assert (await door.push_blob(web, bytes(full))).status_code == 201


async def test_an_empty_blob_is_welcome_when_all_is_full(acme: Tenant, door: Door, web: str) -> None:
    await door.push_image(web, "1.0", b"a layer")
    for kind in ("repository", "organization", "account"):
        assert await limit(acme, "STORAGE_BYTES", kind, 0) == []
    assert (await door.push_blob(web, b"")).status_code == 201
    upload = await door.begin_upload(web)
    assert (await door.put(upload, params={"digest": digest_of(b"")})).status_code == 201
    assert (await door.push_blob(web, b"x")).status_code == 403


async def test_a_manifest_of_what_only_another_organization_holds_gets_no_tag(
    acme: Tenant, door: Door, web: str, copy: str
) -> None:
    layer, other = payload(acme.account, 5000), {"organization": f"{acme.organization}-two"}
    manifest = await door.push_image(web, "1.0", layer)
    assert (await door.push_blob(copy, b"{}")).status_code == 201
    refused = await door.push_manifest(copy, "1.0", manifest)
    assert refusal(refused)["code"] == "MANIFEST_BLOB_UNKNOWN"
    given = {"scope": other, "key": "STORAGE_BYTES", "limit": 2 + 5000 + len(manifest) - 1}
    await world.change(acme.tidewaiter, "setQuota", **given)
    assert (await door.mount(copy, digest_of(layer), web)).status_code == 201
    refused = await door.push_manifest(copy, "1.0", manifest)
    assert refusal(refused)["detail"]["code"] == "QUOTA_EXCEEDED"
    assert (await door.get(f"/v2/{copy}/manifests/1.0")).status_code == 404
    await world.change(acme.tidewaiter, "setQuota", **(given | {"limit": given["limit"] + 1}))
    assert (await door.push_manifest(copy, "1.0", manifest)).status_code == 201


async def test_a_copy_is_charged_with_its_children_and_signatures(
    acme: Tenant, door: Door, web: str, copy: str
) -> None:
    layers = [payload(f"{acme.account} {number}", 1000) for number in range(3)]
    children = [manifest_of(b"{}", layer) for layer in layers[:2]]
    index = index_of(*children)
    subject = {"mediaType": INDEX, "digest": digest_of(index), "size": len(index)}
    signature = manifest_of(b"{}", layers[2], subject=subject)
    for content in (b"{}", *layers):
        assert (await door.push_blob(web, content)).status_code == 201
        assert (await door.mount(copy, digest_of(content), web)).status_code == 201
    for content in (*children, index, signature):
        kind = INDEX if content is index else MANIFEST
        for name in (web, copy):
            assert (await door.push_manifest(name, digest_of(content), content, kind)).status_code == 201
    whole = 3002 + sum(map(len, (*children, index, signature)))
    assert await used(acme) == (whole, 0)
    assert await used(acme, kind="account") == (2 * whole, 0)


async def test_after_a_refusal_what_is_small_enough_still_fits(acme: Tenant, door: Door, web: str) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 1000) == []
    for size in (1001, 5000, 1001):
        assert (await door.push_blob(web, payload(acme.account, size))).status_code == 403
        assert await used(acme) == await used(acme, kind="account") == (0, 0)
    assert (await door.push_blob(web, payload(acme.account, 1000))).status_code == 201
    assert await used(acme) == (1000, 0)


async def test_pulling_adds_nothing_to_what_is_stored(acme: Tenant, door: Door, web: str) -> None:
    layer = payload(acme.account, 5000)
    await door.push_image(web, "1.0", layer)
    before = await used(acme)
    for address in (f"/v2/{web}/manifests/1.0", f"/v2/{web}/blobs/{digest_of(layer)}") * 2:
        assert (await door.get(address)).status_code == 200
    assert await used(acme) == before


async def test_numbers_are_whole_numbers(acme: Tenant, door: Door, web: str) -> None:
    """Also those that are larger than what 32 bits hold, and those of a refusal."""
    large = 9_007_199_254_740_991
    assert await limit(acme, "STORAGE_BYTES", "organization", large) == []
    scope = {"scope": scope_of(acme, "organization")}
    owner = acme.owner
    answer = await acme.tidewaiter.graphql(QUOTAS, scope, user=owner.name, password=owner.password)
    (found,) = (quota for quota in answer["data"]["quotas"] if quota["key"] == "STORAGE_BYTES")
    assert json.dumps([found["limit"], found["used"], found["held"]]) == f"[{large}, 0, 0]"
    assert await limit(acme, "STORAGE_BYTES", "organization", 10) == []
    detail = refusal(await door.push_blob(web, bytes(11)))["detail"]
    assert json.dumps([detail[name] for name in ("limit", "used", "held", "requested")]) == "[10, 0, 0, 11]"


async def test_children_of_an_index_that_is_gone_are_charged_until_they_go(acme: Tenant, door: Door, web: str) -> None:
    layer = payload(acme.account, 5000)
    child = await door.push_image(web, "child", layer)
    index = index_of(child)
    assert (await door.push_manifest(web, "1.0", index, INDEX)).status_code == 201
    assert await used(acme) == (5002 + len(child) + len(index), 0)
    await delete(door, web, index)
    assert await used(acme) == (5002 + len(child), 0)
    assert (await door.get(f"/v2/{web}/manifests/{digest_of(child)}")).content == child
    await delete(door, web, child)
    assert await used(acme) == (0, 0)


async def test_no_counter_falls_below_nothing(tidewaiter: Server, acme: Tenant, door: Door, web: str) -> None:
    """Whoever tries it, the database refuses."""
    await door.push_blob(web, b"a layer")
    async with opened(address_of(tidewaiter)) as books:
        with pytest.raises(asyncpg.CheckViolationError):
            await books.execute(
                "UPDATE quota_counter SET charged = charged - 8 WHERE key = 'STORAGE_BYTES'"
                " AND scope_id = (SELECT id FROM organization WHERE name = $1)",
                acme.organization,
            )
    assert await used(acme) == (7, 0)
