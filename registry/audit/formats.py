"""The forms in which the log leaves the house for SIEMs. Pure: an entry as a reader is shown it in, one line out.

They show an event as those systems expect one, and prove nothing: what can be verified stands in `lines`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from registry.audit.entries import unwrap
from registry.audit.showing import Shown

PRODUCT = {"name": "Tidewaiter", "vendor_name": "Tidewaiter"}
OCSF_VERSION = "1.6.0"  # the first in which an event has `raw_data_hash`


# CloudEvents 1.0


def cloud_event(shown: Shown, origin: str) -> bytes:
    """JSON format of CloudEvents 1.0, in order by `sequence` as text."""
    line, event = shown.line, shown.event
    told = {
        "specversion": "1.0",
        "id": event["id"],
        "source": _reference(origin),
        "type": f"io.tidewaiter.{event['action']}",
        **({"subject": shown.target} if shown.target else {}),
        "time": event["occurred_at"],
        "recordedtime": unwrap(line.entry or b"").logged_at,
        "sequence": f"{line.index:020}",
        "datacontenttype": "application/json",
        "data": readable(shown),
    }
    return orjson.dumps(told) + b"\n"


def cloud_checkpoint(note: str, origin: str, size: int) -> bytes:
    told = {
        "specversion": "1.0",
        "id": f"checkpoint-{size}",
        "source": _reference(origin),
        "type": "io.tidewaiter.audit.checkpoint",
        "sequence": f"{size:020}",
        "datacontenttype": "text/plain",
        "data": note,
    }
    return orjson.dumps(told) + b"\n"


def _reference(origin: str) -> str:
    """A URI reference, which must not begin with a port: a log is named by its host, so that is its authority."""
    return f"//{origin}"


# OCSF 1.x: Authentication 3002 for signing in, API Activity 6003 for all else.

ACTIVITIES = {"create": 1, "push": 1, "pull": 2, "list": 2, "show": 2, "read": 2, "set": 3, "update": 3, "delete": 4}
SEVERITIES = {"allowed": (1, "Informational"), "denied": (3, "Medium"), "failed": (2, "Low")}
ALARMS = {"audit.anchor": (4, "High"), "audit.fork": (5, "Critical"), "audit.unreadable": (5, "Critical")}
STATUSES = {"allowed": (1, "Success"), "denied": (2, "Failure"), "failed": (2, "Failure")}


def ocsf(shown: Shown, origin: str) -> bytes:
    event, line = shown.event, shown.line
    signing_in = event["action"] == "user.sign_in"
    verb = event["action"].partition(".")[2]
    class_id, activity = (3002, 1) if signing_in else (6003, ACTIVITIES.get(verb, 99))
    severity, status = _severity(event), STATUSES[event["outcome"]]
    told = {
        "class_uid": class_id,
        "category_uid": class_id // 1000,
        "activity_id": activity,
        "type_uid": class_id * 100 + activity,
        "time": int(shown.occurred_at.timestamp() * 1000),
        "severity_id": severity[0],
        "severity": severity[1],
        "status_id": status[0],
        "status": status[1],
        "status_code": shown.of("reason", "code"),
        "status_detail": shown.reason,
        "actor": {"user": _user(shown)},
        **(_signing_in(shown) if signing_in else _call(shown)),
        "src_endpoint": _endpoint(shown),
        "http_request": {"user_agent": shown.private.get("agent"), "uid": shown.of("request", "id")},
        "metadata": _metadata(shown),
        "raw_data_hash": {"algorithm_id": 3, "value": (line.leaf or b"").hex()},
        "unmapped": _unmapped(shown, origin) | ({"target": shown.target or None} if signing_in else {}),
    }
    return orjson.dumps(_without_none(told)) + b"\n"


def _severity(event: Mapping[str, Any]) -> tuple[int, str]:
    """What tells against the log itself is what somebody should be woken for."""
    if event["action"] == "audit.verify" and event["outcome"] == "failed":
        return 5, "Critical"
    return ALARMS.get(event["action"], SEVERITIES[event["outcome"]])


def ocsf_checkpoint(note: str, origin: str, size: int, milliseconds: int) -> bytes:
    told = {
        "class_uid": 6003,
        "category_uid": 6,
        "activity_id": 99,
        "type_uid": 600399,
        "time": milliseconds,
        "severity_id": 1,
        "actor": {"user": {"name": "system", "type_id": 3}},
        "api": {"operation": "audit.checkpoint", "service": {"name": "Tidewaiter"}},
        "src_endpoint": {"name": "system"},
        "metadata": {"product": PRODUCT, "version": OCSF_VERSION, "sequence": size, "uid": f"checkpoint-{size}"},
        "unmapped": {"log": origin, "checkpoint": note},
    }
    return orjson.dumps(told) + b"\n"


def _metadata(shown: Shown) -> dict[str, Any]:
    return {
        "product": PRODUCT,
        "version": OCSF_VERSION,
        "uid": shown.event["id"],
        "sequence": shown.line.index,
        "correlation_uid": shown.of("request", "id"),
        "original_time": shown.event["occurred_at"],
        "logged_time": int(shown.time.timestamp() * 1000),
    }


def _signing_in(shown: Shown) -> dict[str, Any]:
    """What only class 3002 has. It has no resources, so the target is told in `unmapped`."""
    return {"user": _user(shown), "service": {"name": "Tidewaiter"}}


def _call(shown: Shown) -> dict[str, Any]:
    """What only class 6003 has."""
    noun = shown.event["action"].partition(".")[0]
    resource = {"name": shown.target or None, "type": noun, "uid": shown.of("target", "digest")}
    return {"api": _api(shown), "resources": [resource]}


def _endpoint(shown: Shown) -> dict[str, Any]:
    """Never empty, since it is required. The proxy is the socket's address, where that is another than is believed."""
    source, peer = shown.private.get("source"), shown.private.get("peer")
    name = None if source else "system" if shown.event["actor"]["kind"] == "system" else "not kept"
    return {"ip": source, "name": name, "proxy_endpoint": {"ip": peer}}


