"""Who is asking, and how the door tells who may."""

from datetime import timedelta

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change, code_of
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Person

VIEWER = "{ viewer { user { id name isOwner isPlatformAdmin suspendedAt } account { name } tokenLevel } }"


async def test_everybody_is_who_they_are(tidewaiter: Server, cast: Cast) -> None:
    for role, person in cast.everybody.items():
        viewer = (await ask(tidewaiter, VIEWER, person))["viewer"]
        if role == "nobody":
            assert viewer is None
        else:
            assert viewer["user"]["name"] == person.name
            assert viewer["user"]["isOwner"] is (role in {"stranger", "owner", "admin"})
            assert viewer["user"]["isPlatformAdmin"] is (role == "admin")
            assert viewer["tokenLevel"] is None


async def test_who_cannot_sign_in_gets_no_answer(tidewaiter: Server, cast: Cast) -> None:
    for person in (Person(cast.reader.name, "wrong"), Person("no-such-user", "wrong")):
        async with knocking(tidewaiter, person) as door:
            answer = await door.post("/graphql", json={"query": VIEWER})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.json()["errors"][0]["extensions"]["code"] == "SIGN_IN_FAILED"
        assert "data" not in answer.json()


async def test_a_key_may_be_sent_as_bearer(tidewaiter: Server, cast: Cast) -> None:
    made = await change(tidewaiter, "createAccessKey", cast.reader, "secret", name="ci", level="READ")
    async with knocking(tidewaiter) as door:
        headers = {"Authorization": f"Bearer {made['secret']}"}
        answer = await door.post("/graphql", json={"query": VIEWER}, headers=headers)
        assert answer.json()["data"]["viewer"]["user"]["name"] == cast.reader.name
        assert answer.json()["data"]["viewer"]["tokenLevel"] == "READ"
        for wrong in ("Bearer tw_wrong", "Bearer x", "Basic !", "Basic YQ==", "Digest x"):
            answer = await door.post("/graphql", json={"query": VIEWER}, headers={"Authorization": wrong})
            assert answer.status_code == 401, wrong
            assert answer.json()["errors"][0]["extensions"]["code"] == "SIGN_IN_FAILED"


async def test_a_key_ends_with_its_time_its_user_and_its_password(tidewaiter: Server, cast: Cast) -> None:
    person = await world.user(cast.acme, "brief")
    until = (await world.now(cast.acme) + timedelta(minutes=1)).isoformat()
    brief = await change(tidewaiter, "createAccessKey", person, "secret", name="a", expiresAt=until)
    tidewaiter.advance(60)
    assert await code_of(tidewaiter, VIEWER, Person(person.name, brief["secret"])) == "SIGN_IN_ENDED"
    lasting = await change(tidewaiter, "createAccessKey", person, "secret", name="b")
    await change(tidewaiter, "suspendUser", cast.acme.owner, user=person.name)
    assert await code_of(tidewaiter, VIEWER, Person(person.name, lasting["secret"])) == "SIGN_IN_ENDED"


async def test_only_the_signed_in_change_anything_and_all_are_told_so_before_the_rest(tidewaiter: Server) -> None:
    document = 'mutation { createOrganization(input: {name: "UNHEARD OF"}) { errors { code } } }'
    assert await code_of(tidewaiter, document, NOBODY) == "SIGN_IN_NEEDED"
    answer = await ask(tidewaiter, document, ADMIN)
    assert answer["createOrganization"]["errors"] == [{"code": "NAME_INVALID"}]
