"""Verifying an export without anything of ours but the public key: whatever is done to the file is found."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.actors import Actor, ActorKind, Origin
from registry.audit import bodies, sealing
from registry.audit.entries import Wrapped, wrap, written_time
from registry.audit.kept import known_elsewhere, notes_in, notes_of
from registry.audit.lines import Span, checkpoint_line, json_line, personal_line
from registry.audit.taking import lines_of
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Incomplete, Tampered
from registry.audit.verifying import verify
from registry.events import Event, Outcome
from registry.transparency import tiles
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import leaf_hash
from registry.transparency.notes import SignerKey, sign

KEY, SALT = b"k" * 32, b"s" * 16
SIGNER = SignerKey.generate("log.example/audit/1")
OTHER = SignerKey.generate("log.example/audit/1")
KNOWN = [SIGNER.verifier]
START = datetime(2026, 10, 30, tzinfo=UTC)
USER = Actor(ActorKind.USER, "bob", UUID(int=7))
SIZE = 40


def entry(number: int) -> bytes:
    organization = UUID(int=number % 3) if number % 3 else None
    at = START + timedelta(hours=number)
    origin = Origin(f"r{number}", f"192.0.2.{number}", "docker")
    event = Event(at, "image.pull", Outcome.ALLOWED, USER, origin, f"acme/web:{number}", organization_id=organization)
    sealed = sealing.seal(sealing.event_key(KEY, SALT), bodies.private_of(event))
    body = bodies.encode(event, SALT, None, sealed, {"source": "0" * 16})
    return wrap(Wrapped(body, written_time(at), number // 3 + 1 if organization else None))


ENTRIES = [entry(number) for number in range(SIZE)]
LEAVES = [leaf_hash(one) for one in ENTRIES]
LINES = [json_line(number, one, LEAVES[number]) for number, one in enumerate(ENTRIES)]


def note(size: int, *signers: SignerKey, origin: str = SIGNER.name) -> str:
    growth = tiles.grow(0, [], LEAVES[:size])
    text = Checkpoint(origin, size, tiles.root_of(size, growth.edge)).text
    return sign(text, signers or (SIGNER,))


WHOLE = [*LINES, checkpoint_line(note(SIZE), Span())]


def excerpt(first: int, end: int, size: int = SIZE) -> list[bytes]:
    growth = tiles.grow(0, [], LEAVES[:size])
    found = {(level, 0): data for level, data in enumerate(growth.edge)}
    proof = tiles.consistency_proof(end, size, found) if end < size else ()
    span = Span(first, tiles.compact_range(first, found), end if end < size else None, proof)
    return [*LINES[first:end], checkpoint_line(note(size), span)]


def test_a_whole_export_is_sound() -> None:
    verdict = verify(WHOLE, KNOWN, known_elsewhere([note(0), note(13), note(SIZE)], KNOWN))
    assert (verdict.status, verdict.entries, verdict.compared) == (SOUND, SIZE, 3)
    assert (verdict.first_at, verdict.last_at) == (written_time(START), written_time(START + timedelta(hours=SIZE - 1)))


def test_an_empty_log_is_sound() -> None:
    assert verify([checkpoint_line(note(0), Span())], KNOWN).status == SOUND


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_any_part_of_the_log_is_sound(one: int, other: int) -> None:
    first, end = sorted((one, other))
    verdict = verify(excerpt(first, end), KNOWN)
    assert (verdict.status, verdict.entries) == (SOUND if first < end else INCOMPLETE, end - first), verdict


@settings(max_examples=400)
@given(st.data())
def test_any_byte_that_is_changed_is_found(data: st.DataObject) -> None:
    lines = list(data.draw(st.sampled_from([WHOLE, excerpt(5, SIZE), excerpt(5, 30)])))
    place = data.draw(st.integers(0, len(lines) - 1))
    line = bytearray(lines[place])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    lines[place] = bytes(line)
    if not means_the_same(lines[place], data):
        assert verify(lines, KNOWN).status != SOUND, (place, at)


def means_the_same(line: bytes, _: st.DataObject) -> bool:
    """A space for another space between two fields, or a number with another zero, is not a change."""
    try:
        told = orjson.loads(line)
    except ValueError:
        return False
    return any(told == orjson.loads(one) for one in [*WHOLE, *excerpt(5, SIZE), *excerpt(5, 30)])


@given(st.data())
def test_any_line_that_is_missing_doubled_or_elsewhere_is_found(data: st.DataObject) -> None:
    lines = list(WHOLE)
    place = data.draw(st.integers(0, SIZE - 1))
    match data.draw(st.sampled_from(["missing", "doubled", "moved"])):
        case "missing":
            del lines[place]
        case "doubled":
            lines.insert(place, lines[place])
        case "moved":
            to = data.draw(st.integers(0, SIZE - 1).filter(lambda other: other != place))
            lines.insert(to, lines.pop(place))
    verdict = verify(lines, KNOWN)
    assert verdict.status == TAMPERED, verdict


def test_the_first_bad_entry_is_named() -> None:
    lines = list(WHOLE)
    lines[17] = lines[17].replace(b'"image.pull"', b'"image.push"')
    verdict = verify(lines, KNOWN)
    assert (verdict.status, verdict.index) == (TAMPERED, 17)
    assert "Entry 17: 'event' is not what the entry's bytes say." in verdict.sentence
    del lines[9]
    assert verify(lines, KNOWN).index == 9


def test_an_entry_changed_with_all_in_its_line_is_narrowed_down_by_checkpoints() -> None:
    forged = ENTRIES[17].replace(b'"image.pull"', b'"image.push"')
    lines = [*LINES[:17], json_line(17, forged, leaf_hash(forged)), *WHOLE[18:]]
    verdict = verify(lines, KNOWN)
    assert (verdict.status, verdict.index) == (TAMPERED, 0)
    verdict = verify(lines, KNOWN, known_elsewhere([note(10), note(15), note(20), note(30)], KNOWN))
    assert (verdict.status, verdict.index) == (TAMPERED, 15)
    assert "from 15 to 19" in verdict.sentence


CUT: dict[str, Callable[[], list[bytes]]] = {
    "the end": lambda: LINES,
    "all": list,
    "within the checkpoint": lambda: [*LINES, WHOLE[-1][:60]],
    "within an entry": lambda: [*LINES[:20], LINES[20][:90]],
    "within an entry's end": lambda: [*LINES[:20], LINES[20][:-1]],
    "what follows": lambda: [*WHOLE, LINES[0]],
    "no export": lambda: [b"hello\n"],
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_was_cut_is_incomplete(name: str) -> None:
    verdict = verify(CUT[name](), KNOWN)
    assert verdict.status == INCOMPLETE, verdict
    assert verdict.index is None


def test_an_export_older_than_a_checkpoint_kept_elsewhere_is_incomplete() -> None:
    old = [*LINES[:20], checkpoint_line(note(20), Span())]
    assert verify(old, KNOWN, known_elsewhere([note(10)], KNOWN)).status == SOUND
    verdict = verify(old, KNOWN, known_elsewhere([note(30)], KNOWN))
    assert verdict.status == INCOMPLETE
    assert "covers 30 entries, the export goes to 20" in verdict.sentence


def test_a_part_is_no_answer_to_a_checkpoint_that_covers_more() -> None:
    """Else whoever cuts off the end only had to say that the rest was not asked for."""
    assert verify(excerpt(0, 30), KNOWN, known_elsewhere([note(30)], KNOWN)).status == SOUND
    for kept in (31, SIZE):
        assert verify(excerpt(0, 30), KNOWN, known_elsewhere([note(kept)], KNOWN)).status == INCOMPLETE
    assert verify(excerpt(0, 0), KNOWN, known_elsewhere([note(0)], KNOWN)).status == INCOMPLETE


def test_another_key_is_refused_and_any_of_several_will_do() -> None:
    verdict = verify(WHOLE, [OTHER.verifier])
    assert verdict.status == TAMPERED
    assert "None of the keys given" in verdict.sentence
    assert verdict.wrong_key
    assert verify(WHOLE, []).status == TAMPERED
    both = [*LINES, checkpoint_line(note(SIZE, OTHER, SIGNER), Span())]
    for keys in ([OTHER.verifier], KNOWN, [OTHER.verifier, *KNOWN]):
        assert verify(both, keys).status == SOUND


def test_a_checkpoint_kept_elsewhere_must_be_signed_too() -> None:
    with pytest.raises(Tampered):
        known_elsewhere([note(10, OTHER)], KNOWN)


def wrongly(place: int, /, **changes: Any) -> bytes:
    """An entry that is in order by itself, but not in its place."""
    return wrap(Wrapped(**({"body": bodies_of(place), "logged_at": written_time(START), "number": None} | changes)))


def bodies_of(number: int) -> bytes:
    told = json.loads(ENTRIES[number])["event"]
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize(
    ("number", "forged", "sentence"),
    [
        (9, wrongly(9), "is dated before"),
        (10, wrongly(10, logged_at=written_time(START + timedelta(hours=10)), number=9), "not the next number"),
        (1, wrongly(1, logged_at=written_time(START + timedelta(hours=1)), number=2), "not the next number"),
    ],
)
def test_a_log_signed_out_of_order_is_found(number: int, forged: bytes, sentence: str) -> None:
    """Even if the signature is right: our own server must not have written it."""
    leaves = [*LEAVES[:number], leaf_hash(forged)]
    growth = tiles.grow(0, [], leaves)
    text = Checkpoint(SIGNER.name, number + 1, tiles.root_of(number + 1, growth.edge)).text
    last = checkpoint_line(sign(text, [SIGNER]), Span())
    verdict = verify([*LINES[:number], json_line(number, forged, leaves[-1]), last], KNOWN)
    assert (verdict.status, verdict.index) == (TAMPERED, number)
    assert sentence in verdict.sentence


def test_a_line_may_be_written_in_another_way_if_it_says_the_same() -> None:
    pretty = [json.dumps(json.loads(line), indent=None).encode() + b"\n" for line in LINES]
    assert pretty != LINES
    assert verify([*pretty, WHOLE[-1]], KNOWN).status == SOUND


@pytest.mark.parametrize(
    ("there", "forged"),
    [
        (b'"v":1}', b'"v":true}'),
        (b'"v":1}', b'"v":1.0}'),
        (b'{"seq":3,', b'{"seq":3.0,'),
        (b'"event":', b'"event":{"action":"image.push"},"event":'),
        (b'"action":"image.pull"', b'"action":"image.push","action":"image.pull"'),
        (b'{"seq":3,', b'{"seq":3,"org_seq":null,'),
    ],
)
def test_what_another_reader_would_read_otherwise_does_not_say_the_same(there: bytes, forged: bytes) -> None:
    line = LINES[3].replace(there, forged)
    assert line != LINES[3]
    verdict = verify([*LINES[:3], line, *WHOLE[4:]], KNOWN)
    assert (verdict.status, verdict.index) in ((TAMPERED, 3), (TAMPERED, None)), verdict


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    """What is given for an export may be anything, such as a few bytes that unpack to many."""

    class Endless(RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    verdict = verify(lines_of(BufferedReader(Endless()).read), KNOWN)
    assert (verdict.status, "longer than" in verdict.sentence) == (INCOMPLETE, True), verdict


@given(st.lists(st.binary(max_size=9)), st.integers(1, 9))
def test_lines_are_those_that_the_file_has(parts: list[bytes], at_once: int) -> None:
    data = b"\n".join(parts)
    assert list(lines_of(BytesIO(data).read, at_once)) == BytesIO(data).readlines()


def test_what_was_opened_is_held_against_what_was_sealed() -> None:
    key = sealing.event_key(KEY, SALT)
    private = sealing.unseal(key, b64decode(json.loads(ENTRIES[3])["event"]["private"]))
    assert private == {"agent": "docker", "source": "192.0.2.3"}
    opened = [*LINES[:3], personal_line(LINES[3], private, key), *WHOLE[4:]]
    assert verify(opened, KNOWN).status == SOUND
    for forged in (
        personal_line(LINES[3], private | {"source": "192.0.2.9"}, key),
        personal_line(LINES[3], private, b"x" * 32),
        opened[3].replace(b'"key":', b'"kex":'),
    ):
        verdict = verify([*LINES[:3], forged, *WHOLE[4:]], KNOWN)
        assert (verdict.status, verdict.index) == (TAMPERED, 3)


def test_the_files_of_checkpoints_are_notes_or_the_lines_of_an_anchor() -> None:
    assert list(notes_in(note(3))) == [note(3)]
    lines = "\n".join(json.dumps({"note": note(size)}) for size in (3, 5)) + "\n\n"
    assert list(notes_in(lines)) == [note(3), note(5)]
    with pytest.raises(Incomplete):
        list(notes_in('{"nothing": 1}\n'))


def test_notes_may_come_with_more_line_ends_and_several_at_once() -> None:
    """As editors, other systems, and `jq -r .note` over an anchor's file write them."""
    cosigned = note(7, SIGNER, OTHER)
    for text, wanted in (
        (note(3) + "\n", [note(3)]),
        ("\n" + note(3) + "\n\n\n", [note(3)]),
        (note(3).replace("\n", "\r\n"), [note(3)]),
        (note(3) + "\n" + cosigned + "\n", [note(3), cosigned]),
        ((note(3) + "\n\n" + cosigned + note(5)).replace("\n", "\r\n"), None),
        (cosigned + "\n" + note(0) + "\n\n" + note(5), [cosigned, note(0), note(5)]),
        (note(3) + note(5), None),
        (note(3)[:-1], None),
        (note(3) + "\n" + note(5)[:-1], None),
        (note(3) + "\nhello\n", None),
    ):
        if wanted is None:
            with pytest.raises(Incomplete):
                list(notes_in(text))
        else:
            assert list(notes_in(text)) == wanted, text


