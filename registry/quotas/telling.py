"""Tells what nobody has been told of yet: of two who settle at one moment, each may count what the other only held.

Nearly always the change that reaches a step tells it (`charging`). This looks once a minute for counters that may be
beyond what was told, and judges each under its lock.
"""

from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.dues import Due, Line
from registry.places import Place
from registry.quotas import charging
from registry.work import Foundation, Work

# Limits by default: $1 kinds of scope, $2 keys, $3 the limits.
UNTOLD = """
    SELECT q.scope_kind AS kind, q.scope_id AS id, q.key, coalesce(o.account_id, q.scope_id) AS account_id,
        o.id AS organization_id, CASE WHEN q.explicit THEN q.hard ELSE d.top END AS top
    FROM quota_counter q
    LEFT JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS d (kind, key, top)
        ON d.kind = q.scope_kind AND d.key = q.key
    LEFT JOIN repository r ON q.scope_kind = 'repository' AND r.id = q.scope_id
    LEFT JOIN organization o ON o.id = coalesce(r.organization_id, q.scope_id)
    WHERE quota_standing(q.warned, q.charged, CASE WHEN q.explicit THEN q.hard ELSE d.top END) > q.warned
        OR quota_soft_standing(q.soft_warned, q.charged, q.soft) > q.soft_warned
"""
JUDGE = """
    WITH locked AS MATERIALIZED (
        SELECT q FROM quota_counter q WHERE scope_kind = $1 AND scope_id = $2 AND key = $3 FOR NO KEY UPDATE)
    SELECT 1 AS line, false AS refused, j.step, j.reached AS top, j.used AS charged FROM locked, quota_judge(q, $4) AS j
"""


async def tell_late(foundation: Foundation) -> None:
    """Any server may do this at any time."""
    scopes = [(kind, key) for key, kind in quotas.HOME.items()]
    tops = [charging.default_limit(foundation.settings, key, kind) for kind, key in scopes]
    async with foundation.glance(SYSTEM, Origin()) as work:
        rows = await work.fetch(UNTOLD, [kind for kind, _ in scopes], [key.value for _, key in scopes], tops)
    for row in rows:
        async with foundation.begin(SYSTEM, Origin()) as work:
            await _judge(work, row)


async def _judge(work: Work, row: Any) -> None:
    key, kind = Key(row["key"]), row["kind"]
    repository = row["id"] if kind == "repository" else None
    place = Place(kind, "", True, row["account_id"], row["organization_id"], repository)
    line = Line(Due(quotas.order(key, kind), row["id"], kind, key), place)
    await charging.read_charged(work, [line], await work.fetch(JUDGE, kind, row["id"], key.value, row["top"]))
