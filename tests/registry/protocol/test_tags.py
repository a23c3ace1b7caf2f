"""Tags: listed page by page, and what they may be called."""

import pytest

from tests.support.handmade import Door, digest_of, index_of, refusal
from tests.support.images import MANIFEST

# Byte order: digits, capitals, '_', small letters.
NAMES = ["1.0", "1.10", "1.9", "A", "Z", "_x", "a", "z-1"]


@pytest.fixture
async def tagged(door: Door, web: str) -> str:
    image = await door.push_image(web, "a", b"a layer")
    address = f"/v2/{web}/manifests/{digest_of(image)}?" + "&".join(f"tag={name}" for name in reversed(NAMES))
    assert (await door.put(address, content=image, headers={"Content-Type": MANIFEST})).status_code == 201
    return f"/v2/{web}/tags/list"


async def test_all_tags_in_order(door: Door, web: str, tagged: str) -> None:
    answer = await door.get(tagged)
    assert answer.status_code == 200
    assert answer.json() == {"name": web, "tags": NAMES}
    assert "link" not in answer.headers


async def test_page_by_page_along_the_links(door: Door, web: str, tagged: str) -> None:
    seen, address = [], f"{tagged}?n=3"
    while address:
        answer = await door.get(address)
        assert len(answer.json()["tags"]) <= 3
        seen += answer.json()["tags"]
        link = answer.headers.get("link", "")
        assert not link or link.endswith('>; rel="next"')
        address = link.partition(">")[0].removeprefix("<")
    assert seen == NAMES


async def test_a_last_page_that_is_full_has_no_link(door: Door, web: str, tagged: str) -> None:
    assert "link" not in (await door.get(f"{tagged}?n={len(NAMES)}")).headers


async def test_after_a_tag(door: Door, web: str, tagged: str) -> None:
    assert (await door.get(f"{tagged}?last=Z")).json()["tags"] == ["_x", "a", "z-1"]
    answer = await door.get(f"{tagged}?last=1.10&n=2")
    assert answer.json()["tags"] == ["1.9", "A"]
    assert answer.headers["link"] == f'<{tagged}?last=A&n=2>; rel="next"'


async def test_after_a_tag_that_is_not_there(door: Door, web: str, tagged: str) -> None:
    """It may have been deleted between two pages."""
    assert (await door.get(f"{tagged}?last=B")).json()["tags"] == ["Z", "_x", "a", "z-1"]
    assert (await door.get(f"{tagged}?last=zzz")).json() == {"name": web, "tags": []}


async def test_after_what_no_tag_is_called(door: Door, web: str, tagged: str) -> None:
    for last in ["%00", "%FF", "%E4%BD%A0", "a%0d%0ab", "'%3B--", "x" * 5000]:
        answer = await door.get(f"{tagged}?last={last}")
        assert answer.status_code == 200, last
        assert set(answer.json()["tags"]) <= set(NAMES), last


async def test_none_at_all(door: Door, web: str, tagged: str) -> None:
    answer = await door.get(f"{tagged}?n=0")
    assert (answer.status_code, answer.json()["tags"]) == (200, [])
    assert "link" not in answer.headers


async def test_more_than_there_are(door: Door, web: str, tagged: str) -> None:
    assert (await door.get(f"{tagged}?n=99999999999999999999")).json()["tags"] == NAMES


async def test_a_number_that_is_none_is_400(door: Door, web: str, tagged: str) -> None:
    for n in ["-1", "abc", "1.5", "", "%00", "٣", "1%20", "0x10", "+1"]:
        answer = await door.get(f"{tagged}?n={n}")
        assert (answer.status_code, refusal(answer)["code"]) == (400, "PAGINATION_NUMBER_INVALID"), n


async def test_a_repository_without_tags(door: Door, web: str) -> None:
    await door.push_blob(web, b"x")
    assert (await door.get(f"/v2/{web}/tags/list")).json() == {"name": web, "tags": []}


async def test_a_repository_that_is_not_there_is_404(door: Door, web: str) -> None:
    answer = await door.get(f"/v2/{web}/tags/list")
    assert (answer.status_code, refusal(answer)["code"]) == (404, "NAME_UNKNOWN")


async def test_a_prefix_of_another_name_is_a_name(door: Door, web: str) -> None:
    """Repositories `a`, `a/b` and `ab`, tags `1` and `1.0`."""
    for name in (web, f"{web}/b", f"{web}b"):
        for tag in ("1", "1.0"):
            await door.push_image(name, tag, name.encode())
    for name in (web, f"{web}/b", f"{web}b"):
        assert (await door.get(f"/v2/{name}/tags/list")).json() == {"name": name, "tags": ["1", "1.0"]}


@pytest.mark.parametrize("tag", ["x" * 128, "_", "0", "A.b-C_d", "latest", f"sha256-{'0' * 64}", "index.json"])
async def test_what_a_tag_may_be_called(door: Door, web: str, tag: str) -> None:
    image = await door.push_image(web, tag, b"a layer")
    assert (await door.get(f"/v2/{web}/manifests/{tag}")).content == image


ODD_TAGS = ("x" * 129, ".a", "-a", "a%20b", "a@b", "a%0a", "%00", "a%2Fb", "%C3%A4", "a%5Cb", "~")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_a_tag_may_not_be_called(door: Door, web: str, method: str) -> None:
    await door.push_blob(web, b"{}")
    body = index_of() if method == "PUT" else b""
    for tag in ODD_TAGS:
        answer = await door.request(method, f"/v2/{web}/manifests/{tag}", content=body)
        assert (answer.status_code, refusal(answer)["code"]) == (400, "TAG_INVALID"), tag
    assert (await door.get(f"/v2/{web}/tags/list")).json()["tags"] == []
