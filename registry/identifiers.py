"""Names that nobody chooses: UUIDs in order of time, and the typed form in which the API shows them."""

import os
import time
from uuid import UUID

from registry.errors import Invalid


class IdentifierInvalid(Invalid):
    code = "INVALID_ID"


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562, 5.7): later ones sort after earlier ones, which keeps indexes compact."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds << 80) | (7 << 76) | ((random >> 68) << 64) | (2 << 62) | (random & ((1 << 62) - 1))
    return UUID(int=value)


def show_id(prefix: str, value: UUID) -> str:
    """`repo_0192…`: opaque to clients, readable in a log."""
    return f"{prefix}_{value.hex}"


def read_id(text: str) -> tuple[str, UUID]:
    """Prefix and UUID of a shown id. Raises `IdentifierInvalid`."""
    prefix, _, digits = text.rpartition("_")
    try:
        if len(digits) == 32 and prefix:
            return prefix, UUID(hex=digits)
    except ValueError:
        pass
    raise IdentifierInvalid("This id was not made by this server: it must look like 'repo_' and 32 hexadecimal digits.")
