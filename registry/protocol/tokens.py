"""The docker token protocol: GET with Basic or nothing, POST with a password or a refresh token (OAuth 2 form).

A token says who its bearer is and what it asked for. It grants nothing: rights are read when it is used, so asking
for more than one holds is not an error here, and the refusal that follows can say why.
"""

from collections.abc import Iterable
from urllib.parse import parse_qs

import orjson
from starlette.responses import Response

from registry.accounts import credentials, signing_in
from registry.actors import ANONYMOUS, Actor
from registry.errors import Invalid, SignInFailed
from registry.oci.scopes import Scope, format_scope, parse_scopes
from registry.protocol.calls import Call, storable

MOST_FORM_BYTES = 16 * 1024


class FormInvalid(Invalid):
    code = "FORM_INVALID"


async def get(call: Call) -> Response:
    scopes = _scopes(call.request.query_params.getlist("scope"))
    name, secret = await _offered(call)
    # An empty pair is how some clients say that they have none.
    actor = await _sign_in(call, name, secret) if name or secret else ANONYMOUS
    offline = call.query("offline_token") == "true"
    return await _answer(call, actor, scopes, offline=offline)


async def post(call: Call) -> Response:
    form = await _form(call)
    fields = {name: storable(values[0]) for name, values in form.items()}
    scopes = _scopes(form.get("scope", []))
    match fields.get("grant_type"):
        case "password":
            actor = await _sign_in(call, fields.get("username", ""), fields.get("password", ""))
        case "refresh_token":
            actor = await _sign_in(call, "", fields.get("refresh_token", ""))
        case _:
            raise FormInvalid("grant_type must be password or refresh_token.")
    offline = fields.get("access_type") == "offline"
    granted = " ".join(format_scope(scope) for scope in scopes)
    return await _answer(call, actor, scopes, offline=offline, granted=granted)


def _scopes(values: list[str]) -> list[Scope]:
    """Each once: a token is sent along with every request. Raises `ScopeInvalid`."""
    return list(dict.fromkeys(parse_scopes(values)))


async def _form(call: Call) -> dict[str, list[str]]:
    """The fields of an urlencoded body, bounded in size and number. Raises `FormInvalid`."""
    body = b""
    async for chunk in call.chunks():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            raise FormInvalid(f"A token request has at most {MOST_FORM_BYTES} bytes.")
    try:
        return parse_qs(body.decode(), max_num_fields=50)
    except ValueError:
        raise FormInvalid("The body must be an urlencoded form.") from None


async def _offered(call: Call) -> tuple[str, str]:
    """Name and secret of the header, both empty if there is none. What is neither is recorded as a sign-in that failed.
    Raises `SignInFailed`."""
    kind, _, value = call.request.headers.get("authorization", "").partition(" ")
    async with call.glance() as work:
        signing_in.announce(work)
        if kind.lower() == "basic":
            return signing_in.read_basic(value.strip())
        if kind:
            raise SignInFailed("A token is given for Basic credentials, or for none.")
    return "", ""


async def _sign_in(call: Call, name: str, secret: str) -> Actor:
    async with call.glance() as work:
        actor = await signing_in.sign_in(work, call.door.gate, name, secret)
        work.actor = actor
        event = work.record()
    await call.foundation.ledger.append(event)
    call.actor = actor
    return actor


async def _answer(
    call: Call, actor: Actor, scopes: Iterable[Scope], *, offline: bool, granted: str | None = None
) -> Response:
    token = call.door.tokens.issue(actor, list(scopes), call.foundation.clock.now())
    content = {
        "token": token.text,
        "access_token": token.text,
        "expires_in": token.seconds,
        "issued_at": token.issued_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if granted is not None:
        content["scope"] = granted
    if offline and not actor.anonymous:
        content["refresh_token"] = await _offline_token(call)
    return Response(orjson.dumps(content), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def _offline_token(call: Call) -> str:
    client = call.request.headers.get("user-agent", "a client")
    async with call.begin() as work:
        issued = await credentials.create_offline(work, call.door.gate.keys, client)
    return issued.secret
