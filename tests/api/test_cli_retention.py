"""A legal hold is put on what there is, or will be soon; what there is of each month is told."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from registry.audit.months import Month
from tests.support.server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("retention") / "server") as server:
        yield server


def this(server: Server) -> Month:
    return Month(server.now.date().replace(day=1))


def said(server: Server) -> dict[str, str]:
    """Of each month."""
    lines = server.command("audit", "segments").stdout.splitlines()
    return {line[:7]: line[9:].strip() for line in lines}


def objects(server: Server) -> dict[str, Any]:
    """What a program is told of each month."""
    lines = server.command("audit", "segments", "--json").stdout.splitlines()
    return {one["month"][:7]: one for one in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("month", "way", "why"),
    [
        ("1999-01", "--on", "1999-01 is over, and has no entries."),
        ("2099-01", "--off", "2099-01 is more than a month ahead."),
    ],
)
def test_a_month_that_has_and_will_have_nothing_is_not_held(server: Server, month: str, way: str, why: str) -> None:
    told = server.command("audit", "hold", "--month", month, way)
    now = this(server).text
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f"tidewaiter: {why} There are entries of {now} in the database.\n"
    assert month not in said(server)


def test_this_month_and_the_next_are_held(server: Server) -> None:
    following = Month(this(server).plus(1)).text
    for month in (this(server).text, following):
        assert server.command("audit", "hold", "--month", month).returncode == 0
    lines, told = said(server), objects(server)
    assert lines[this(server).text] == "in the database, under a legal hold"
    assert lines[following] == "no entries yet, under a legal hold"
    assert (told[this(server).text]["entries"], told[following]["entries"]) == (True, False)
    assert server.command("audit", "hold", "--month", following, "--off").returncode == 0
    assert said(server)[following] == "no entries yet"


def test_where_no_server_ran_there_are_no_entries_to_hold(server: Server) -> None:
    first = this(server)
    empty, later = Month(first.plus(1)), Month(first.plus(2))
    assert server.command("audit", "hold", "--month", empty.text).returncode == 0
    server.advance((later.begin - server.now).total_seconds() + 86_400)
    assert server.command("audit", "list").returncode == 0
    assert said(server)[empty.text] == "no entries, under a legal hold"
    assert server.command("audit", "hold", "--month", empty.text, "--off").returncode == 0, "it was held"
    told = server.command("audit", "hold", "--month", empty.text)
    assert told.stderr.endswith(f"There are entries of {first.text} to {later.text} in the database.\n"), told
