"""Who is calling, by the Authorization header, and the challenge for those who should say so.

The challenge's realm comes from the settings alone, never from what a request claims to have been sent to.
"""

from starlette.requests import Request

from registry.accounts import signing_in
from registry.accounts.credentials import looks_like_secret
from registry.accounts.tokens import TokenExpired, TokenInvalid
from registry.actors import ANONYMOUS, Actor, Origin
from registry.deciding import ScopeMissing
from registry.errors import Refusal, Unauthenticated
from registry.oci.errors import NameInvalid
from registry.oci.reference import check_repository_path
from registry.protocol.calls import Door
from registry.settings import Settings

ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
# A push begins by asking which blobs are here, and some clients keep their first token for all that follows. Asking
# for more is harmless: a token grants nothing by itself.
FIRST_OF_A_PUSH = "pull,push"


async def authenticate(door: Door, request: Request, origin: Origin) -> Actor:
    """Raises `Unauthenticated`, `TooManySignIns`."""
    header = request.headers.get("authorization", "")
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer" and not looks_like_secret(value.strip()):
        return await _bearer(door, value.strip(), origin)
    async with door.foundation.glance(ANONYMOUS, origin) as work:
        return await signing_in.by_header(work, door.gate, header)


async def _bearer(door: Door, token: str, origin: Origin) -> Actor:
    """The actor of a registry token. One that is not ours is recorded: signing in failed. Raises `TokenInvalid`."""
    try:
        return door.tokens.read(token, door.foundation.clock.now())
    except TokenExpired:
        raise
    except TokenInvalid as refusal:
        async with door.foundation.glance(ANONYMOUS, origin) as work:
            signing_in.announce(work)
            raise refusal


def challenge(settings: Settings, refusal: Refusal, request: Request, name: str) -> dict[str, str]:
    """The WWW-Authenticate header of a 401 (docker token protocol; RFC 6750, 3). All values are quoted.

    It goes with a 403 too: there are clients that show a refusal's text only if they were told where to sign in.
    """
    parts = [f'Bearer realm="{settings.address}/token"', f'service="{settings.registry_host}"']
    if name:
        scopes = [f"repository:{name}:{_actions(request)}", *_of_source(request, refusal, name)]
        parts.append(f'scope="{" ".join(scopes)}"')
    elif request.url.path == "/v2/_catalog":
        parts.append('scope="registry:catalog:*"')
    if isinstance(refusal, ScopeMissing):
        parts.append('error="insufficient_scope"')
    elif isinstance(refusal, Unauthenticated) and request.headers.get("authorization"):
        parts.append('error="invalid_token"')
    return {"WWW-Authenticate": ",".join(parts)}


def _of_source(request: Request, refusal: Refusal, name: str) -> list[str]:
    """What a mount needs besides: to pull from where the blob is, be that said or found out."""
    if isinstance(refusal, ScopeMissing):
        needed = str(refusal.detail["scope"])
        return [] if needed.startswith(f"repository:{name}:") else [needed]
    source = request.query_params.get("from", "")
    if "mount" not in request.query_params or not _is_name(source):
        return []
    return [f"repository:{source}:pull"]


def _is_name(text: str) -> bool:
    try:
        check_repository_path(text)
    except NameInvalid:
        return False
    return True


def _actions(request: Request) -> str:
    if "/blobs/uploads" in request.url.path:
        return "pull,push"
    if request.method == "HEAD" and "/blobs/" in request.url.path:
        return FIRST_OF_A_PUSH
    return ACTIONS.get(request.method, "pull,push")
