"""The forms for other systems, held against what CloudEvents 1.0 and OCSF 1.6.0 demand of an event."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import pytest

from registry.actors import ANONYMOUS, SYSTEM, Actor, ActorKind, Origin
from registry.audit import bodies, formats, sealing
from registry.audit.entries import Wrapped, wrap, written_time
from registry.audit.showing import Shown, numbered
from registry.audit.subjects import subject_of
from registry.events import Event, Outcome
from registry.transparency.merkle import leaf_hash

LOG = "127.0.0.1:34427/audit/1"
AT = datetime(2026, 11, 25, 23, 13, 37, 167840, tzinfo=UTC)
KEY, SALT = b"k" * 32, b"s" * 16
GRACE = Actor(ActorKind.USER, "grace", UUID(int=7))
FORWARDED = ("for=203.0.113.9", "198.51.100.4")
BEHIND_A_PROXY = Origin("r1", "203.0.113.9", "docker", "192.0.2.1", FORWARDED)
PULL = Event(AT, "image.pull", Outcome.ALLOWED, GRACE, BEHIND_A_PROXY, "acme/web:1", digest="sha256:" + "0" * 64)
NOT_IN_6003 = {"user", "service"}
NOT_IN_3002 = {"resources", "api"}
REQUIRED = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
EVENTS = {
    "a pull": PULL,
    "a sign-in": replace(PULL, action="user.sign_in", target="grace", digest=None),
    "a refused sign-in of nobody": replace(
        PULL, action="user.sign_in", actor=ANONYMOUS, outcome=Outcome.DENIED, target="", digest=None
    ),
    "without a digest": replace(PULL, action="organization.create", target="acme", digest=None),
    "of the system": Event(AT, "audit.export", Outcome.ALLOWED, SYSTEM, Origin(), "audit log"),
    "about nothing": Event(AT, "look.more", Outcome.FAILED, SYSTEM, Origin(), ""),
    "with changes": replace(
        PULL, changes={"limit": [None, 5], "name": ["a", "b"], "archive": "bare", "set": [[], None]}
    ),
    "with a private part, but no source": replace(PULL, origin=Origin(client="docker")),
}


def shown(event: Event, *, forgotten: bool = False) -> Shown:
    private = bodies.private_of(event)
    sealed = sealing.seal(sealing.event_key(KEY, SALT), private) if private else None
    body = bodies.encode(event, SALT, subject_of(event), sealed, {})
    entry = wrap(Wrapped(body, written_time(AT), None))
    line = numbered({"seq": 17, "logged_at": AT, "leaf": leaf_hash(entry), "entry": entry})
    return Shown(line, orjson.loads(body), {} if forgotten else private, {GRACE.user_id.hex: "grace"})  # type: ignore[union-attr]


def lines_of(event: Event) -> list[Shown]:
    return [shown(event), shown(event, forgotten=True)]


def values(told: Any) -> Iterator[Any]:
    """Every value at any depth."""
    yield told
    inner = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    for one in inner:
        yield from values(one)


def check_ocsf(told: Mapping[str, Any]) -> None:
    assert all(value not in (None, "", {}) for value in values(told)), told
    assert told.keys() >= REQUIRED
    assert told["metadata"]["product"]["name"] == "Tidewaiter"
    assert told["metadata"]["version"] == "1.6.0"
    assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
    assert told["category_uid"] == told["class_uid"] // 1000
    assert told["time"] == 1795648417167
    if told["class_uid"] == 3002:
        assert not NOT_IN_3002 & told.keys()
        assert told["user"]["name"]
        assert told["service"]["name"]
    else:
        assert told["class_uid"] == 6003
        assert not NOT_IN_6003 & told.keys()
        assert told["actor"]["user"]["name"]
        assert told["api"]["operation"]
        assert told["src_endpoint"].keys() & {"ip", "name"}


@pytest.mark.parametrize("name", EVENTS)
def test_a_line_of_ocsf_is_an_event_of_its_class(name: str) -> None:
    for one in lines_of(EVENTS[name]):
        told = orjson.loads(formats.ocsf(one, LOG))
        check_ocsf(told)
        assert told["raw_data_hash"] == {"algorithm_id": 3, "value": one.line.leaf.hex()}  # type: ignore[union-attr]


def test_the_checkpoint_in_ocsf_is_an_event_too() -> None:
    told = orjson.loads(formats.ocsf_checkpoint("a note", LOG, 18, 1795648417167))
    check_ocsf(told)
    assert told["unmapped"]["checkpoint"] == "a note"


def test_ocsf_tells_source_proxy_and_what_was_forwarded() -> None:
    told = orjson.loads(formats.ocsf(shown(PULL), LOG))
    assert told["src_endpoint"] == {"ip": "203.0.113.9", "proxy_endpoint": {"ip": "192.0.2.1"}}
    assert told["unmapped"]["forwarded"] == list(FORWARDED)


def test_ocsf_names_before_and_after() -> None:
    told = orjson.loads(formats.ocsf(shown(EVENTS["with changes"]), LOG))
    assert told["unmapped"]["changes"] == {
        "limit": {"after": 5},
        "name": {"before": "a", "after": "b"},
        "archive": "bare",
        "set": {"before": []},
    }


@pytest.mark.parametrize(
    ("action", "outcome", "severity"),
    [
        ("image.pull", Outcome.ALLOWED, 1),
        ("image.pull", Outcome.DENIED, 3),
        ("image.pull", Outcome.FAILED, 2),
        ("audit.verify", Outcome.ALLOWED, 1),
        ("audit.verify", Outcome.FAILED, 5),
        ("audit.fork", Outcome.FAILED, 5),
        ("audit.unreadable", Outcome.FAILED, 5),
        ("audit.anchor", Outcome.ALLOWED, 4),
    ],
)
def test_what_tells_against_the_log_itself_is_grave(action: str, outcome: Outcome, severity: int) -> None:
    told = orjson.loads(formats.ocsf(shown(replace(PULL, action=action, outcome=outcome)), LOG))
    assert told["severity_id"] == severity


def test_a_sign_in_in_ocsf_keeps_its_target() -> None:
    assert orjson.loads(formats.ocsf(shown(EVENTS["a sign-in"]), LOG))["unmapped"]["target"] == "grace"


def check_cloud_event(told: Mapping[str, Any]) -> None:
    assert told.keys() >= {"id", "source", "specversion", "type"}
    assert told["specversion"] == "1.0"
    attributes = {name: value for name, value in told.items() if name != "data"}
    assert all(isinstance(value, str) and value for value in attributes.values()), attributes
    assert all(name.isalnum() and name.islower() for name in attributes)
    source = urlsplit(told["source"])
    assert (source.scheme, source.netloc, source.path) == ("", "127.0.0.1:34427", "/audit/1")


@pytest.mark.parametrize("name", EVENTS)
def test_a_cloud_event_has_what_one_must_have(name: str) -> None:
    for one in lines_of(EVENTS[name]):
        told = orjson.loads(formats.cloud_event(one, LOG))
        check_cloud_event(told)
        assert ("subject" in told) == bool(EVENTS[name].target)
        assert all(value not in (None, "") for field, value in told["data"].items() if field != "change")


def test_the_checkpoint_is_a_cloud_event_too() -> None:
    check_cloud_event(orjson.loads(formats.cloud_checkpoint("a note", LOG, 18)))


def test_a_cloud_event_tells_source_proxy_and_what_was_forwarded() -> None:
    told = orjson.loads(formats.cloud_event(shown(PULL), LOG))
    assert told["data"]["source"] == {"address": "203.0.113.9", "peer": "192.0.2.1", "forwarded": list(FORWARDED)}


def test_a_cloud_event_tells_changes_as_the_log_does() -> None:
    told = orjson.loads(formats.cloud_event(shown(EVENTS["with changes"]), LOG))
    assert told["data"]["change"] == EVENTS["with changes"].changes
