"""Registry tokens: what is not signed by this installation for this installation is nobody's."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OKPKey

from policies.access import Level
from registry.accounts.tokens import ALGORITHM, LEEWAY, TokenInvalid, Tokens
from registry.actors import ANONYMOUS, Actor, ActorKind
from registry.identifiers import new_id
from registry.oci.scopes import Scope

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIFE = timedelta(minutes=5)
KEY = OKPKey.generate_key("Ed25519")
HULL = Scope("repository", "ships/hull", frozenset({"pull", "push"}))
ADA = Actor(
    ActorKind.USER,
    "ada",
    user_id=new_id(),
    account_id=new_id(),
    generation=3,
    credential_id=new_id(),
    level=Level.WRITE,
    scopes=(HULL,),
)


def tokens(key: OKPKey = KEY, issuer: str = "https://here", audience: str = "here") -> Tokens:
    return Tokens(key, issuer, audience, LIFE)


def issued(actor: Actor = ADA) -> str:
    return tokens().issue(actor, [HULL], NOW).text


ONE = issued()


def claims_of(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


def refused(token: str, now: datetime = NOW) -> bool:
    try:
        tokens().read(token, now)
    except TokenInvalid:
        return True
    return False


def test_who_it_was_issued_to_comes_back_whole() -> None:
    assert tokens().read(issued(), NOW) == ADA


def test_nobody_comes_back_as_nobody() -> None:
    found = tokens().read(issued(ANONYMOUS), NOW)
    assert found.anonymous
    assert found.scopes == (HULL,)


def test_it_carries_no_right_and_no_secret() -> None:
    assert set(claims_of(issued())) == {
        "iss", "aud", "sub", "name", "acc", "gen", "cid", "lvl", "access", "iat", "nbf", "exp", "jti",
    }  # fmt: skip


def test_it_ends() -> None:
    token = issued()
    assert not refused(token, NOW + LIFE)
    assert refused(token, NOW + LIFE + LEEWAY)


def test_one_that_was_read_before_ends_too() -> None:
    ours, token = tokens(), issued()
    ours.read(token, NOW)
    with pytest.raises(TokenInvalid):
        ours.read(token, NOW + LIFE + LEEWAY)


@pytest.mark.parametrize("other", [tokens(OKPKey.generate_key("Ed25519")), tokens(issuer="https://there"),
                                   tokens(audience="there")], ids=["key", "issuer", "audience"])  # fmt: skip
def test_another_installations_is_refused(other: Tokens) -> None:
    assert refused(other.issue(ADA, [HULL], NOW).text)


def test_one_without_a_signature_is_refused() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    _, body, signature = issued().split(".")
    assert refused(f"{head}.{body}.")
    assert refused(f"{head}.{body}.{signature}")


def test_one_signed_with_the_public_key_as_a_password_is_refused() -> None:
    """The mistake of libraries that let the token choose how it is verified."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    said = f"{head}.{issued().split('.')[1]}"
    digest = hmac.digest(bytes(KEY.as_pem(private=False)), said.encode(), "sha256")
    assert refused(f"{said}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")


@given(st.data())
def test_one_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ONE) - 2))  # of the last character some bits say nothing
    other = data.draw(st.characters(codec="ascii", exclude_characters=ONE[at]))
    assert refused(ONE[:at] + other + ONE[at + 1 :])


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "access", "name", "acc", "gen"])
def test_one_that_lacks_a_claim_is_refused(missing: str) -> None:
    claims = {name: value for name, value in claims_of(issued()).items() if name != missing}
    assert refused(jwt.encode({"alg": ALGORITHM}, claims, KEY, algorithms=[ALGORITHM]))


@given(st.text(max_size=200))
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text)
