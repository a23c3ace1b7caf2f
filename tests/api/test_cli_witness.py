"""The witness at the machine of whoever runs it: what a server may do to it that does not want to be watched."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer

from api.cli import audit_witness
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.notes import SignerKey, sign

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


def looked(url: str, state: Path) -> int:
    with pytest.raises(typer.Exit) as ended:
        audit_witness.witness(url, [str(SIGNER.verifier)], state)
    return int(ended.value.exit_code)


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
