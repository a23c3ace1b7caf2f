"""quota report: the quotas of a scope, what comes near a limit, how use has grown, and who uses the most."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
import typer

from api.cli.opening import system_of
from api.cli.running import run
from policies import quotas
from policies.forecasting import Forecast
from policies.history import Interval, Point
from policies.quotas import Key
from registry.actors import SYSTEM
from registry.deciding import not_found
from registry.errors import Unable
from registry.places import Place
from registry.quotas import consuming, reporting, usage
from registry.quotas.consuming import Consumer, Consumers
from registry.quotas.usage import Quota
from registry.settings import Settings
from registry.wording import one_line
from registry.work import Work

DAYS, LARGEST = 30, 10
LISTS = ("organizations", "repositories", "tags", "users")


class ScopeUnreadable(Unable):
    """What was given as a scope names none."""


@dataclass(frozen=True, slots=True)
class Report:
    """Each key that is counted at the scope with its days, the forecast, and who uses the most of it."""

    place: Place
    time: datetime
    quotas: list[Quota]
    days: dict[Key, list[Point]]
    forecasts: dict[Key, Forecast]
    consumers: dict[Key, Consumers]

    @property
    def alerts(self) -> list[tuple[Quota, int]]:
        """The step in per cent that a limit has reached, or 0 for a soft limit."""
        soft = [(one, 0) for one in self.quotas if one.soft_limit is not None and one.used + one.held >= one.soft_limit]
        return [*((one, one.told) for one in self.quotas if one.told), *soft]


def report(
    scope: Annotated[
        str, typer.Option("--scope", help="account:NAME, organization:NAME or repository:ORGANIZATION/NAME.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Report what a scope uses: quotas, alerts, the last 30 days, and who uses the most. Is recorded."""

    async def act(settings: Settings) -> Report:
        named = _named(scope)
        async with system_of(settings) as system:
            async with system.foundation.view(SYSTEM, system.foundation.here) as work:
                work.attempt("quota.report", scope.replace(":", " ", 1))
                place = await usage.scope_of(work, **named)
                if not place.exists:
                    raise not_found(place)
                told = await _report(work, place)
                event = work.record(place=place)
            await system.foundation.ledger.append(event)
            return told

    told = run(act)
    typer.echo(orjson.dumps(_plain(told), option=orjson.OPT_UTC_Z).decode() if as_json else "\n".join(_lines(told)))


def _named(scope: str) -> dict[str, str | None]:
    kind, _, name = scope.partition(":")
    organization, _, repository = name.partition("/")
    match kind, bool(name), bool(repository):
        case "account" | "organization", True, False:
            return {"account": None, "organization": None, "repository": None} | {kind: name}
        case "repository", True, True:
            return {"account": None, "organization": organization, "repository": repository}
    raise ScopeUnreadable(
        f"'{scope}' names no scope: write account:NAME, organization:NAME or repository:ORGANIZATION/NAME."
    )


async def _report(work: Work, place: Place) -> Report:
    counted = await usage.standings(work, place)
    traffic = [key for key in quotas.MONTHLY if place.kind == "account"]
    keys = sorted({*(quota.key for quota in counted), *traffic}, key=list(Key).index)
    start = work.now - timedelta(days=DAYS - 1)
    end = work.now + timedelta.resolution
    days, forecasts, consumers = {}, {}, {}
    for key in keys:
        days[key] = (await reporting.history_of(work, place, key, start, end, Interval.DAY)).points
        forecasts[key] = await reporting.forecast_of(work, place, key)
        consumers[key] = await consuming.consumers_of(work, place, key, LARGEST, everybody=True)
    return Report(place, work.now, counted, days, forecasts, consumers)


def _plain(told: Report) -> dict[str, Any]:
    return {
        "scope": {"kind": told.place.kind, "name": told.place.name},
        "time": told.time,
        "quotas": [_quota(one) for one in told.quotas],
        "alerts": [{"step": step or None, **_quota(one)} for one, step in told.alerts],
        "usage": {
            key.value: {
                "points": [{"time": point.time, "value": point.value, "peak": point.peak} for point in points],
                "trendPerDay": told.forecasts[key].trend,
                "fullInDays": told.forecasts[key].full_in,
            }
            for key, points in told.days.items()
        },
        "topConsumers": {
            key.value: {kind: [_consumer(one) for one in getattr(found, kind)] for kind in LISTS}
            for key, found in told.consumers.items()
        },
    }


def _quota(one: Quota) -> dict[str, Any]:
    return {
        "key": one.key.value,
        "limit": one.limit,
        "softLimit": one.soft_limit,
        "used": one.used,
        "held": one.held,
        "percent": one.percent,
        "unit": one.unit,
    }


def _consumer(one: Consumer) -> dict[str, Any]:
    return {"name": one.name, "value": one.value, "deleted": one.deleted}


def _lines(told: Report) -> list[str]:
    """For people: what is not used and has no limit is left out."""
    lines = [one_line(f"{told.place.kind} {told.place.name}, {told.time:%Y-%m-%dT%H:%M:%SZ}")]
    lines += ["", "QUOTAS", *(_quota_line(one) for one in told.quotas if one.used or one.held or one.limit is not None)]
    lines += ["", "ALERTS", *(_alert_line(one, step) for one, step in told.alerts)]
    lines += ["none"] if not told.alerts else []
    lines += ["", f"LAST {DAYS} DAYS", *(_days_line(told, key) for key, points in told.days.items() if _moved(points))]
    for key, found in told.consumers.items():
        for kind in LISTS:
            if rows := getattr(found, kind):
                lines += ["", f"TOP {kind.upper()} BY {key.value}", *(_consumer_line(key, one) for one in rows)]
    return lines


def _quota_line(one: Quota) -> str:
    limit = "no limit" if one.limit is None else f"of {quotas.quantity(one.key, one.limit)}, {one.percent} %"
    held = f", held {quotas.quantity(one.key, one.held)}" if one.held else ""
    return f"{one.key.value:14} used {quotas.quantity(one.key, one.used)}{held}, {limit}"


def _alert_line(one: Quota, step: int) -> str:
    limit = one.limit if step else one.soft_limit
    return (
        f"{one.key.value:14} {f'{step} %' if step else 'soft limit'} of {quotas.quantity(one.key, limit or 0)} reached"
    )


def _moved(points: list[Point]) -> bool:
    return any(point.peak for point in points)


def _days_line(told: Report, key: Key) -> str:
    points, forecast = told.days[key], told.forecasts[key]
    peak = quotas.quantity(key, max(point.peak for point in points))
    held = " used and held" if key is Key.STORAGE_BYTES else ""
    first, last = (quotas.quantity(key, point.value) for point in (points[0], points[-1]))
    if key in quotas.MONTHLY:
        line = f"{quotas.quantity(key, sum(point.value for point in points))} in all, {peak} in the busiest hour"
    else:
        line = f"from {first} to {last}, at most {peak}{held}"
    trend = "" if forecast.trend is None else f", {forecast.trend:+.1f} a day"
    return f"{key.value:14} {line}{trend}{_full(forecast.full_in)}"


def _full(days: int | None) -> str:
    if not days:
        return "" if days is None else ", full"
    return f", full in about {days} {'day' if days == 1 else 'days'}"


def _consumer_line(key: Key, one: Consumer) -> str:
    gone = " (gone)" if one.deleted else ""
    return one_line(f"{one.name + gone:40} {quotas.quantity(key, one.value)}")
