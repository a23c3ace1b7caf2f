"""What is counted, at which scopes, when a limit warns, and what a full quota says.

A key is charged at each of its scopes, leaf to root, and the tightest decides. `order` is also the order of row locks,
so two changes never wait for each other in a circle.
"""

from datetime import UTC, datetime
from enum import StrEnum


class Key(StrEnum):
    ORGANIZATIONS = "ORGANIZATIONS"
    USERS = "USERS"
    ACCESS_TOKENS = "ACCESS_TOKENS"
    SHARES = "SHARES"
    TRIGGERS = "TRIGGERS"
    REPOSITORIES = "REPOSITORIES"
    TAGS = "TAGS"
    STORAGE_BYTES = "STORAGE_BYTES"
    EGRESS_BYTES = "EGRESS_BYTES"
    PULLS = "PULLS"


SCOPES: dict[Key, tuple[str, ...]] = {
    Key.ORGANIZATIONS: ("account",),
    Key.USERS: ("account",),
    Key.ACCESS_TOKENS: ("account",),
    Key.SHARES: ("account",),
    Key.TRIGGERS: ("account",),
    Key.REPOSITORIES: ("organization", "account"),
    Key.TAGS: ("repository", "organization"),
    Key.STORAGE_BYTES: ("repository", "organization", "account"),
    Key.EGRESS_BYTES: ("organization",),
    Key.PULLS: ("organization",),
}
HOME = {key: scopes[-2] if key is Key.STORAGE_BYTES else scopes[0] for key, scopes in SCOPES.items()}
"""The scope at which a default from the settings holds; the others are unlimited until somebody sets a limit."""
MONTHLY = frozenset({Key.EGRESS_BYTES, Key.PULLS})
"""Traffic: counted by the calendar month, in UTC."""
BYTES = frozenset({Key.STORAGE_BYTES, Key.EGRESS_BYTES})
UNITS = {key: "bytes" if key in BYTES else key.lower().replace("_", " ") for key in Key}
NOUNS = {
    Key.ORGANIZATIONS: "Organization",
    Key.USERS: "User",
    Key.ACCESS_TOKENS: "Access token",
    Key.SHARES: "Share",
    Key.TRIGGERS: "Trigger",
    Key.REPOSITORIES: "Repository",
    Key.TAGS: "Tag",
    Key.STORAGE_BYTES: "Storage",
    Key.EGRESS_BYTES: "Download",
    Key.PULLS: "Pull",
}
STEPS = (80, 90, 100)
"""Per cent of a limit at which its owner is told, once until the counter was `REARM` below."""
REARM = 5
KIBIBYTE, MEBIBYTE, GIBIBYTE = 1024, 1024**2, 1024**3
FIRST_WINDOW, LARGEST_WINDOW = 16 * MEBIBYTE, 256 * MEBIBYTE
FIRST_LEASE = {Key.EGRESS_BYTES: 16 * MEBIBYTE, Key.PULLS: 64}
LARGEST_LEASE = {Key.EGRESS_BYTES: 4 * GIBIBYTE, Key.PULLS: 4096}
LEASE_SHARE = 100
"""A server takes no more than this part of what is left of a month ahead of what it needs now."""
WINDOW_SHARE = 64
"""An upload of unknown length holds no more than this part of what is left beyond what it needs now: hundreds side by
side must not fail for room that others hold and will not use."""


def order(key: Key, kind: str) -> tuple[int, str]:
    """Repositories before organizations before accounts: the busiest counter is locked last."""
    return ("repository", "organization", "account").index(kind), key.value


def period_of(key: Key, at: datetime) -> str:
    """`2026-11` for what is counted by the month; else empty."""
    return f"{at.astimezone(UTC):%Y-%m}" if key in MONTHLY else ""


def next_month(at: datetime) -> datetime:
    """When the traffic of a month begins anew."""
    at = at.astimezone(UTC)
    return datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)


def has_room(charged: int, amount: int, limit: int | None) -> bool:
    """The rule the database enforces: giving back is always allowed, growth only up to the limit."""
    return amount <= 0 or limit is None or charged + amount <= limit


def next_window(held: int) -> int:
    """How many bytes an upload that does not say its length wants to hold next: it doubles what is held already, so
    that a long upload asks rarely and a short one holds little."""
    return min(max(FIRST_WINDOW, held), LARGEST_WINDOW)


def next_lease(key: Key, before: int) -> int:
    """How much of a month's traffic a server wants to let through next without asking; it doubles, as it is used."""
    return min(max(FIRST_LEASE[key], 2 * before), LARGEST_LEASE[key])


def level(charged: int, limit: int | None) -> int:
    """The highest of `STEPS` that is reached, or 0."""
    if limit is None or charged <= 0:
        return 0
    return max((step for step in STEPS if charged * 100 >= limit * step), default=0)


def standing(told: int, charged: int, limit: int | None) -> int:
    """The step that counts as told after a counter has moved, where `told` was before."""
    if limit is None:
        return 0
    kept = (step for step in STEPS if step <= told and charged * 100 >= limit * (step - REARM))
    return max(level(charged, limit), max(kept, default=0))


def soft_standing(told: bool, charged: int, soft: int | None) -> bool:
    """Whether a soft limit counts as told after a counter has moved."""
    if soft is None:
        return False
    return charged >= soft or (told and charged * 100 >= soft * (100 - REARM))


def exceeded(key: Key, scope: str, limit: int, used: int, held: int, requested: int) -> str:
    """The sentence that a person reads; it begins with the cause, since a bare 403 reads like a login problem."""
    way = f", held by what is on its way {quantity(key, held)}" if held else ""
    hint = (
        "It begins anew with the next month"
        if key in MONTHLY
        else "Wait for what is on its way, or delete what is no longer needed"
        if held
        else "Delete what is no longer needed"
    )
    return (
        f"{NOUNS[key]} quota of {scope} exceeded: limit {quantity(key, limit)}, used {quantity(key, used)}{way}, "
        f"requested {quantity(key, requested)}. {hint}, or ask the platform administrator for a higher limit."
    )


def quantity(key: Key, amount: int) -> str:
    """`10485760 bytes (10.0 MiB)`: the exact number, and one that can be read."""
    if key not in BYTES or abs(amount) < KIBIBYTE:
        return f"{amount} {UNITS[key]}"
    value, units = float(amount), iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = ""
    while abs(value) >= KIBIBYTE and (following := next(units, None)):
        value, unit = value / KIBIBYTE, following
    return f"{amount} bytes ({value:.1f} {unit})"
