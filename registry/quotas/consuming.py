"""Who uses the most of what is counted at a scope: its organizations, repositories, tags and users.

Of an organization or repository it is what its own counter says is used, of a tag the size of its image, of a user the
distinct bytes of the images they pushed; what two of them have in common counts for both, so lists do not add up. Of
traffic it is what left in this month, from repositories and under tags that are gone since, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.places import Place
from registry.quotas import reporting, usage
from registry.quotas.reporting import AMOUNTS
from registry.quotas.sampling import USED
from registry.quotas.scopes import WITHIN
from registry.work import Work

# In each: $1 the scope; {within} the scope, {repository} and {tag} their names as seen from there.
REPOSITORY = {"account": "o.name || '/' || {}", "organization": "{}", "repository": "{}"}
LISTS = {
    "account": ("organizations", "repositories", "users"),
    "organization": ("repositories", "tags", "users"),
    "repository": ("tags", "users"),
}
REPOSITORIES = "FROM repository r JOIN organization o ON o.id = r.organization_id"
# $2 how many.
LARGEST = 'SELECT * FROM ({}) AS found ORDER BY value DESC, name COLLATE "C" LIMIT $2'
BY_ORGANIZATION = f"""
    WITH {USED} SELECT o.id, o.name, q.used AS value, false AS deleted FROM organization o
    JOIN counters q ON q.scope_kind = 'organization' AND q.scope_id = o.id AND q.key = '{{key}}'
    WHERE {{within}} AND q.used > 0
"""
BY_REPOSITORY = f"""
    WITH {USED} SELECT r.id, {{repository}} AS name, q.used AS value, false AS deleted {REPOSITORIES}
    JOIN counters q ON q.scope_kind = 'repository' AND q.scope_id = r.id AND q.key = '{{key}}'
    WHERE {{within}} AND q.used > 0
"""
BY_TAG = f"""
    SELECT NULL::uuid AS id, {{tag}} AS name, m.total_size AS value, false AS deleted {REPOSITORIES}
    JOIN tag t ON t.repository_id = r.id JOIN manifest m ON m.repository_id = r.id AND m.digest = t.digest
    WHERE {{within}}
"""
# Once in each organization, however many repositories and images it is in.
BY_PUSHER = f"""
    WITH pushed AS MATERIALIZED (
        SELECT m.pushed_by, r.organization_id, m.repository_id, m.digest {REPOSITORIES}
        JOIN manifest m ON m.repository_id = r.id WHERE {{within}}
    ), digests AS MATERIALIZED (
        SELECT pushed_by, organization_id, digest FROM pushed
        UNION SELECT m.pushed_by, m.organization_id, p.digest FROM pushed m
        JOIN manifest_part p ON p.repository_id = m.repository_id AND p.manifest_digest = m.digest AND p.kind = 'BLOB'
    )
    SELECT u.id, u.name, sum(b.size)::bigint AS value, false AS deleted
    FROM digests JOIN organization_blob b USING (organization_id, digest) JOIN users u ON u.id = pushed_by GROUP BY u.id
"""
COUNTED_BY_USER = f"""
    SELECT u.id, u.name, count(*) AS value, false AS deleted {REPOSITORIES} {{joined}}
    WHERE {{within}} GROUP BY u.id
"""
KEYS_BY_USER = """
    SELECT u.id, u.name, count(*) AS value, false AS deleted FROM users u JOIN credential c ON c.user_id = u.id
    WHERE u.account_id = $1 AND c.kind = 'ACCESS_KEY' AND c.revoked_at IS NULL GROUP BY u.id
"""
SHARES_BY_REPOSITORY = f"""
    SELECT r.id, {{repository}} AS name, count(*) AS value, false AS deleted {REPOSITORIES}
    JOIN share s ON s.repository_id = r.id WHERE {{within}} GROUP BY r.id, o.id
"""
TAGS_OF = "JOIN tag t ON t.repository_id = r.id JOIN users u ON u.id = t.pushed_by"
STANDING: dict[Key, Mapping[str, str]] = {
    Key.STORAGE_BYTES: {
        "organizations": BY_ORGANIZATION,
        "repositories": BY_REPOSITORY,
        "tags": BY_TAG,
        "users": BY_PUSHER,
    },
    Key.TAGS: {"repositories": BY_REPOSITORY, "users": COUNTED_BY_USER.replace("{joined}", TAGS_OF)},
    Key.REPOSITORIES: {
        "organizations": BY_ORGANIZATION,
        "users": COUNTED_BY_USER.replace("{joined}", "JOIN users u ON u.id = r.created_by"),
    },
    Key.ACCESS_TOKENS: {"users": KEYS_BY_USER},
    Key.SHARES: {"repositories": SHARES_BY_REPOSITORY},
}
# $3 the beginning of the month.
FLOWN = """
    FROM traffic_hour t JOIN organization o ON o.id = t.organization_id LEFT JOIN repository r ON r.id = t.repository_id
    WHERE {within} AND t.hour >= $3
