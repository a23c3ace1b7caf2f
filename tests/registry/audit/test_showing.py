"""What was typed is shown as it was typed, whatever it looks like; and people by the names they have now."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from registry.actors import Actor, ActorKind, Origin
from registry.audit import bodies
from registry.audit.showing import Line, Shown
from registry.events import Event, Outcome

ADA = UUID(int=0xADA)
EVENT = Event(
    datetime(2026, 11, 26, tzinfo=UTC),
    "image.pull",
    Outcome.DENIED,
    Actor(ActorKind.USER, "ada", ADA),
    Origin(),
    "acme",
)
LIKE_A_USER = st.lists(st.sampled_from(["user", "_", ADA.hex, "acme/", "a", ":", "~", " "]), max_size=9).map("".join)


def shown(event: Event) -> Shown:
    body = bodies.encode(event, b"s" * 16, None, None, {})
    return Shown(Line(body), orjson.loads(body), {}, {ADA.hex: "ada"})


@given(LIKE_A_USER)
def test_what_looks_like_a_user_and_was_typed_is_shown_as_it_was_typed(text: str) -> None:
    event = replace(EVENT, target=text, reason=text or None, stated=text or None, changes={"name": [None, text]})
    one = shown(event)
    assert (one.target, one.reason or "", one.changes["name"][1]) == (text, text, text)
    assert shown(replace(event, reason=None)).reason == (text or None)


@given(LIKE_A_USER)
def test_whom_an_entry_is_about_is_shown_by_name_beside_what_was_typed(text: str) -> None:
    event = replace(EVENT, target=f"{text}:lovelace", about="lovelace", about_id=ADA, reason=f"{text} 'lovelace'")
    one = shown(event)
    assert (one.target, one.reason) == (f"{text}:ada", f"{text} 'ada'")
    assert b"lovelace" not in one.line.body
