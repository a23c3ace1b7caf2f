"""What is counted, at which scopes, and what a full quota says.

A key is charged at each of its scopes, leaf to root, and the tightest decides. That order is also the order of row
locks, so two charges never wait for each other in a circle.
"""

from enum import StrEnum


class Key(StrEnum):
    ORGANIZATIONS = "ORGANIZATIONS"
    REPOSITORIES = "REPOSITORIES"
    TAGS = "TAGS"
    STORAGE_BYTES = "STORAGE_BYTES"


SCOPES: dict[Key, tuple[str, ...]] = {
    Key.ORGANIZATIONS: ("account",),
    Key.REPOSITORIES: ("organization", "account"),
    Key.TAGS: ("repository", "organization"),
    Key.STORAGE_BYTES: ("organization", "account"),
}
UNITS = {
    Key.ORGANIZATIONS: "organizations",
    Key.REPOSITORIES: "repositories",
    Key.TAGS: "tags",
    Key.STORAGE_BYTES: "bytes",
}
NOUNS = {
    Key.ORGANIZATIONS: "Organization",
    Key.REPOSITORIES: "Repository",
    Key.TAGS: "Tag",
    Key.STORAGE_BYTES: "Storage",
}
MEBIBYTE = 1024 * 1024
FIRST_WINDOW = 16 * MEBIBYTE
LARGEST_WINDOW = 256 * MEBIBYTE


def has_room(charged: int, amount: int, limit: int | None) -> bool:
    """The rule the database enforces: giving back is always allowed, growth only up to the limit."""
    return amount <= 0 or limit is None or charged + amount <= limit


def next_window(held: int, needed: int, left: int | None) -> int:
    """How many bytes to hold next for an upload that does not say its length; never less than are needed now.

    Doubles what is held already, so that a long upload asks rarely and a short one holds little. Takes no more than
    a quarter of what is left: uploads side by side must not fail for room that another holds and will not use.
    """
    wanted = min(max(FIRST_WINDOW, held), LARGEST_WINDOW)
    return max(needed, wanted if left is None else min(wanted, left // 4))


def exceeded(key: Key, scope: str, limit: int, used: int, requested: int) -> str:
    """The sentence that a person reads; it begins with the cause, since a bare 403 reads like a login problem."""
    return (
        f"{NOUNS[key]} quota of {scope} exceeded: limit {quantity(key, limit)}, used {quantity(key, used)}, "
        f"requested {quantity(key, requested)}. Delete what is no longer needed, or ask the platform administrator "
        "for a higher limit."
    )


def quantity(key: Key, amount: int) -> str:
    """`10485760 bytes (10.0 MiB)`: the exact number, and one that can be read."""
    if key is not Key.STORAGE_BYTES or abs(amount) < 1024:
        return f"{amount} {UNITS[key]}"
    value, units = float(amount), iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = ""
    while abs(value) >= 1024 and (following := next(units, None)):
        value, unit = value / 1024, following
    return f"{amount} bytes ({value:.1f} {unit})"
