"""Makes days of hours that are old, and drops days that are very old, and all that was written of what is gone.

Hours are kept for 90 days and days for five years. Nothing that was counted is lost or counted twice on the way: hours
go and days come in one statement. What is known of traffic by the hour alone, the busiest one, is kept with the day.
"""

from policies import history, quotas
from policies.history import Interval
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.work import Foundation, Work

PATIENCE_SECONDS = 3600.0
TURN = "SELECT pg_try_advisory_xact_lock(hashtext('quota_roll'))"
# A clock that was set back is no reason to wait for the day to come again.
DUE = "SELECT rolled_at IS NULL OR rolled_at < $2 OR rolled_at > $1 FROM quota_recount"
ROLLED = "UPDATE quota_recount SET rolled_at = $1"
# $1 the first hour that stays.
ROLL_USAGE = """
    WITH old AS (DELETE FROM usage_hour WHERE hour < $1 RETURNING *),
    days AS (
        SELECT scope_kind, scope_id, key, (hour AT TIME ZONE 'UTC')::date AS day,
            (array_agg(value ORDER BY hour DESC))[1] AS value, max(peak) AS peak
        FROM old GROUP BY 1, 2, 3, 4)
    INSERT INTO usage_day AS d (scope_kind, scope_id, key, day, value, peak) TABLE days
    ON CONFLICT (scope_kind, scope_id, key, day)
    DO UPDATE SET value = excluded.value, peak = greatest(d.peak, excluded.peak)
"""
ROLL_TRAFFIC = """
    WITH old AS (
        DELETE FROM traffic_hour WHERE hour < $1
        RETURNING organization_id, hour, (hour AT TIME ZONE 'UTC')::date AS day, repository_id, tag, user_id, pulls,
            bytes
    ), days AS (
        INSERT INTO traffic_day AS d (organization_id, day, repository_id, tag, user_id, pulls, bytes)
        SELECT organization_id, day, repository_id, tag, user_id, sum(pulls), sum(bytes)
        FROM old GROUP BY organization_id, day, repository_id, tag, user_id
        ON CONFLICT (organization_id, day, repository_id, tag, user_id)
        DO UPDATE SET pulls = d.pulls + excluded.pulls, bytes = d.bytes + excluded.bytes
    ), hours AS (
        SELECT scope.kind, scope.id, line.key, old.day, sum(line.amount) AS amount
        FROM old LEFT JOIN organization o ON o.id = old.organization_id,
            LATERAL (VALUES ('organization', old.organization_id), ('account', o.account_id)) AS scope (kind, id),
            LATERAL (VALUES ('PULLS', old.pulls), ('EGRESS_BYTES', old.bytes)) AS line (key, amount)
        WHERE scope.id IS NOT NULL AND line.amount > 0 GROUP BY scope.kind, scope.id, line.key, old.day, old.hour
    )
    INSERT INTO usage_day AS u (scope_kind, scope_id, key, day, value, peak)
    SELECT kind, id, key, day, sum(amount), max(amount) FROM hours GROUP BY kind, id, key, day
    ON CONFLICT (scope_kind, scope_id, key, day)
    DO UPDATE SET value = u.value + excluded.value, peak = greatest(u.peak, excluded.peak)
"""
DROP = (
    "DELETE FROM usage_day WHERE day < $1",
    "DELETE FROM traffic_day WHERE day < $1",
)
GONE = (
    "DELETE FROM usage_hour u WHERE NOT EXISTS (SELECT FROM scopes WHERE id = u.scope_id)",
    "DELETE FROM usage_day u WHERE NOT EXISTS (SELECT FROM scopes WHERE id = u.scope_id)",
    "DELETE FROM traffic_hour t WHERE NOT EXISTS (SELECT FROM scopes WHERE id = t.organization_id)",
    "DELETE FROM traffic_day t WHERE NOT EXISTS (SELECT FROM scopes WHERE id = t.organization_id)",
)
SCOPES = """
    WITH scopes AS (SELECT id FROM repository UNION ALL SELECT id FROM organization UNION ALL SELECT id FROM account)
"""
# A month that is over is nothing to hold a counter against: its hours may be days by the next recount.
BEGIN_MONTH = """
    WITH old AS (
        SELECT scope_kind, scope_id, key FROM quota_counter WHERE period <> '' AND period < $1
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE quota_counter q SET period = $1, charged = 0, peak = 0, warned = 0, soft_warned = false FROM old
    WHERE q.scope_kind = old.scope_kind AND q.scope_id = old.scope_id AND q.key = old.key
"""


async def roll(foundation: Foundation) -> None:
    """Any server may do this at any time, and it may take long; the first of a day does it, in one transaction."""
    async with foundation.begin(SYSTEM, Origin()) as work:
        work.patience = PATIENCE_SECONDS
        if await work.fetchval(TURN) and await work.fetchval(DUE, work.now, history.floor(work.now, Interval.DAY)):
            await roll_up(work)
            await work.execute(ROLLED, work.now)


async def roll_up(work: Work) -> None:
    """What has been done already stays as it is."""
    first_hour, first_day = history.hours_since(work.now), history.days_since(work.now).date()
    for statement in GONE:
        await work.execute(SCOPES + statement)
    for statement in (ROLL_USAGE, ROLL_TRAFFIC):
        await work.execute(statement, first_hour)
    for statement in DROP:
        await work.execute(statement, first_day)
    await work.execute(BEGIN_MONTH, quotas.period_of(Key.PULLS, work.now))
