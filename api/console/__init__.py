"""The pages that a browser gets: for now GraphiQL, to try out the GraphQL door by hand.

All of it is package data and comes from this server: what others wrote lies in `vendor/` with its licences,
byte for byte as published, and `vendor.json` says from which package and with which SHA-256. Its file names
carry versions, so browsers may keep it for good. The pages load no script but from here, and nothing at all
from elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

HOME = files(__name__)
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html", "txt": "text/plain"}
FOR_GOOD = "public, max-age=31536000, immutable"

# Styles are allowed inline since the editors in the page place their lines with them.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
GUARDS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def console_routes() -> list[BaseRoute]:
    """What the pages load, below `/console/`. Open to all: it holds nothing but published code."""
    return [
        Route("/console/graphiql.js", _script, methods=["GET"]),
        Route("/console/vendor/{name}", _vendored, methods=["GET"]),
    ]


def graphiql_page() -> Response:
    """GraphiQL for the GraphQL door at the address where this page is served."""
    return _response("graphiql.html", {"Cache-Control": "no-store"})


async def _script(request: Request) -> Response:
    text = _content("graphiql.js")
    tag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return _response("graphiql.js", headers)


async def _vendored(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _vendored_names():
        raise HTTPException(404)
    return _response(f"vendor/{name}", {"Cache-Control": FOR_GOOD})


def _response(name: str, headers: Mapping[str, str]) -> Response:
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(_content(name), media_type=media_type, headers={**GUARDS, **headers})


@cache
def _content(name: str) -> bytes:
    return HOME.joinpath(name).read_bytes()


@cache
def _vendored_names() -> frozenset[str]:
    """Only what is listed is served: a name from the address never reaches the file system."""
    return frozenset(entry["file"] for entry in json.loads(_content("vendor/vendor.json")))