def test_a_file_of_checkpoints_without_one_of_this_log_is_refused() -> None:
    """Nothing would be compared with it, and it would look as if it had been."""
    elsewhere = sign(
        Checkpoint("other.example/audit/1", 3, bytes(32)).text, [SignerKey.generate("other.example/audit/1")]
    )
    mixed = "\n".join(json.dumps({"note": one}) for one in (elsewhere, note(5)))
    assert notes_of(mixed, {SIGNER.name}) == [note(5)]
    damaged = '{"note": 1}\n'
    for text in (elsewhere, json.dumps({"note": elsewhere}), "hello\n", "", note(3)[:-9], damaged):
        with pytest.raises(Incomplete):
            notes_of(text, {SIGNER.name})


def test_a_wrong_signature_under_a_known_key_is_no_wrong_key() -> None:
    forged = note(SIZE).replace(str(SIZE), str(SIZE - 1), 1)
    verdict = verify([*LINES, checkpoint_line(forged, Span())], KNOWN)
    assert (verdict.status, verdict.wrong_key) == (TAMPERED, False)


def test_what_stands_for_the_left_out_beginning_cannot_be_made_up() -> None:
    lines = excerpt(5, SIZE)
    told = json.loads(lines[-1])
    for before in ([], told["before"][:-1], [*told["before"][:-1], b64encode(bytes(32)).decode()], ["x"], None):
        forged = [*lines[:-1], orjson.dumps(told | {"before": before}) + b"\n"]
        assert verify(forged, KNOWN).status == TAMPERED
    for since in (4, 6, 0):
        forged = [*lines[:-1], orjson.dumps(told | {"from": since}) + b"\n"]
        assert verify(forged, KNOWN).status == TAMPERED


