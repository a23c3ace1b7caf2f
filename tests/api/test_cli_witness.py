"""The witness at the machine of whoever runs it: what a server may do to it that does not want to be watched."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer

from api.cli import audit_witness
from registry.audit import witnessing
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.notes import SignerKey, sign
from tests.support.processes import run

SIGNER = SignerKey.generate("log.example/audit/1")
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The address of a server that answers so to every GET, until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def looked(url: str, state: Path, cosign: Path | None = None) -> int:
    with pytest.raises(typer.Exit) as ended:
        audit_witness.witness(url, [str(SIGNER.verifier)], state, cosign=cosign)
    return int(ended.value.exit_code)


def called(*words: str) -> tuple[int, str]:
    done = run(["audit", "witness", *words], os.environ)
    return done.returncode, done.stderr.decode()


def note(size: int, root: bytes) -> str:
    return sign(Checkpoint(SIGNER.name, size, root).text, [SIGNER])


def dripping(first: bytes, drop: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(first)
            while True:
                handler.wfile.write(drop)
                time.sleep(0.01)
        except OSError:
            return

    return answer


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["header", "headers", "body", "chunks"],
)
def test_a_server_that_drips_does_not_hold_the_witness(
    first: bytes, drop: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_witness, "VISIT_SECONDS", 0.3)
    with answering(dripping(first, drop)) as url:
        assert looked(url, tmp_path / "watch.json") == 2
    assert "it took longer than 0.3 seconds" in capsys.readouterr().err


def test_a_server_that_shows_a_checkpoint_and_no_tiles_is_no_answer_and_its_signature_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = note(2, bytes(32))
    state = tmp_path / "watch.json"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/audit/checkpoint":
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(served.encode())
        else:
            handler.send_error(404)

    with answering(answer) as url:
        assert looked(url, state) == 0
        before, served = served, note(4, b"x" * 32)
        assert looked(url, state) == 2
        said = capsys.readouterr().err
        assert "It is not proven that the log of 4 entries continues the 2" in said
        assert "404" in said
        assert f"{state}.unproven" in said
        assert json.loads(state.read_text()) == {SIGNER.name: before}
        assert json.loads(Path(f"{state}.unproven").read_text()) == {SIGNER.name: [served]}
        served = note(4, b"y" * 32)
        assert looked(url, state) == 1
    assert "Two logs of 4 entries" in capsys.readouterr().err
    assert note(4, b"x" * 32) in Path(f"{state}.evidence-1").read_text()


def test_an_address_where_nobody_answers_is_no_answer(tmp_path: Path) -> None:
    with answering(lambda _: None) as url:
        assert looked(url, tmp_path / "watch.json") == 2
    assert looked(url, tmp_path / "watch.json") == 2
    with answering(lambda handler: handler.send_error(502)) as url:
        assert looked(url, tmp_path / "watch.json") == 2


def shown(served: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(served.encode())

    return answer


@pytest.mark.parametrize(
    "words",
    [
        ("http://[",),
        ("ftp://x",),
        ("http://127.0.0.1:1", "--every", "inf"),
        ("http://127.0.0.1:1", "--every", "1e300"),
        ("http://127.0.0.1:1", "--every", "nan"),
        ("http://127.0.0.1:1", "--key", "/dev/null"),
    ],
)
def test_what_cannot_be_meant_is_no_finding(words: tuple[str, ...], tmp_path: Path) -> None:
    status, said = called(*words, "--key", str(SIGNER.verifier), "--state", str(tmp_path / "watch.json"))
    assert (status, "Usage" in said) == (2, True), said


def test_a_cosigned_checkpoint_that_cannot_be_written_is_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "watch.json"
    Path(f"{state}.cosigned").mkdir()
    with answering(shown(note(2, bytes(32)))) as url:
        assert looked(url, state, tmp_path / "witness.key") == 2
    assert f"{state}.cosigned cannot be written: Is a directory." in capsys.readouterr().err


def test_a_contradiction_is_one_though_its_evidence_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> Path:
        raise OSError("No space left on device")

    monkeypatch.setattr(witnessing, "keep_evidence", full)
    state = tmp_path / "watch.json"
    with answering(shown(note(2, bytes(32)))) as url:
        assert looked(url, state) == 0
    with answering(shown(note(2, b"x" * 32))) as url:
        assert looked(url, state) == 1
    said = capsys.readouterr().err
    assert ("they differ" in said, "cannot be kept: No space" in said) == (True, True), said


def test_a_damaged_state_accuses_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "watch.json"
    state.write_text(json.dumps({SIGNER.name: "x"}))
    with answering(shown(note(2, bytes(32)))) as url:
        assert looked(url, state) == 2
    assert f"The state file {state} holds no checkpoints" in capsys.readouterr().err
    assert list(tmp_path.glob("*evidence*")) == []


def test_what_a_server_says_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 \x1b[2J\x9b2Kgone\r\n\r\n")

    with answering(answer) as url:
        assert looked(url, tmp_path / "watch.json") == 2
    said = capsys.readouterr().err
    assert ("gone" in said, said.rstrip("\n").isprintable()) == (True, True), repr(said)
