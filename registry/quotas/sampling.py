"""Writes down what the counters say, once a minute, so that there is a history.

A row for the hour is written where a counter moved since its last sample: `value` is what was used then, without what
was only held, and `peak` the most that was charged since the sample before, with all that was held. So the last sample
of an hour says how it ended, to the minute, and an hour in which nothing moved has no row. Traffic needs no samples: it
is written down as it flows.

Used, held and refunded are read from one snapshot. No sample waits for anybody: of a counter that somebody is charging
at this moment the peak stays for the next one.
"""

from datetime import datetime, timedelta

from policies import history, quotas
from policies.history import Interval
from registry.actors import SYSTEM, Origin
from registry.work import Foundation, Work

# Somewhat less than servers rest between samples.
EVERY = timedelta(seconds=50)
TURN = "SELECT pg_try_advisory_xact_lock(hashtext('quota_sample'))"
LAST = "SELECT sampled_at FROM quota_recount"
SAMPLED = "UPDATE quota_recount SET sampled_at = $1"
# Every counter, with what is used of what it has charged.
USED = """
    held AS (
        SELECT scope.kind AS scope_kind, scope.id AS scope_id, sum(u.held) AS amount
        FROM upload u JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id,
            LATERAL (VALUES ('repository', r.id), ('organization', o.id), ('account', o.account_id)) AS scope (kind, id)
        WHERE u.held > 0 GROUP BY scope.kind, scope.id
    ), refunded AS (
        SELECT scope_kind, scope_id, key, sum(amount) AS amount FROM quota_refund GROUP BY scope_kind, scope_id, key
    ), counters AS (
        SELECT scope_kind, scope_id, key, q.sampled, q.peak, q.charged - coalesce(f.amount, 0)::bigint
            - CASE key WHEN 'STORAGE_BYTES' THEN coalesce(h.amount, 0) ELSE 0 END::bigint AS used
        FROM quota_counter q
        LEFT JOIN held h USING (scope_kind, scope_id) LEFT JOIN refunded f USING (scope_kind, scope_id, key)
    )
"""
# $1 the hour, $2 keys that are not sampled.
SAMPLE = f"""
    WITH {USED}, moved AS MATERIALIZED (
        SELECT * FROM counters WHERE (used <> sampled OR peak <> sampled) AND key <> ALL($2::text[])
    ), written AS (
        INSERT INTO usage_hour AS u (scope_kind, scope_id, key, hour, value, peak)
        SELECT scope_kind, scope_id, key, $1, used, greatest(peak, used) FROM moved
        ON CONFLICT (scope_kind, scope_id, key, hour)
        DO UPDATE SET value = excluded.value, peak = greatest(u.peak, excluded.peak)
    ), free AS (
        SELECT q.scope_kind, q.scope_id, q.key, m.used
        FROM quota_counter q JOIN moved m USING (scope_kind, scope_id, key)
        WHERE q.peak = m.peak FOR NO KEY UPDATE OF q SKIP LOCKED
    )
    UPDATE quota_counter q SET peak = q.charged, sampled = free.used FROM free
    WHERE q.scope_kind = free.scope_kind AND q.scope_id = free.scope_id AND q.key = free.key
"""


async def sample(foundation: Foundation) -> None:
    """Any server may do this at any time; the first of a minute samples. A crash that undoes the transaction undoes all
    of it: the peaks are still there."""
    async with foundation.promise(SYSTEM, Origin()) as work:
        if not await work.fetchval(TURN):
            return
        last: datetime | None = await work.fetchval(LAST)
        if last is not None and last <= work.now < last + EVERY:
            return
        await work.execute(SAMPLED, work.now)
        await sample_counters(work)


async def sample_counters(work: Work) -> None:
    await work.execute(SAMPLE, history.floor(work.now, Interval.HOUR), sorted(quotas.MONTHLY))
