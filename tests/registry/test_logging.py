import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from registry.logging import TALKATIVE, set_up_logging
from registry.settings import Settings


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """A test that sets up logging puts it back: the next one may count on what the process began with."""
    touched = [
        logging.getLogger(name)
        for name in (None, *TALKATIVE, "uvicorn.error", "uvicorn.access", "alembic.runtime.migration")
    ]
    before = [(list(each.handlers), each.level, each.propagate, each.disabled) for each in touched]
    yield
    structlog.reset_defaults()
    for each, (handlers, level, propagate, disabled) in zip(touched, before, strict=True):
        each.handlers, each.propagate, each.disabled = handlers, propagate, disabled
        each.setLevel(level)


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(Settings(log_format="json", log_level="info"), stream)
    return stream


def last(lines: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return line


def test_a_line_is_json_with_its_head_first(lines: io.StringIO) -> None:
    structlog.get_logger("quotas").info("reserved", bytes=12)
    assert list(last(lines)) == ["timestamp", "level", "room", "event", "bytes"]
    assert last(lines)["room"] == "quotas"
    assert last(lines)["timestamp"].endswith("Z")


def test_every_line_of_a_request_carries_its_id(lines: io.StringIO) -> None:
    with bound_contextvars(request_id="abc"):
        structlog.get_logger("quotas").info("reserved")
        assert last(lines)["request_id"] == "abc"
        logging.getLogger("uvicorn.error").warning("hm")
        assert last(lines)["request_id"] == "abc"
    structlog.get_logger("quotas").info("reserved")
    assert "request_id" not in last(lines)


def test_lines_of_libraries_take_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("asyncio").info("Started on %s", "127.0.0.1")
    line = last(lines)
    assert (line["level"], line["room"], line["event"]) == ("info", "asyncio", "Started on 127.0.0.1")


@pytest.mark.parametrize("library", ["uvicorn.error", "alembic.runtime.migration", "casbin"])
@pytest.mark.parametrize("set_up_for_itself", [False, True])
def test_talkative_libraries_are_heard_only_when_something_is_wrong(library: str, set_up_for_itself: bool) -> None:
    """Whatever they set up for themselves before."""
    lines, elsewhere, logger = io.StringIO(), io.StringIO(), logging.getLogger(library)
    if set_up_for_itself:
        logger.addHandler(logging.StreamHandler(elsewhere))
        logger.propagate, logger.disabled = False, True
        logger.setLevel(logging.DEBUG)
    set_up_logging(Settings(log_format="json", log_level="info"), lines)
    logger.info("I begin")
    assert lines.getvalue() == ""
    logger.warning("hm")
    line = last(lines)
    assert (line["level"], line["room"], line["event"]) == ("warning", library, "hm")
    assert elsewhere.getvalue() == ""


def test_uvicorns_own_access_lines_are_off(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.access").info("GET /")
    assert lines.getvalue() == ""


def test_lines_below_the_level_are_not_written(lines: io.StringIO) -> None:
    structlog.get_logger("quotas").debug("thinking")
    logging.getLogger("asyncio").debug("thinking")
    assert lines.getvalue() == ""


def test_values_named_like_secrets_are_left_out(lines: io.StringIO) -> None:
    secrets = {
        "password": "hunter2",
        "Authorization": "hunter2",
        "access_token": "hunter2",
        "cookie": "hunter2",
    }
    structlog.get_logger("accounts").info("signed in", user="ann", headers=secrets, **secrets)
    assert "hunter2" not in lines.getvalue()
    assert last(lines)["user"] == "ann"


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_in_text_and_traces_are_hidden(form: str) -> None:
    lines = io.StringIO()
    set_up_logging(Settings(log_format=form), lines)  # type: ignore[arg-type]
    log = structlog.get_logger("storage")
    password = "hunter2"
    try:
        raise ConnectionError(f"no way to postgresql://ann:{password}@db.example/name")
    except ConnectionError:
        log.exception("database lost")
        logging.getLogger("asyncpg").exception("lost with eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl")
    told = lines.getvalue()
    assert told.count("postgresql://(hidden)@db.example/name") >= 2
    assert told.count("Traceback") == 2
    assert "hunter2" not in told
    assert "eyJ" not in told


def test_a_console_line_reads_as_text() -> None:
    lines = io.StringIO()
    set_up_logging(Settings(log_format="console"), lines)
    structlog.get_logger("quotas").warning("nearly full", used=9)
    assert "nearly full" in lines.getvalue()
    assert "used=9" in lines.getvalue()
    assert "\x1b" not in lines.getvalue()


def test_a_second_set_up_replaces_the_first(lines: io.StringIO) -> None:
    second = io.StringIO()
    set_up_logging(Settings(log_format="json"), second)
    logging.getLogger("asyncpg").warning("hm")
    structlog.get_logger("quotas").warning("hm")
    assert lines.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 2


def test_values_that_json_does_not_know_are_still_written(lines: io.StringIO) -> None:
    structlog.get_logger("storage").info("odd", value={1, 2}, by_number={1: object})
    assert last(lines)["event"] == "odd"


def test_no_event_can_forge_another_line(lines: io.StringIO) -> None:
    structlog.get_logger("storage").info('x\n{"level": "forged"}')
    assert len(lines.getvalue().splitlines()) == 1
