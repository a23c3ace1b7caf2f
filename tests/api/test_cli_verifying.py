"""What `audit verify` says to people who copy files about: faults of what they give are told apart from findings."""

import gzip
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.transparency.notes import SignerKey
from tests.support.processes import COMMAND, run
from tests.support.server import Server

WHOLE, PART = "log.jsonl", "part.jsonl"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an auditor works: an export, a proof of its entry 1, and the key."""

    folder: Path
    key: str

    def verify(self, file: str, *words: str, key: str | None = None, stdin: bytes = b"") -> tuple[int, str]:
        done = run(["audit", "verify", file, "--key", key or self.key, *words], os.environ, self.folder, stdin)
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.decode()

    def write(self, name: str, content: str | bytes) -> str:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def desk(tidewaiter: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    desk = Desk(folder, tidewaiter.command("audit", "key").stdout.strip())
    desk.write("early.txt", tidewaiter.command("audit", "checkpoint").stdout)
    tidewaiter.command("audit", "list", "-n", "1")
    desk.write("kept.txt", tidewaiter.command("audit", "checkpoint").stdout)
    for words in (f"export -o {folder / WHOLE}", f"prove 1 -o {folder / 'proof'}"):
        assert tidewaiter.command("audit", *words.split()).returncode == 0
    second = json.loads(desk.read(WHOLE).splitlines()[1])
    done = tidewaiter.command("audit", "export", "-o", str(folder / PART), "--since", second["logged_at"])
    assert done.returncode == 0
    yield desk


@pytest.mark.parametrize("ends", ["\n\n", "", "\n\n\n", "\r\n"])
def test_a_proof_that_was_copied_is_a_proof_still(desk: Desk, ends: str) -> None:
    text = desk.read("proof").rstrip("\n") + ends
    desk.write("copied", text if "\r" not in ends else desk.read("proof").replace("\n", "\r\n"))
    assert desk.verify("copied")[0] == 0
    desk.write("marked", "\ufeff" + text)
    assert desk.verify("marked")[0] == 0


def test_the_answer_of_the_api_may_be_kept_as_it_came(desk: Desk) -> None:
    desk.write("answer.json", json.dumps({"data": {"auditProof": {"text": desk.read("proof")}}}, separators=(",", ":")))
    assert desk.verify("answer.json")[0] == 0
    desk.write("empty.json", '{"data":{"auditProof":null}}')
    assert (desk.verify("empty.json")[0], "auditProof" in desk.verify("empty.json")[1]) == (2, True)


@pytest.mark.parametrize("cut", [1, 30, 90, 200])
def test_a_proof_that_was_damaged_in_copying_accuses_nobody(desk: Desk, cut: int) -> None:
    desk.write("damaged", desk.read("proof").rstrip("\n")[:-cut])
    assert desk.verify("damaged")[0] == 2


def test_an_entry_is_given_as_its_line_in_an_export_has_it(desk: Desk) -> None:
    bare = "\n".join(line for line in desk.read("proof").split("\n") if not line.startswith("extra "))
    lines = desk.read(WHOLE).splitlines()
    for name, content, status in (
        ("line", lines[1] + "\n", 0),
        ("base64", json.loads(lines[1])["entry"] + "\n", 0),
        ("another", lines[2], 1),
        ("rubbish", "rubbish", 2),
        ("no entry", '{"seq":1}', 2),
    ):
        desk.write(name, content)
        assert desk.verify(desk.write("bare", bare), "--entry", name)[0] == status, name


def test_a_kept_checkpoint_that_cannot_be_used_is_the_one_at_fault(desk: Desk) -> None:
    other = SignerKey.generate(desk.key.partition("+")[0]).verifier
    lines = desk.read("kept.txt").split("\n")
    lines[1] = str(int(lines[1]) + 1)
    desk.write("changed.txt", "\n".join(lines))
    status, told = desk.verify(WHOLE, "--checkpoint", "changed.txt")
    assert (status, told.startswith(f"{WHOLE} was not verified. The checkpoint changed.txt")) == (2, True), told
    status, told = desk.verify(WHOLE, "--checkpoint", "kept.txt", key=str(other))
    assert (status, "give the older one too" in told) == (2, True), told
    assert "is signed by none" in desk.verify(WHOLE, key=str(other))[1]


def test_what_was_compared_and_what_stays_open_is_said(desk: Desk) -> None:
    size, early = (int(desk.read(name).split("\n")[1]) for name in ("kept.txt", "early.txt"))
    told = desk.verify(WHOLE, "--checkpoint", "kept.txt", "--checkpoint", "early.txt")[1]
    assert f"with 2 checkpoints kept elsewhere, the newest of {size} entries" in told
    assert "only a newer checkpoint would tell" in told
    assert "give --checkpoint" in desk.verify(WHOLE)[1]
    told = desk.verify("proof", "--checkpoint", "early.txt")[1]
    assert f"Passed over  those of {early} entries" in told
    assert json.loads(desk.verify("proof", "--checkpoint", "early.txt", "--json")[1])["passed_over"] == [early]


def test_a_wrong_path_is_no_finding(desk: Desk) -> None:
    for words, what in (
        ((WHOLE, "--checkpoint", "nowhere"), "The checkpoint nowhere cannot be compared. No such file"),
        (("nowhere",), "It cannot be read"),
        (("proof", "--entry", "nowhere"), "The entry nowhere cannot be read: No such file"),
    ):
        status, told = desk.verify(*words)
        assert (status, f"{words[0]} was not verified" in told, what in told) == (2, True, True), told
    status, told = desk.verify(WHOLE, key="nowhere.vkey")
    assert status == 2
    assert told == f"{WHOLE} was not verified. The key nowhere.vkey cannot be read: No such file or directory.\n"


def test_what_stands_in_another_form_is_told_so(desk: Desk) -> None:
    desk.write("siem", '{"class_uid":6003}\n')
    assert "not in the format jsonl" in desk.verify("siem")[1]


def test_an_export_comes_through_a_pipe_too(desk: Desk) -> None:
    whole = (desk.folder / WHOLE).read_bytes()
    assert desk.verify("-", stdin=whole)[0] == 0
    assert desk.verify("-", stdin=(desk.folder / "proof").read_bytes())[0] == 0
    (desk.folder / "log.jsonl.gz").write_bytes(gzip.compress(whole))
    assert desk.verify("log.jsonl.gz")[0] == 0


def test_what_comes_through_a_pipe_may_come_in_drops(desk: Desk) -> None:
    for name in ("proof", WHOLE):
        content = (desk.folder / name).read_bytes()
        given: list[str | Path] = [COMMAND, "audit", "verify", "/dev/stdin", "--key", desk.key]
        with subprocess.Popen(given, cwd=desk.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for piece in (content[:2], content[2:9], content[9:]):
                process.stdin.write(piece)
                process.stdin.flush()
                time.sleep(0.3)
            process.stdin.close()
            said = process.stdout.read()
        assert (process.returncode, b"is sound" in said) == (0, True), said


def test_a_file_without_a_key_is_no_key(desk: Desk) -> None:
    status, told = desk.verify(WHOLE, key="/dev/null")
    assert (status, told) == (2, f"{WHOLE} was not verified. What was given as --key /dev/null holds no key.\n")
