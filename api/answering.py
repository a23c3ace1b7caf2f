"""How what happened to a GraphQL operation is told to its client, and what of it goes to our log.

    refusals                     their own code, message and detail values errors in the request        the
    engine's words and the code it came with: SYNTAX_ERROR, INVALID_QUERY, those of
                                 `api.schema.limits` and `api.schema.cost`; not logged, and at most five are
                                 told
    everything else              INTERNAL and the request's id; the log has the trace

An error that the engine found in the document names a place in it; one that a resolver made does not. That is
how a scalar that the client wrote badly is told from a result of ours that does not fit its type.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from starlette.requests import HTTPConnection
from strawberry.http import GraphQLHTTPResponse
from strawberry.types import ExecutionResult

from registry.accounts.throttling import TooManySignIns
from registry.errors import Denied, Refusal, Unauthenticated, Unavailable

MAX_REQUEST_ERRORS = 5
SUGGESTION = re.compile(r"\s*Did you mean .*", re.DOTALL)

log = structlog.get_logger("graphql")


class TurnedAway(Exception):
    """A request that no operation was run for, or whose operation did not come to an end."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **detail: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        self.detail = detail

    def answer(self, request_id: str) -> GraphQLHTTPResponse:
        error = {"message": self.message, "extensions": {**self.detail, "code": self.code, "requestId": request_id}}
        return {"errors": [error], "extensions": {"requestId": request_id}}


def id_of(request: HTTPConnection) -> str:
    """The id that the outer layers gave the request, or one made here; the same for the request's whole
    life."""
    state = request.scope.setdefault("state", {})
    given: str = state.setdefault("request_id", secrets.token_hex(8))
    return given


def answer_of(result: ExecutionResult, request_id: str) -> GraphQLHTTPResponse:
    """The answer to an operation. `data` is left out, and not null, if the operation was never begun."""
    errors = result.errors or []
    begun = result.data is not None or any(error.path for error in errors)
    answer: GraphQLHTTPResponse = {"data": result.data} if begun else {}
    extensions = dict(result.extensions or {})
    if errors:
        _log_unexpected(errors, request_id)
        answer["errors"] = [_told(error, request_id) for error in (errors if begun else errors[:MAX_REQUEST_ERRORS])]
        extensions["requestId"] = request_id
    if extensions:
        answer["extensions"] = extensions
    return answer


def refused(refusal: Refusal) -> TurnedAway:
    """A refusal that came before the operation could begin."""
    status, headers = 400, {}
    match refusal:
        case Unauthenticated():
            status, headers = 401, {"WWW-Authenticate": 'Basic realm="Tidewaiter", charset="UTF-8"'}
        case Denied():
            status = 403
        case Unavailable():
            status = 429 if isinstance(refusal, TooManySignIns) else 503
            headers = {"Retry-After": str(refusal.detail.get("retry_after", 1))}
    return TurnedAway(status, refusal.code, refusal.message, headers, **refusal.told)


def broken(error: Exception, request_id: str) -> TurnedAway:
    """A fault of ours outside of any resolver."""
    log.error("graphql request failed", request_id=request_id, exc_info=error)
    return TurnedAway(500, "INTERNAL", _apology(request_id))


def _told(error: GraphQLError, request_id: str) -> Mapping[str, Any]:
    told: dict[str, Any] = dict(error.formatted)
    cause = _cause(error)
    if isinstance(cause, Refusal):
        told |= {"message": cause.message, "extensions": {**cause.told, "code": cause.code}}
    elif _is_unexpected(error):
        told |= {"message": _apology(request_id), "extensions": {"code": "INTERNAL"}}
    else:
        code = "SYNTAX_ERROR" if isinstance(error, GraphQLSyntaxError) else "INVALID_QUERY"
        told["message"] = SUGGESTION.sub("", error.message)
        told["extensions"] = {"code": code, **(error.extensions or {})}
    told["extensions"] = {**told["extensions"], "requestId": request_id}
    return told


def _log_unexpected(errors: Sequence[GraphQLError], request_id: str) -> None:
    """One entry for a request: a list whose every row fails would else write a hundred traces that say the
    same."""
    unexpected = [error for error in errors if _is_unexpected(error)]
    if unexpected:
        first = unexpected[0]
        log.error(
            "graphql operation failed",
            request_id=request_id,
            path=first.path,
            failures=len(unexpected),
            exc_info=_cause(first) or first,
        )


def _is_unexpected(error: GraphQLError) -> bool:
    first, cause = _innermost(error), _cause(error)
    if isinstance(cause, Refusal) or "code" in (first.extensions or {}):
        return False
    if cause is not None:
        return error.path is not None or not error.locations
    return error.path is not None and not first.locations


def _innermost(error: GraphQLError) -> GraphQLError:
    """The error as it was raised, before the engine wrapped it to add the place where it came up."""
    while isinstance(error.original_error, GraphQLError):
        error = error.original_error
    return error


def _cause(error: GraphQLError) -> Exception | None:
    return _innermost(error).original_error


def _apology(request_id: str) -> str:
    return f"Something went wrong on our side. Tell your operator this request id: {request_id}"