def test_an_end_cannot_be_made_up() -> None:
    lines = excerpt(5, 30)
    told = json.loads(lines[-1])
    for change in ({"to": 29}, {"to": 31}, {"consistency": []}, {"consistency": ["x"]}, {"to": SIZE + 1}):
        forged = [*lines[:-1], orjson.dumps(told | change) + b"\n"]
        assert verify(forged, KNOWN).status == TAMPERED, change


NEXT = SignerKey.generate("log.example/audit/2")
BOTH = [*KNOWN, NEXT.verifier]


def test_a_key_signs_for_no_log_of_another_name() -> None:
    for forged in (note(SIZE, NEXT), note(SIZE, SIGNER, origin=NEXT.name)):
        verdict = verify([*LINES, checkpoint_line(forged, Span())], BOTH)
        assert (verdict.status, verdict.wrong_key) == (TAMPERED, True), verdict
        with pytest.raises(Tampered):
            known_elsewhere([forged], BOTH)


@pytest.mark.parametrize("size", [10, SIZE, SIZE + 5])
@pytest.mark.parametrize("first", [0, 20])
def test_checkpoints_of_another_log_are_passed_over(size: int, first: int) -> None:
    """As the file of an anchor holds them after a new log was opened."""
    other = sign(Checkpoint(NEXT.name, size, bytes(32)).text, [NEXT])
    for outside, compared in (([other], 0), ([other, note(SIZE), note(30)], 2)):
        verdict = verify(excerpt(first, SIZE), BOTH, known_elsewhere(outside, BOTH))
        assert (verdict.status, verdict.compared, verdict.passed_over) == (SOUND, compared, (size,)), verdict
    wrong = [sign(Checkpoint(SIGNER.name, at, bytes(32)).text, [SIGNER]) for at in (25, 30)]
    verdict = verify(excerpt(first, SIZE), BOTH, known_elsewhere([other, note(22), *wrong], BOTH))
    assert (verdict.status, verdict.index) == (TAMPERED, 22), verdict


@pytest.mark.parametrize("scope", [[], "abc", None, 5, {"organization": 5}, {"organization": None}])
def test_a_scope_that_is_none_is_a_finding(scope: Any) -> None:
    forged = wrap(Wrapped(orjson.dumps({"scope": scope}), written_time(START)))
    line = json_line(0, forged, leaf_hash(forged))
    verdict = verify([line, *WHOLE[1:]], KNOWN)
    assert (verdict.status, verdict.index) == (TAMPERED, 0), verdict
