"""Which shape a database has, and which one this version needs.

Read from the migrations' text: every command asks, and what runs them takes long to load.
"""

import re
from functools import cache
from pathlib import Path

from registry.storage.database import Connection

VERSIONS = Path(__file__).with_name("migrations") / "versions"
REVISION = re.compile(r"""^revision = ["'](\w+)["']\ndown_revision = (?:None|["'](\w+)["'])$""", re.MULTILINE)


async def pending(connection: Connection) -> str | None:
    """The sentence that says the database is not of this version, or None."""
    exists = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    current = await connection.fetchval("SELECT max(version_num) FROM alembic_version") if exists else None
    wanted = newest()
    if current == wanted:
        return None
    if current is not None and not is_known(current):
        return too_new(current)
    return f"The database is at revision {current or 'none'}, this version needs {wanted}: run 'tidewaiter migrate'."


def newest() -> str:
    """The one that no other follows."""
    (last,) = _before().keys() - _before().values()
    return last


def is_known(revision: str) -> bool:
    return revision in _before()


def too_new(revision: str) -> str:
    return (
        f"The database is at revision {revision}, which this version does not know: run the version of Tidewaiter that "
        "migrated it, or a later one."
    )


@cache
def _before() -> dict[str, str]:
    """Each revision, and the one it follows; the first follows none."""
    found = [REVISION.search(path.read_text()) for path in VERSIONS.glob("[0-9]*.py")]
    return {match[1]: match[2] or "" for match in found if match is not None}
