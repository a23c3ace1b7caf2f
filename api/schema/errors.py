"""Refusals as data. What a person can act on stands in a payload's `errors`; the rest is a top-level error.

`UserError` is an interface, so that clients which select its fields go on working when a more telling kind appears.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import strawberry

from api.schema.context import Info
from api.schema.reasons import Change
from api.schema.scalars import BigInt
from registry.audit.reasons import stated
from registry.errors import Conflict, Denied, Invalid, NotFound, QuotaExceeded, Refusal, Unauthenticated
from registry.work import Work

Result = TypeVar("Result")


@strawberry.interface(description="Why a mutation was refused, and what to do now.")
class UserError:
    message: str = strawberry.field(description="A sentence for the person who asked.")
    code: str = strawberry.field(description="A stable code; all are listed in the reference of errors.")
    path: list[str] | None = strawberry.field(description="The input field that is wrong; null if it is none.")
    request_id: str = strawberry.field(description="The request, by which the audit log is asked for its entry.")


@strawberry.type(description="The input is wrong.")
class ValidationError(UserError):
    pass


@strawberry.type(description="Right in itself, but something that exists stands in the way.")
class ConflictError(UserError):
    pass


@strawberry.type(description="It does not exist, or not for you.")
class NotFoundError(UserError):
    pass


@strawberry.type(description="You may not do this.")
class PermissionDeniedError(UserError):
    held: str | None = strawberry.field(description="The level you hold there; null if levels do not matter.")
    needed: str | None = strawberry.field(description="The level it takes; null if no level is enough.")


@strawberry.type(description="There is no room for this.")
class QuotaExceededError(UserError):
    key: str = strawberry.field(description="The quota that is full.")
    scope: str = strawberry.field(description="Where it is full: an account, organization or repository.")
    limit: BigInt = strawberry.field(description="The limit, in the quota's unit.")
    used: BigInt = strawberry.field(description="What is used, in the quota's unit.")
    held: BigInt = strawberry.field(description="What is on its way and counts besides, in the quota's unit.")
    requested: BigInt = strawberry.field(description="What this would have added, in the quota's unit.")


@strawberry.type(description="Not now: try again later.")
class UnavailableError(UserError):
    pass


ERRORS = (
    ValidationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnavailableError,
)


async def changing(
    info: Info, change: Change, act: Callable[[Work], Awaitable[Result]]
) -> tuple[Result | None, list[UserError]]:
    """Runs one change in a transaction of its own; afterwards the operation reads what has become of it."""
    try:
        async with info.context.begin() as work:
            work.stated = stated(change.reason)
            result = await act(work)
    except Unauthenticated:
        raise  # nothing that could be mended in the input
    except Refusal as refusal:
        return None, [shown(refusal, info.context.origin.request_id)]
    finally:
        await info.context.refresh()
    return result, []


def shown(refusal: Refusal, request_id: str) -> UserError:
    common: dict[str, Any] = {
        "message": refusal.message,
        "code": refusal.code,
        "path": refusal.detail.get("path"),
        "request_id": request_id,
    }
    detail = refusal.detail
    match refusal:
        case QuotaExceeded():
            numbers = {name: detail[name] for name in ("key", "scope", "limit", "used", "held", "requested")}
            return QuotaExceededError(**common, **numbers)
        case Denied():
            return PermissionDeniedError(**common, held=detail.get("held"), needed=detail.get("needed"))
        case NotFound():
            return NotFoundError(**common)
        case Conflict():
            return ConflictError(**common)
        case Invalid():
            return ValidationError(**common)
    return UnavailableError(**common)
