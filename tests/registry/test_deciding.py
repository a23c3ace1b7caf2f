"""What a refusal says: to whoever may see a thing what is missing, to all others that there is no such thing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.access import Law, Level
from registry import deciding
from registry.actors import ANONYMOUS, Actor, ActorKind
from registry.deciding import LimitedByToken, PlaceNotFound, ScopeMissing, ShareEnded, Suspended
from registry.errors import Denied, QuotaExceeded, Refusal, SignInFailed, Unavailable
from registry.identifiers import new_id
from registry.oci.scopes import Scope
from registry.places import Held, Place

LAW = Law.load()
ADA = Actor(ActorKind.USER, "ada", user_id=new_id(), account_id=new_id())
ROLES = sorted(LAW.roles | {"account.member"})
ACTS = sorted({(kind, act) for _, kind, act, _ in LAW.rules})


def place(*roles: str, kind: str = "repository", exists: bool = True, ended: datetime | None = None) -> Place:
    name = {"repository": "ships/hull", "organization": "ships", "account": "yard"}.get(kind, kind)
    held = tuple(Held(role, "a test says so") for role in roles)
    return Place(kind, name, exists, new_id(), new_id(), new_id(), held, ended)


def refusal_of(act: str, where: Place, actor: Actor = ADA) -> Refusal:
    with pytest.raises(Refusal) as caught:
        deciding.decide(LAW, actor, act, where)
    return caught.value


def bearer(level: Level | None = None, *scopes: Scope) -> Actor:
    return Actor(ActorKind.USER, "ada", user_id=new_id(), level=level, scopes=scopes or None)


def test_who_sees_it_hears_what_is_held_what_is_needed_and_who_can_grant_it() -> None:
    refusal = refusal_of("push", place("repository.read"))
    assert type(refusal) is Denied
    assert refusal.message == (
        "Pushing to repository 'ships/hull' was refused: you hold READ in organization 'ships' and need WRITE. "
        "A manager of organization 'ships' or the owner of its account can grant it."
    )
    assert refusal.detail == {"held": "READ", "needed": "WRITE", "organization": "ships"}


def test_the_highest_of_several_levels_is_named() -> None:
    assert refusal_of("delete", place("organization.read", "repository.write")).detail["held"] == "WRITE"


def test_who_holds_no_level_hears_so() -> None:
    refusal = refusal_of("push", place("repository.public"))
    assert "you hold no permission" in refusal.message
    assert (refusal.detail["held"], refusal.detail["needed"]) == ("NONE", "WRITE")


@pytest.mark.parametrize(("kind", "act", "who"), [
    ("platform", "administer", "only a platform administrator"),
    ("account", "create_user", "only the owner of the account"),
])  # fmt: skip
def test_where_no_level_is_enough_the_one_who_may_is_named(kind: str, act: str, who: str) -> None:
    assert who in refusal_of(act, place("account.member", kind=kind)).message


@pytest.mark.parametrize(("kind", "act"), ACTS)
def test_what_is_hidden_and_what_is_absent_read_alike(kind: str, act: str) -> None:
    """To the letter, and only the log hears which it was."""
    hidden, absent = refusal_of(act, place(kind=kind)), refusal_of(act, place(kind=kind, exists=False))
    if kind == "platform":  # which everybody stands on
        assert type(hidden) is Denied
        return
    assert type(hidden) is type(absent) is PlaceNotFound
    assert (hidden.message, hidden.code, hidden.detail) == (absent.message, absent.code, absent.detail)
    assert hidden.truth != absent.truth
    assert deciding.is_denial(hidden)
    assert not deciding.is_denial(absent)


@given(st.frozensets(st.sampled_from(ROLES)), st.sampled_from(ACTS))
def test_nothing_is_done_where_nothing_is(roles: frozenset[str], asked: tuple[str, str]) -> None:
    kind, act = asked
    assert not deciding.allows(LAW, ADA, act, place(*roles, kind=kind, exists=False))


def test_an_ended_share_says_when_it_ended() -> None:
    refusal = refusal_of("pull", place(ended=datetime(2026, 5, 1, 12, tzinfo=UTC)))
    assert isinstance(refusal, ShareEnded)
    assert "2026-05-01 12:00:00 UTC" in refusal.message


def test_an_ended_share_is_no_matter_to_who_sees_it_anyway() -> None:
    refusal = refusal_of("push", place("repository.public", ended=datetime(2026, 5, 1, tzinfo=UTC)))
    assert type(refusal) is Denied


def test_a_suspended_account_is_named_as_the_reason() -> None:
    assert isinstance(refusal_of("push", place("repository.manage", "flag.suspended")), Suspended)


def test_who_could_not_do_it_anyway_is_not_told_of_the_suspension_alone() -> None:
    """Suspension is no secret to who sees the thing, and speaks first."""
    assert isinstance(refusal_of("push", place("repository.read", "flag.suspended")), Suspended)
    assert isinstance(refusal_of("push", place("flag.suspended")), PlaceNotFound)


@pytest.mark.parametrize(("scopes", "allowed"), [
    ([("repository", "ships/hull", {"pull"})], {"pull"}),
    ([("repository", "ships/hull", {"pull", "push"})], {"pull", "push"}),
    ([("repository", "ships/hull", {"*"})], {"pull", "push", "delete_tag", "delete"}),
    ([("repository", "ships/keel", {"*"})], set()),
    ([("repository", "ships", {"*"}), ("registry", "ships/hull", {"*"})], set()),
    ([("repository", "ships/keel", {"push"}), ("repository", "ships/hull", {"pull"})], {"pull"}),
])  # fmt: skip
def test_a_registry_token_is_good_for_what_it_was_asked_for(
    scopes: list[tuple[str, str, set[str]]], allowed: set[str]
) -> None:
    actor = bearer(None, *(Scope(kind, name, frozenset(actions)) for kind, name, actions in scopes))
    for act in ("pull", "push", "delete_tag", "delete"):
        if act in allowed:
            deciding.decide(LAW, actor, act, place("repository.manage"))
        else:
            refusal = refusal_of(act, place("repository.manage"), actor)
            assert isinstance(refusal, ScopeMissing)
            assert str(refusal.detail["scope"]).startswith("repository:ships/hull:")


def test_a_right_that_is_missing_is_told_before_a_scope_that_is() -> None:
    """Else the client would fetch one token after another."""
    assert isinstance(refusal_of("push", place(), bearer(None, Scope("repository", "x/y", frozenset()))), PlaceNotFound)


@given(st.frozensets(st.sampled_from(ROLES)), st.sampled_from(list(Level)), st.sampled_from(ACTS))
def test_a_limited_token_never_does_what_its_user_may_not(
    roles: frozenset[str], level: Level, asked: tuple[str, str]
) -> None:
    kind, act = asked
    where = place(*roles, kind=kind)
    if deciding.allows(LAW, bearer(level), act, where):
        assert deciding.allows(LAW, ADA, act, where)


@given(st.frozensets(st.sampled_from(ROLES)), st.sampled_from(ACTS))
def test_a_token_of_a_higher_level_does_all_that_one_of_a_lower_does(
    roles: frozenset[str], asked: tuple[str, str]
) -> None:
    kind, act = asked
    can = [deciding.allows(LAW, bearer(level), act, place(*roles, kind=kind)) for level in Level]
    assert can == sorted(can)


@pytest.mark.parametrize(("level", "act", "limited"), [
    (Level.READ, "pull", False),
    (Level.READ, "push", True),
    (Level.WRITE, "push", False),
    (Level.WRITE, "delete", True),
    (Level.MANAGE, "delete", False),
])  # fmt: skip
def test_a_token_keeps_to_its_level_also_in_the_hands_of_an_owner(level: Level, act: str, limited: bool) -> None:
    if not limited:
        deciding.decide(LAW, bearer(level), act, place("account.owner"))
        return
    refusal = refusal_of(act, place("account.owner"), bearer(level))
    assert isinstance(refusal, LimitedByToken)
    assert level.name in refusal.message


def test_every_act_of_the_law_has_words() -> None:
    assert {act for _, act in ACTS} == set(deciding.WORDS)


@pytest.mark.parametrize(("actor", "refusal", "recorded"), [
    (ADA, Denied("no"), True),
    (ADA, QuotaExceeded("full"), True),
    (ADA, ScopeMissing("another token"), False),
    (ADA, Unavailable("not now"), False),
    (ANONYMOUS, Denied("no"), False),
    (ANONYMOUS, SignInFailed("wrong"), True),
    (Actor(ActorKind.ANONYMOUS, "anonymous", scopes=()), Denied("no"), True),
])  # fmt: skip
def test_what_is_protocol_is_not_recorded(actor: Actor, refusal: Refusal, recorded: bool) -> None:
    assert deciding.is_recorded(actor, refusal) is recorded