def _unmapped(shown: Shown, origin: str) -> dict[str, Any]:
    """What the proxies said is any text, so it cannot stand where OCSF wants addresses."""
    return {
        "log": origin,
        "changes": {field: _before_and_after(value) for field, value in shown.changes.items()},
        "organization_sequence": shown.line.number,
        "forwarded": shown.private.get("forwarded"),
    }


def _before_and_after(value: Any) -> Any:
    """By name, so that nothing need be null."""
    return dict(zip(("before", "after"), value, strict=True)) if isinstance(value, list) and len(value) == 2 else value


def _api(shown: Shown) -> dict[str, Any]:
    request = {"uid": shown.of("request", "id")} if shown.of("request", "id") else None
    return {"operation": shown.event["action"], "service": {"name": "Tidewaiter"}, "request": request}


def _user(shown: Shown) -> dict[str, Any]:
    kinds = {"user": 1, "system": 3}
    actor = shown.event["actor"]
    return {
        "name": shown.actor_name,
        "uid": actor.get("id"),
        "type_id": kinds.get(actor["kind"], 0),
        "credential_uid": actor.get("credential"),
    }


HIDDEN = ("change", "private", "salt", "subject", "v")


def readable(shown: Shown) -> dict[str, Any]:
    """The event with names and opened fields, as the forms for other systems carry it."""
    event = {name: value for name, value in shown.event.items() if name not in HIDDEN}
    event["actor"] = {**shown.event["actor"], "name": shown.actor_name}
    event["target"] = {**shown.event.get("target", {}), "name": shown.target or None, **asdict(shown.named)}
    sources = {"address": "source", "peer": "peer", "forwarded": "forwarded"}
    event["source"] = {name: shown.private.get(kept) for name, kept in sources.items()}
    event["client"] = shown.private.get("agent")
    event["logged_at"] = unwrap(shown.line.entry or b"").logged_at
    event["leaf"] = (shown.line.leaf or b"").hex()
    if text := shown.of("reason", "text"):
        event["reason"] = {**event["reason"], "text": shown.readable(text)}
    kept: dict[str, Any] = _without_none(event)
    return kept | ({"change": shown.changes} if shown.changes else {})


def _without_none(value: Any) -> Any:
    """Null is no value of an attribute, in either form. What stands in a list keeps its place."""
    if isinstance(value, list):
        return [_without_none(one) for one in value]
    if isinstance(value, dict):
        kept = {name: _without_none(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one is not None and one != {}}
    return value
