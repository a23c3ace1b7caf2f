"""What `audit verify` says of its verdict, to a person or to a script."""

from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

import orjson

from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Verdict

STATUS = {SOUND: "sound", TAMPERED: "TAMPERED WITH", INCOMPLETE: "incomplete"}


def as_json(verdict: Verdict) -> str:
    told = asdict(verdict) | {"root": b64encode(verdict.root).decode(), "verdict": STATUS[verdict.status].lower()}
    return orjson.dumps(told).decode()


def told(verdict: Verdict, file: Path | None) -> str:
    what = "The log in the database" if file is None else str(file)
    if verdict.untried:
        return f"{what} was not verified. {verdict.sentence}"
    if verdict.wrong_key:
        return (
            f"{what} is signed by none of the keys given. Look first whether the key is this log's, and not that of "
            f"another or an earlier one. If it is the right key, {what} is {STATUS[verdict.status]}. {verdict.sentence}"
        )
    if verdict.status != SOUND:
        return f"{what} is {STATUS[verdict.status]}. {verdict.sentence}"
    return "\n".join([f"{what} is sound.", *_found(verdict), *_compared(verdict)])


def _found(verdict: Verdict) -> list[str]:
    times = [verdict.first_at, verdict.last_at]
    return [
        f"  Log          {verdict.origin}",
        f"  Entries      {verdict.entries}{_numbers(verdict)}",
        f"  Times        {' to '.join(filter(None, times)) or 'none'}",
        f"  Root         {b64encode(verdict.root).decode()}",
        *(f"  Signed by    {key}" for key in verdict.keys),
        *([] if verdict.event is None else [f"  Event        {orjson.dumps(verdict.event).decode()}"]),
    ]


def _compared(verdict: Verdict) -> list[str]:
    """What was held against it, what could not be, and what remains open."""
    number, behind = verdict.compared, verdict.compared_to
    newest = f", the newest of {behind} entries" if number else ""
    lines = [f"  Compared     with {number} checkpoint{'' if number == 1 else 's'} kept elsewhere{newest}"]
    if verdict.passed_over:
        sizes = ", ".join(map(str, verdict.passed_over))
        lines.append(f"  Passed over  those of {sizes} entries, which this has not to be compared with")
    if verdict.event is None:
        lines.append(_open_end(verdict))
    return lines


def _open_end(verdict: Verdict) -> str:
    if not verdict.compared:
        return "  Not proven   that the end was not cut off: give --checkpoint with one that was kept elsewhere"
    last = verdict.since + verdict.entries - 1
    return f"  Not proven   that nothing came after entry {last}: only a newer checkpoint would tell"


def _numbers(verdict: Verdict) -> str:
    """Where months were dropped from the midst, there are several spans."""
    if not verdict.entries:
        return f" of {verdict.size}"
    spans = verdict.spans or ((verdict.since, verdict.since + verdict.entries - 1),)
    told = (str(begin) if begin == end else f"{begin} to {end}" for begin, end in spans)
    return f", numbered {' and '.join(told)}, of {verdict.size}"
