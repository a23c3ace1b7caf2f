"""Commands load when they are called, and only what they need; what help says of each is its own words all the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from api.cli import app
from registry.audit.lines import Span, checkpoint_line
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import CompactRange
from registry.transparency.notes import SignerKey, sign

DATABASE = {"sqlalchemy", "sqlmodel", "asyncpg", "alembic"}
TELEMETRY = {"opentelemetry", "prometheus_client"}
DOORS = {"starlette", "strawberry", "uvicorn"}
ELSEWHERE = DATABASE | TELEMETRY | DOORS | {"pydantic_settings", "casbin", "joserfc", "structlog"}
"""What nobody needs who has none of our settings, accounts or keys."""
SIGNER = SignerKey.generate("registry.example/audit/1")
CALL = """
import sys
from api.cli import app
status = app(sys.argv[1:], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


def called(*words: str | Path) -> tuple[int, str, set[str]]:
    """The command's exit status, what it prints, and what is loaded then, in a process of its own."""
    environment = os.environ | {"COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    loaded = done.stderr.splitlines()[-1]
    return done.returncode, done.stdout, set(loaded.split())


def test_an_export_is_verified_with_nothing_of_a_server(tmp_path: Path) -> None:
    export = tmp_path / "log.jsonl"
    note = sign(Checkpoint(SIGNER.name, 0, CompactRange().root()).text, [SIGNER])
    export.write_bytes(checkpoint_line(note, Span()))
    status, said, loaded = called("audit", "verify", export, "--key", str(SIGNER.verifier))
    assert (status, "is sound" in said) == (0, True), said
    assert not loaded & ELSEWHERE


def test_a_log_is_witnessed_with_nothing_of_a_server(tmp_path: Path) -> None:
    words = ("audit", "witness", "http://127.0.0.1:9", "--key", str(SIGNER.verifier), "--state", tmp_path / "state")
    status, _, loaded = called(*words)
    assert status == 2
    assert not loaded & ELSEWHERE


def test_a_key_is_printed_without_database_and_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "audit-signing.key").write_text(f"{SIGNER}\n")
    monkeypatch.setenv("TIDEWAITER_DATA", str(tmp_path))
    status, said, loaded = called("audit", "key")
    assert (status, said) == (0, f"{SIGNER.verifier}\n")
    assert not loaded & (DATABASE | TELEMETRY | DOORS)


def test_all_keys_are_those_that_sign_and_those_that_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be kept: with it, exports from before are verified too."""
    older, oldest = (SignerKey.generate(SIGNER.name) for _ in range(2))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "audit-signing.key").write_text(f"{SIGNER}\n{older}\n")
    (tmp_path / "keys" / "audit-retired.vkeys").write_text(f"{oldest.verifier}\n")
    monkeypatch.setenv("TIDEWAITER_DATA", str(tmp_path))
    status, said, _ = called("audit", "key", "--all")
    assert (status, said.splitlines()) == (0, [str(one.verifier) for one in (SIGNER, older, oldest)])


@pytest.mark.parametrize("words", [("user", "list"), ("audit", "list"), ("audit", "checkpoint")], ids=" ".join)
def test_who_opens_the_registry_opens_no_door_and_loads_nothing_that_migrates(words: tuple[str, ...]) -> None:
    _, _, loaded = called(*words, "--help")
    assert "sqlalchemy" in loaded
    assert not loaded & (DOORS | {"alembic", "opentelemetry.exporter.otlp"})


def commands(group: TyperGroup, *words: str) -> Iterator[tuple[tuple[str, ...], TyperCommand | TyperGroup]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert isinstance(found, TyperCommand | TyperGroup)
        yield (*words, name), found
        if isinstance(found, TyperGroup):
            yield from commands(found, *words, name)


def test_every_command_can_be_loaded_and_has_its_name_and_help() -> None:
    found = dict(commands(app))
    assert {("serve",), ("user", "password"), ("audit", "verify")} <= found.keys()
    for words, command in found.items():
        assert (command.name, bool(command.help)) == (words[-1], True), words


@pytest.mark.parametrize("words", [(), ("user",), ("audit",)], ids=lambda words: " ".join(["tidewaiter", *words]))
def test_help_lists_commands_in_their_own_words_and_loads_none(words: tuple[str, ...]) -> None:
    status, said, loaded = called(*words, "--help")
    assert status == 0
    listed = " ".join(said.replace("│", " ").split())
    own = [command for at, command in commands(app) if at[:-1] == words]
    told = [f"{one.name} {' '.join((one.help or '').split(chr(10) * 2)[0].split())}" for one in own]
    places = [listed.find(each) for each in told]
    assert -1 not in places
    assert places == sorted(places)
    assert {name for name in loaded if name.startswith("api.cli.")} == {"api.cli.loading"}


def test_an_unknown_command_is_told_what_may_have_been_meant() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", "audit", "verfy"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "No such command 'verfy'. Did you mean 'verify'?" in done.stderr
