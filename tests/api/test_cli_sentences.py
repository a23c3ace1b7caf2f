"""What operators type by mistake is answered with a sentence and leaves no trace of the program."""

import os
from pathlib import Path

import pytest

from tests.support.processes import run
from tests.support.server import Server


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("prove", "9223372036854775808", "-o", "-"), 2, "9223372036854775807"),
        (("prove", "9223372036854775807", "-o", "-"), 1, "none of them number 9223372036854775807"),
        (("prove", "0", "-o", ""), 1, "cannot be written: Is a directory"),
        (("prove", "0", "-o", "/"), 1, "/ cannot be written: Is a directory"),
        (("export", "-o", ""), 1, "cannot be written: Is a directory"),
        (("archive", "--to", ".", "--month", "9999-12"), 1, "'9999-12' is no month"),
        (("archive", "--to", ".", "--month", "0001-01"), 1, "'0001-01' is no month"),
        (("archive", "--to", ".", "--month", "２０２６-01"), 1, "'２０２６-01' is no month"),
        (("archive", "--to", ".", "--month", "2026-1"), 1, "'2026-1' is no month"),
        (("forget", os.fsdecode(b"a\xffb")), 1, "is not UTF-8"),
        (("forget", "bob", "--reason", os.fsdecode(b"a\xffb")), 1, ""),
        (("hold", "--month", os.fsdecode(b"2026-0\xff")), 1, "is no month"),
        (("forget", "\x1b[2Jbob"), 1, "bob"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(
    tidewaiter: Server, words: tuple[str, ...], status: int, sentence: str, tmp_path: Path
) -> None:
    done = run(["audit", *words], tidewaiter.variables, tmp_path)
    said = done.stderr.decode()
    assert (done.returncode, sentence in said) == (status, True), said
    assert ("Traceback" in said, "\x1b[2J" in said) == (False, False), said
    assert list(tmp_path.iterdir()) == []
