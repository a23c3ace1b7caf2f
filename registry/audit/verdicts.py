"""What a verification comes to: sound, tampered with, or not enough to tell."""

from dataclasses import dataclass
from typing import Any

SOUND, TAMPERED, INCOMPLETE = 0, 1, 2


class Tampered(Exception):
    """`index` is the first entry where it shows; None when it cannot be told."""

    def __init__(self, sentence: str, index: int | None = None) -> None:
        super().__init__(sentence)
        self.index = index


class SignedByNone(Tampered):
    """None of the keys given has signed, so that nothing can be told of what was signed."""


class Incomplete(Exception):
    """What was given is not enough to verify."""


class Unusable(Incomplete):
    """Something that was given besides cannot be used, so that nothing was verified at all."""


@dataclass(slots=True)
class Verdict:
    """`status` is SOUND, TAMPERED or INCOMPLETE; `sentence` says it to a person. `wrong_key` says that none of the keys
    given has signed, which may mean no more than that. `spans` are the first and last numbers of what was there, and
    `event` what was proven by itself. Of the checkpoints kept elsewhere so many were `compared`, the newest of
    `compared_to` entries; those of the sizes `passed_over` could not be. `untried`: nothing was verified."""

    status: int
    sentence: str
    index: int | None = None
    origin: str | None = None
    size: int = 0
    since: int = 0
    entries: int = 0
    root: bytes = b""
    keys: tuple[str, ...] = ()
    compared: int = 0
    compared_to: int = 0
    passed_over: tuple[int, ...] = ()
    untried: bool = False
    first_at: str | None = None
    last_at: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    wrong_key: bool = False
    event: dict[str, Any] | None = None
