"""What may become an entry: whatever this registry writes, and nothing that would harm those who read or verify."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.access import Level
from registry.actors import ANONYMOUS, SYSTEM, Actor, ActorKind, Origin
from registry.audit import bodies, formats, sealing
from registry.audit.admitting import admit
from registry.audit.entries import Wrapped, columns_of, organization_in, wrap, written_time
from registry.audit.showing import Line, Shown
from registry.audit.subjects import subject_of
from registry.events import Event, Grounds, Outcome
from registry.transparency.merkle import leaf_hash

AT = datetime(2026, 11, 25, tzinfo=UTC)
KEY, SALT = bytes(32), bytes(range(16))
TEXT = st.text(max_size=40) | st.sampled_from(['"organization":"', "\u2028", "\x00", "\ud800", "a" * 5000])
WORD = st.from_regex("[A-Za-z_. ]{0,20}", fullmatch=True)  # what only we write
LEVELS = st.sampled_from([None, "NONE", *Level.__members__])
IDS = st.none() | st.uuids(version=4)
PLAIN = st.none() | st.booleans() | st.integers() | TEXT | st.datetimes(timezones=st.just(UTC)) | st.uuids()
VALUES = st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(WORD, one), max_leaves=8)
CHANGES = st.dictionaries(WORD, VALUES)


@st.composite
def events(draw: st.DrawFn) -> Event:
    user = Actor(
        ActorKind.USER, draw(TEXT), draw(st.uuids()), None, 0, draw(IDS), draw(st.sampled_from([None, *Level]))
    )
    origin = Origin(draw(WORD), draw(WORD), draw(TEXT))
    return Event(
        draw(st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC))),
        draw(st.sampled_from(["image.pull", "audit.read"])),
        draw(st.sampled_from(Outcome)),
        draw(st.sampled_from([SYSTEM, ANONYMOUS, user])),
        origin,
        draw(TEXT),
        *(draw(IDS) for _ in range(3)),
        digest=draw(st.none() | WORD),
        reason_code=draw(st.none() | WORD),
        reason=draw(st.none() | TEXT),
        grounds=draw(st.none() | st.builds(Grounds, WORD, LEVELS, LEVELS, WORD)),
        stated=draw(st.none() | TEXT),
        about=draw(st.none() | TEXT),
        media_type=draw(st.none() | TEXT),
        size=draw(st.none() | st.integers(0, 2**53)),
        changes=draw(CHANGES),
    )


def encoded(event: Event) -> bytes:
    private = bodies.private_of(event)
    sealed = sealing.seal(sealing.event_key(KEY, SALT), private) if private else None
    tags = {kind: sealing.tag(KEY, kind, "x") for kind in ("source", "name")}
    return bodies.encode(event, SALT, subject_of(event), sealed, tags)


@given(events())
def test_whatever_is_written_here_is_admitted(event: Event) -> None:
    body = encoded(event)
    taken, columns = admit(body, AT)
    assert taken == body
    assert columns[:3] == (event.id.hex, *(one and one.hex for one in (event.account_id, event.organization_id)))


VALID: dict[str, Any] = orjson.loads(
    encoded(
        Event(
            AT,
            "image.pull",
            Outcome.DENIED,
            Actor(ActorKind.USER, "grace", UUID(int=1), UUID(int=2), 0, UUID(int=3)),
            Origin("0" * 32, "192.0.2.1", "docker"),
            "acme/web:1.0",
            UUID(int=2),
            UUID(int=4),
            UUID(int=5),
            "sha256:" + "0" * 64,
            reason_code="DENIED",
            reason="no",
            grounds=Grounds("r", "READ", "WRITE"),
            stated="because",
            media_type="a/b",
            size=7,
            changes={"digest": [None, "x"]},
        )
    )
)
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(
        ["-fffffffffffffff", "f" * 16, "0x" + "f" * 14, "2026-13-01T00:00:00.000000Z", "2026-01-01", "====", "f" * 32]
    ),
    lambda one: (
        st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["organization", "name", "id", "kind"]), one)
    ),
    max_leaves=4,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event, with something put into the place of something, or beside it, or taken away."""
    event = orjson.loads(orjson.dumps(VALID))
    for _ in range(draw(st.integers(1, 3))):
        group = event
        if draw(st.booleans()):
            inner = [value for value in event.values() if isinstance(value, dict)]
            group = draw(st.sampled_from(inner)) if inner else event
        name = draw(st.sampled_from([*group, "organization", "unheard"]))
        if draw(st.booleans()) or name not in group:
            group[name] = draw(ODD)
        else:
            del group[name]
    return event


@given(mutated())
def test_what_was_admitted_harms_nobody_who_reads_or_verifies(event: dict[str, Any]) -> None:
    body, columns = admit(orjson.dumps(event, option=orjson.OPT_SORT_KEYS), AT)
    number = None if columns[2] is None else 7
    entry = wrap(Wrapped(body, written_time(AT), number))
    assert columns_of(Wrapped(body, written_time(AT), number))[4:] == columns[4:]
    assert number is None or organization_in(entry).decode() == columns[2]
    line = Line(body, 1, AT, leaf_hash(entry), number, entry)
    shown = Shown(line, orjson.loads(body), {}, {})
    for form in (formats.ocsf, formats.cloud_event):
        orjson.loads(form(shown, "log"))
    assert isinstance(shown.occurred_at, datetime)
    assert all(isinstance(text, str) for text in (shown.actor_name, shown.target))


BYTES: list[Callable[[bytes], bytes]] = [
    lambda body: b" " + body,
    lambda body: body + b"\n",
    lambda body: body.replace(b'"v":1', b'"v": 1'),
    lambda body: body.replace(b'"v":1', b'"v":1.0'),
    lambda body: body.replace(b'{"action"', b'{"v":1,"action"'),
    lambda body: body.replace(b'"grace"', b'"\xff"').replace(b'"image.pull"', b'"\xff"'),
    lambda body: body[:-1],
    lambda body: b"[" * 100_000,
    lambda body: b"",
]


@pytest.mark.parametrize("change", BYTES, ids=range(len(BYTES)))
def test_bytes_that_could_be_written_otherwise_are_not_admitted(change: Callable[[bytes], bytes]) -> None:
    body = orjson.dumps(VALID, option=orjson.OPT_SORT_KEYS)
    assert admit(body, AT)[0] == body
    told = orjson.loads(admit(change(body), AT)[0])
    assert told["action"] == "audit.unreadable"


def test_an_organization_behind_the_scope_is_not_admitted() -> None:
    """Who verifies without parsing would count the entry for that one."""
    event = orjson.loads(orjson.dumps(VALID))
    event["target"]["organization"] = "f" * 32
    assert orjson.loads(admit(orjson.dumps(event, option=orjson.OPT_SORT_KEYS), AT)[0])["action"] == "audit.unreadable"
