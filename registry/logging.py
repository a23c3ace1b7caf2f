"""How log lines look: one event a line on standard error, JSON for programs or plain text for people.

Modules say `log = structlog.get_logger("room")`. Each line carries what the request bound to its context,
such as its id. Lines of libraries, which log through the standard library, come out in the same form. No line
may hold a secret: values whose name tells of one are left out, and in any text the passwords of URLs and
signed tokens.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from registry.settings import Settings

HIDDEN = "(hidden)"
TALKATIVE = ("alembic", "casbin", "uvicorn")  # at "info" they tell of their own start
_SECRET_NAME = re.compile(r"password|passwd|secret|authorization|token|cookie|credential|private_?key", re.I)
_URL_PASSWORD = re.compile(r"://[^\s/@:'\"]*:[^\s@'\"]+@")
_SIGNED_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")


class RoomLogger(structlog.WriteLogger):
    """Writes the lines of one room."""

    def __init__(self, file: TextIO, name: str = "tidewaiter") -> None:
        super().__init__(file)
        self.name = name


class LibraryHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of libraries. A type of its own: a second set-up finds the first by it."""


def set_up_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Sends the lines of this process to `stream`, else to standard error. The last call holds."""
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    rendering = _json_lines() if settings.log_format == "json" else _console_lines(stream)
    structlog.configure(
        processors=[*_common(), *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *name: RoomLogger(stream, *name),
        cache_logger_on_first_use=False,
    )
    _bridge(stream, level, rendering)


def _bridge(stream: TextIO, level: int, rendering: Sequence[Processor]) -> None:
    """Gives the lines of libraries, uvicorn's among them, the same form."""
    handler = LibraryHandler(stream)
    prepared = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[prepared, *rendering], foreign_pre_chain=[_named_by_library, *_common()]
        )
    )
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, LibraryHandler)] + [handler]
    root.setLevel(level)
    for name in list(root.manager.loggerDict):
        if name.split(".")[0] in TALKATIVE:
            _hand_on(logging.getLogger(name))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger("uvicorn.access").disabled = True  # api.requests writes these lines


def _hand_on(library: logging.Logger) -> None:
    """Undoes what a library set up for itself: its lines go up to the root, its level is that of the one above."""
    library.handlers.clear()
    library.propagate, library.disabled = True, False
    library.setLevel(logging.NOTSET)


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
        _ordered,
    ]


def _json_lines() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json), _hide_in_text]


def _console_lines(stream: TextIO) -> list[Processor]:
    """Traces without the values of variables: those may be secrets."""
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain, sort_keys=False),
        _hide_in_text,
    ]


def hide_secrets(_: object, __: str, event: EventDict) -> EventDict:
    return {name: _without_secrets(value) for name, value in event.items() if not _is_secret(name)}


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Remembered: each line asks for each of its names, and they are always the same few."""
    return _SECRET_NAME.search(name) is not None


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_secrets(inner) for name, inner in value.items() if not _is_secret(str(name))}
    return value


def _hide_in_text(_: object, __: str, line: Any) -> str:
    text = str(line)
    if "://" in text:
        text = _URL_PASSWORD.sub(f"://{HIDDEN}@", text)
    return _SIGNED_TOKEN.sub(HIDDEN, text) if "eyJ" in text else text


def _named_by_library(_: object, __: str, event: EventDict) -> EventDict:
    event["room"] = event["_record"].name
    return event


def _ordered(logger: Any, _: str, event: EventDict) -> EventDict:
    """What a reader looks for first comes first."""
    room = event.pop("room", None) or getattr(logger, "name", "tidewaiter")
    head = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "room": room}
    return {**head, "event": event.pop("event"), **event}


def _json(event: EventDict, default: Any) -> str:
    return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