"""
OUT = "sum({amount})::bigint AS value"
SOME = "HAVING sum({amount}) > 0"
# $4 whether users of other accounts are named, which only those may know who read the log.
FLOWING = {
    "organizations": f"SELECT o.id, o.name, {OUT}, false AS deleted {FLOWN} GROUP BY o.id {SOME}",
    "repositories": f"""
        SELECT t.repository_id AS id, {{repository}} AS name, {OUT}, r.id IS NULL AS deleted {FLOWN}
        GROUP BY t.repository_id, r.id, o.id {SOME}
    """,
    "tags": f"""
        SELECT NULL::uuid AS id, {{tag}} AS name, {OUT}, NOT EXISTS (
            SELECT FROM tag x WHERE x.repository_id = t.repository_id AND x.name = t.tag) AS deleted
        {FLOWN} AND t.tag <> '' GROUP BY t.repository_id, t.tag, r.id, o.id {SOME}
    """,
    "users": f"""
        SELECT id, name, sum(value)::bigint AS value, false AS deleted FROM (
            SELECT CASE WHEN $4 OR u.account_id = o.account_id THEN u.id END AS id,
                CASE WHEN u.id IS NULL THEN '(anonymous)' WHEN $4 OR u.account_id = o.account_id THEN u.name
                    ELSE '(other accounts)' END AS name, t.value
            FROM (SELECT t.organization_id, t.user_id, {OUT} {FLOWN} GROUP BY t.organization_id, t.user_id) AS t
            JOIN organization o ON o.id = t.organization_id LEFT JOIN users u ON u.id = t.user_id) AS named
        WHERE value > 0 GROUP BY id, name
    """,
}


@dataclass(frozen=True, slots=True)
class Consumer:
    """`deleted` says that it is no longer there; of a repository that is not, the name is lost. No id: a tag, or users
    who are not named."""

    id: UUID | None
    name: str
    value: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Consumers:
    """The largest first. Empty where the scope or the key has no such thing."""

    organizations: list[Consumer] = field(default_factory=list)
    repositories: list[Consumer] = field(default_factory=list)
    tags: list[Consumer] = field(default_factory=list)
    users: list[Consumer] = field(default_factory=list)


async def top_consumers(work: Work, place: Place, key: Key, first: int) -> Consumers:
    """Raises `LimitInvalid` where the key is not counted at such a scope, and what `require_view` raises."""
    usage.require_view(work, place)
    reporting.check_key(place, key)
    everybody = bool(place.roles & {"account.owner", "platform.admin"})
    return await consumers_of(work, place, key, first, everybody=everybody)


async def consumers_of(work: Work, place: Place, key: Key, first: int, *, everybody: bool) -> Consumers:
    """As `top_consumers`, for who has been required to be allowed to see it; `everybody`: users of other accounts are
    named, too."""
    statements = FLOWING if key in quotas.MONTHLY else STANDING.get(key, {})
    more = [_month(work.now)] if key in quotas.MONTHLY else []
    found = {}
    for each in LISTS[place.kind]:
        if each in statements:
            named = [everybody] if more and each == "users" else []
            statement = _at(place, key, statements[each])
            found[each] = [_consumer(row) for row in await work.fetch(statement, place.id, first, *more, *named)]
    return Consumers(**found)


def _at(place: Place, key: Key, statement: str) -> str:
    repository = REPOSITORY[place.kind].format("coalesce(r.name, '(deleted)')")
    tag = "{tag_name}" if place.kind == "repository" else f"{repository} || ':' || {{tag_name}}"
    tag = tag.format(tag_name="t.tag" if key in quotas.MONTHLY else "t.name")
    of = {"key": key.value, "within": WITHIN[place.kind], "amount": AMOUNTS.get(key)}
    return LARGEST.format(statement.format(repository=repository, tag=tag, **of))


def _month(now: datetime) -> datetime:
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _consumer(row: Any) -> Consumer:
    return Consumer(row["id"], row["name"], row["value"], row["deleted"])
