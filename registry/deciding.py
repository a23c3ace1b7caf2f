"""The verdict on one act at one place, and the words of a refusal. Pure: all facts stand in the place.

Order matters: who may not see a thing hears that it does not exist, in the very words used when it does not; only
who may see it is told what is missing. Ceilings come last, so that they can only take away.
"""

from policies.access import Law, Level, Verdict
from registry.actors import Actor
from registry.errors import Denied, NotFound, Refusal, SignInFailed, SignInNeeded, Unauthenticated, Unavailable
from registry.events import Grounds
from registry.places import PLATFORM, Place

# What a registry token must have asked for. Acts that are not listed need no scope of their own.
SCOPE_OF = {
    "view": "pull",
    "pull": "pull",
    "push": "push",
    "create_repository": "push",
    "delete_tag": "delete",
}

# What is said to whom may not, in a person's words.
WORDS = {
    "view": "Seeing",
    "pull": "Pulling from",
    "push": "Pushing to",
    "update": "Changing",
    "publish": "Changing who can see",
    "delete": "Deleting",
    "delete_tag": "Deleting from",
    "grant": "Reading or changing the permissions on",
    "share": "Reading or changing the shares of",
    "create_repository": "Creating a repository in",
    "create_organization": "Creating an organization in",
    "create_user": "Creating a user in",
    "manage_users": "Managing users and credentials of",
    "view_audit": "Reading the audit log of",
    "view_quota": "Reading the quotas of",
    "request_quota": "Asking for another limit of",
    "administer": "Administering",
}


class PlaceNotFound(NotFound):
    """Absent or hidden. `truth` says which."""


class ScopeMissing(Unauthenticated):
    """The registry token was not issued for this; the client should fetch one that is. `detail` holds the scope."""

    code = "INSUFFICIENT_SCOPE"


class LimitedByToken(Denied):
    """The user may, but the credential used is limited to less."""

    code = "LIMITED_BY_TOKEN"


class Suspended(Denied):
    code = "ACCOUNT_SUSPENDED"


class ShareEnded(Denied):
    code = "SHARE_ENDED"


class HeldUp(Unavailable):
    """Not now, and because of what was done before: it keeps somebody from something, so it is a denial."""


def decide(law: Law, actor: Actor, act: str, place: Place) -> Verdict:
    """The verdict that allows it, or raises the refusal that its reader can act on."""
    verdict = law.decide(place.roles, place.kind, act) if place.exists else None
    if verdict is None or not verdict.allowed:
        raise _refusal(law, act, place)
    if not actor.scope_covers(place.name, SCOPE_OF.get(act, "*")) and place.kind == "repository":
        raise ScopeMissing(
            f"The token used was not issued for this act on {place.name}; sign in again.",
            scope=f"repository:{place.name}:{SCOPE_OF.get(act, '*')}",
        )
    if actor.ceiling is not None and not law.decide(actor.ceiling, place.kind, act).allowed:
        raise LimitedByToken(
            f"{WORDS[act]} {describe(place)} was refused: the token used is limited to {_name(actor.level)}. "
            "Use a token of a higher level.",
            level=_name(actor.level),
        )
    return verdict


def grounds(law: Law, actor: Actor, act: str, place: Place) -> Grounds:
    """What a refusal rests on, for the log, which may know more than the one who is refused. A token's ceiling is what
    is held where that is the lower."""
    verdict = law.decide(place.roles, place.kind, act)
    limited = verdict.allowed and actor.ceiling is not None and actor.level is not None
    held, needed = actor.level if limited else place.level, law.needed(place.kind, act)
    return Grounds(verdict.text, _name(held), None if needed is None else _name(needed), law.revision)


def allows(law: Law, actor: Actor, act: str, place: Place) -> bool:
    try:
        decide(law, actor, act, place)
    except Refusal:
        return False
    return True


def is_denial(refusal: Refusal) -> bool:
    """Whether somebody was kept from something, as against a request that was wrong or in vain."""
    hidden = isinstance(refusal, NotFound) and refusal.truth == HIDDEN
    return hidden or isinstance(refusal, Denied | Unauthenticated | HeldUp)


def is_recorded(actor: Actor, refusal: Refusal) -> bool:
    """What is protocol is no refusal: a token to be fetched anew, a first request without credentials, "not now".

    A change that somebody must sign in for is none: nobody learns from its refusal where to sign in.
    """
    if isinstance(refusal, SignInFailed | SignInNeeded | HeldUp):
        return True
    unasked = actor.anonymous and actor.scopes is None
    return not unasked and not isinstance(refusal, ScopeMissing | Unavailable)


HIDDEN = "exists, but the actor may not see it"
ABSENT = "does not exist"


def describe(place: Place) -> str:
    return f"{place.kind} '{place.name}'" if place.kind != "platform" else "the platform"


def not_found(place: Place) -> PlaceNotFound:
    """The one sentence for what is absent and what is hidden."""
    truth = HIDDEN if place.exists else ABSENT
    ways = "Check the name, or ask a manager for a permission."
    if place.kind == "organization":
        ways = "Check the name, ask a manager for a permission, or create the organization first: a push never does."
    return PlaceNotFound(
        f"There is no {describe(place)} that you can see. {ways}",
        truth=truth,
        kind=place.kind,
    )


def _refusal(law: Law, act: str, place: Place) -> Refusal:
    if place.share_ended is not None and not law.decide(place.roles, place.kind, "view").allowed:
        ended = place.share_ended.strftime("%Y-%m-%d %H:%M:%S UTC")
        return ShareEnded(
            f"Pulling from {describe(place)} was refused: its share with your account ended on {ended}. "
            "Ask its owner to share it again.",
            ended_at=ended,
        )
    # The platform is no secret: everybody stands on it.
    if place.kind != PLATFORM and not (place.exists and law.decide(place.roles, place.kind, "view").allowed):
        return not_found(place)
    if law.decide(place.roles, place.kind, act).frozen:
        return Suspended(
            f"{WORDS[act]} {describe(place)} was refused: the account is suspended, so nothing may grow or change. "
            "What it holds can still be seen, pulled and deleted. Ask the platform administrator.",
        )
    return _too_little(law, act, place)


def _too_little(law: Law, act: str, place: Place) -> Denied:
    needed, held = law.needed(place.kind, act), place.level
    if needed is None:
        who = {"platform": "a platform administrator", "account": "the owner of the account"}.get(place.kind)
        return Denied(f"{WORDS[act]} {describe(place)} was refused: only {who or 'its owner'} may do that.")
    holding = f"you hold {_name(held)}" if held else "you hold no permission"
    organization = place.name.partition("/")[0]
    return Denied(
        f"{WORDS[act]} {describe(place)} was refused: {holding} in organization '{organization}' and need "
        f"{_name(needed)}. A manager of organization '{organization}' or the owner of its account can grant it.",
        held=_name(held),
        needed=_name(needed),
        organization=organization,
    )


def _name(level: Level | None) -> str:
    return level.name if level else "NONE"
