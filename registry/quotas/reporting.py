"""How the use of a scope has grown: hour by hour or day by day, and when its limit will be reached.

What counters count is a level: it stays as it is until it moves, and its points say what was used at the end of each
hour or day, and the most that was charged in it. Traffic is a flow: its points say how much left in each, and how much
in its busiest hour. What is now comes from the counter and the newest traffic, and waits for no sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from policies import forecasting, history, quotas
from policies.forecasting import MOST_DAYS, Forecast
from policies.history import LENGTHS, MOST_POINTS, Interval, Point
from policies.quotas import Key
from registry.errors import Invalid
from registry.places import Place
from registry.quotas import usage
from registry.quotas.usage import Quota
from registry.work import Work

# Kind and id of the scope, the key, and from when on; with the last that was known before.
LEVELS = """
    WITH marks AS (
        SELECT hour AS time, value, peak FROM usage_hour WHERE scope_kind = $1 AND scope_id = $2 AND key = $3
        UNION ALL SELECT (day + interval '23 hours') AT TIME ZONE 'UTC', value, peak
        FROM usage_day WHERE scope_kind = $1 AND scope_id = $2 AND key = $3)
    (SELECT * FROM marks WHERE time < $4 ORDER BY time DESC LIMIT 1)
    UNION ALL SELECT * FROM marks WHERE time >= $4 ORDER BY time
"""
# As before, and until when. Of an account: of the organizations that it has.
FLOWS = """
    SELECT hour AS time, sum({amount})::bigint AS value, sum({amount})::bigint AS peak
    FROM traffic_hour WHERE {within} AND hour >= $4 AND hour < $5 GROUP BY hour
    UNION ALL SELECT (day + interval '23 hours') AT TIME ZONE 'UTC', value, peak
    FROM usage_day WHERE scope_kind = $1 AND scope_id = $2 AND key = $3
        AND (day + interval '23 hours') AT TIME ZONE 'UTC' >= $4 AND (day + interval '23 hours') AT TIME ZONE 'UTC' < $5
    ORDER BY time
"""
OF_SCOPE = {
    "organization": "organization_id = $2",
    "account": "organization_id IN (SELECT id FROM organization WHERE account_id = $2)",
}
AMOUNTS = {Key.PULLS: "pulls", Key.EGRESS_BYTES: "bytes"}
DAY = LENGTHS[Interval.DAY]


class SpanInvalid(Invalid):
    """`detail` holds path, and limit: how many points there may be."""

    code = "SPAN_INVALID"


@dataclass(frozen=True, slots=True)
class Usage:
    """`limit` is that of the scope itself, as it is now; none for unlimited, and where none can be set."""

    points: list[Point]
    limit: int | None
    unit: str


async def usage_of(work: Work, place: Place, key: Key, start: datetime, end: datetime, interval: Interval) -> Usage:
    """A point for each hour or day that [start, end) touches and that has begun, oldest first.

    Raises `SpanInvalid`, `LimitInvalid` where the key is not counted at such a scope, and what `require_view` raises.
    """
    usage.require_view(work, place)
    check_key(place, key)
    end = _checked(start, end, interval, work.now)
    return await history_of(work, place, key, start, end, interval)


async def history_of(work: Work, place: Place, key: Key, start: datetime, end: datetime, interval: Interval) -> Usage:
    """As `usage_of`, for who has been required to be allowed to see it, of a span that is right."""
    moments = history.times(start, end, interval)
    quota = await _quota(work, place, key)
    points = await _points(work, place, key, quota, moments, interval)
    return Usage(points, quota.limit, quota.unit)


async def forecast_of(work: Work, place: Place, key: Key) -> Forecast:
    """What a day adds, of the last thirty, and in how many days the scope's own limit is reached if that goes on; of
    traffic, if that is within the month. For who has been required to be allowed to see it."""
    quota = await _quota(work, place, key)
    days = history.times(work.now - (MOST_DAYS - 1) * DAY, work.now + timedelta.resolution, Interval.DAY)
    if key in quotas.MONTHLY:
        points = await _points(work, place, key, quota, days[:-1], Interval.DAY)
        known = next((number for number, point in enumerate(points) if point.value), len(points))
        left = -(-(quotas.next_month(work.now) - work.now) // DAY)
        room = None if quota.limit is None else quota.limit - quota.used
        return forecasting.forecast([*accumulate(point.value for point in points[known:])], room, left)
    marks = await _levels(work, place, key, quota, days[0])
    known = sum(day + DAY <= marks[0].time for day in days)
    points = history.levels(days, Interval.DAY, marks)[known:]
    room = None if quota.limit is None else quota.limit - quota.used - quota.held
    return forecasting.forecast([point.value for point in points], room)


def check_key(place: Place, key: Key) -> None:
    """Raises `LimitInvalid` where nothing is known of the key. Accounts have no limit on traffic, and a history of it
    all the same: that of their organizations."""
    if not (key in quotas.MONTHLY and place.kind == "account"):
        usage.check_key(place, key)


def _checked(start: datetime, end: datetime, interval: Interval, now: datetime) -> datetime:
    """The end of what has begun. Raises `SpanInvalid`."""
    if start > end:
        raise SpanInvalid("The span ends before it begins; 'from' must not lie behind 'to'.", path=["from", "to"])
    end = history.until_now(end, now, interval)
    if (points := history.count(start, end, interval)) > MOST_POINTS:
        raise SpanInvalid(
            f"From 'from' to 'to' are {points:,} points, and at most {MOST_POINTS:,} are told at once. "
            "Ask for a shorter span, or for days instead of hours.",
            path=["from", "to"],
            limit=MOST_POINTS,
        )
    if interval is Interval.HOUR and points and start < history.hours_since(now):
        raise SpanInvalid(
            f"Hours are kept since {history.hours_since(now):%Y-%m-%d}; of what was before, ask for days.",
            path=["from"],
        )
    return end


async def _quota(work: Work, place: Place, key: Key) -> Quota:
    found = {quota.key: quota for quota in await usage.standings(work, place)}
    return found.get(key) or Quota(key, None, None, 0, 0, quotas.UNITS[key])


async def _points(
    work: Work, place: Place, key: Key, quota: Quota, moments: Sequence[datetime], interval: Interval
) -> list[Point]:
    if not moments:
        return []
    if key not in quotas.MONTHLY:
        return history.levels(moments, interval, await _levels(work, place, key, quota, moments[0]))
    statement = FLOWS.format(within=OF_SCOPE[place.kind], amount=AMOUNTS[key])
    end = moments[-1] + LENGTHS[interval]
    rows = await work.fetch(statement, place.kind, place.id, key.value, moments[0], end)
    return history.flows(moments, interval, [_mark(row) for row in rows])


async def _levels(work: Work, place: Place, key: Key, quota: Quota, since: datetime) -> list[Point]:
    """Never none: the last is the counter as it is now."""
    rows = await work.fetch(LEVELS, place.kind, place.id, key.value, since)
    now = Point(work.now, quota.used, max(quota.used, quota.peak))
    return [*(_mark(row) for row in rows if row["time"] <= work.now), now]


def _mark(row: Any) -> Point:
    return Point(row["time"], row["value"], row["peak"])
