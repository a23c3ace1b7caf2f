"""Registry tokens: short JWTs, signed with Ed25519, that carry identity and ceiling and no right at all.

Claims: iss, aud, sub (user id, or `anonymous`), name, acc (account), gen (the user's generation), cid and lvl (the
credential and its level, if one was used), access (what was asked for, as in the docker token protocol), iat, nbf,
exp, jti. What the bearer may do is read anew with every request, so a revoked permission or credential is felt
although a token is still alive.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from policies.access import Level
from registry.actors import ANONYMOUS, Actor, ActorKind
from registry.errors import SignInFailed
from registry.identifiers import new_id
from registry.oci.scopes import Scope

ALGORITHM = "Ed25519"
REMEMBERED = 4096
LEEWAY = timedelta(seconds=5)


class TokenInvalid(SignInFailed):
    """Not one of ours, or altered: somebody tried to come in with it."""

    code = "TOKEN_INVALID"


class TokenExpired(TokenInvalid):
    """One of ours that is past its time. That is protocol and no failure: the client fetches another."""


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    issued_at: datetime
    seconds: int


class Tokens:
    """Issues and reads tokens of one installation. Verified ones are remembered until they expire."""

    def __init__(self, key: OKPKey, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self._known: OrderedDict[str, tuple[Actor, datetime]] = OrderedDict()

    def issue(self, actor: Actor, scopes: Sequence[Scope], now: datetime) -> Token:
        expires = now + self._lifetime
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(actor.user_id) if actor.user_id else "anonymous",
            "name": actor.name,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires.timestamp()),
            "jti": new_id().hex,
            "access": [{"type": s.type, "name": s.name, "actions": sorted(s.actions)} for s in scopes],
        }
        if actor.user_id:
            claims |= {"acc": str(actor.account_id), "gen": actor.generation}
        if actor.credential_id and actor.level:
            claims |= {"cid": str(actor.credential_id), "lvl": int(actor.level)}
        text = jwt.encode({"alg": ALGORITHM, "typ": "JWT"}, claims, self._key, algorithms=[ALGORITHM])
        return Token(text, now, int(self._lifetime.total_seconds()))

    def read(self, text: str, now: datetime) -> Actor:
        """Raises `TokenInvalid`, and `TokenExpired` only of what was ours."""
        known = self._known.get(text)
        if known is None:
            known = self._verify(text)
            self._known[text] = known
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        actor, expires = known
        if expires + LEEWAY <= now:
            self._known.pop(text, None)
            raise TokenExpired("The registry token has expired; sign in again.")
        return actor

    def _verify(self, text: str) -> tuple[Actor, datetime]:
        try:
            claims = jwt.decode(text, self._key, algorithms=[ALGORITHM]).claims
            if claims["iss"] != self._issuer or claims["aud"] != self._audience:
                raise ValueError("another installation's token")
            return _actor(claims), datetime.fromtimestamp(claims["exp"], UTC)
        except (JoseError, KeyError, ValueError, TypeError):
            raise TokenInvalid("The registry token is not one of this registry; sign in again.") from None


def _actor(claims: dict[str, Any]) -> Actor:
    scopes = tuple(Scope(s["type"], s["name"], frozenset(s["actions"])) for s in claims["access"])
    if claims["sub"] == "anonymous":
        return Actor(ActorKind.ANONYMOUS, ANONYMOUS.name, scopes=scopes)
    return Actor(
        ActorKind.USER,
        claims["name"],
        user_id=UUID(claims["sub"]),
        account_id=UUID(claims["acc"]),
        generation=claims["gen"],
        credential_id=UUID(claims["cid"]) if "cid" in claims else None,
        level=Level(claims["lvl"]) if "lvl" in claims else None,
        scopes=scopes,
    )
