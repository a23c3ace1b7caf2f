"""What the compose file and the image promise is true of the code, as far as that shows without an engine."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from registry.settings import SECRETS, variables

ROOT = Path(__file__).parents[2]
COMPOSE, DOCKERFILE = ROOT / "docker-compose.yml", ROOT / "Dockerfile"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    # Through JSON: plain values, with the shared parts merged into each service.
    whole: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(COMPOSE)))
    return whole


def services(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose["services"].items()


@pytest.mark.parametrize("file", [COMPOSE, DOCKERFILE], ids=lambda file: file.name)
def test_every_variable_of_ours_is_a_setting(file: Path) -> None:
    named = set(re.findall(r"TIDEWAITER_\w+", file.read_text()))
    assert named
    assert named <= variables()


def test_the_compose_file_follows_its_specification() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_secret_is_used_and_every_used_one_declared(compose: dict[str, Any]) -> None:
    used = {secret for _, service in services(compose) for secret in service.get("secrets", ())}
    assert used == set(compose["secrets"])


def test_secrets_come_from_files_that_the_service_has(compose: dict[str, Any]) -> None:
    for name, service in services(compose):
        files = {key: path for key, path in service["environment"].items() if key.endswith("_FILE")}
        assert {path.removeprefix("/run/secrets/") for path in files.values()} == set(service["secrets"]), name


def test_no_secret_stands_in_the_environment(compose: dict[str, Any]) -> None:
    plain = {f"TIDEWAITER_{secret.upper()}" for secret in SECRETS} | {"POSTGRES_PASSWORD"}
    for name, service in services(compose):
        assert plain.isdisjoint(service["environment"]), name
    assert not any(re.search(rf"\b{variable}=", DOCKERFILE.read_text()) for variable in plain)


def test_secrets_are_kept_where_git_does_not_look(compose: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "var/" in ignored
    assert all(secret["file"].startswith("var/") for secret in compose["secrets"].values())


def test_every_volume_is_used_and_every_used_one_declared(compose: dict[str, Any]) -> None:
    used = {mount.split(":")[0] for _, service in services(compose) for mount in service.get("volumes", ())}
    assert used == set(compose["volumes"])


def test_nothing_starts_before_what_it_needs(compose: dict[str, Any]) -> None:
    """A service waits for health where there is a check, and for the end of what only runs once."""
    for name, service in services(compose):
        for needed, how in service.get("depends_on", {}).items():
            once = compose["services"][needed].get("restart") == "no"
            wanted = "service_completed_successfully" if once else "service_healthy"
            assert how["condition"] == wanted, (name, needed)
            assert once or compose["services"][needed]["healthcheck"]["test"]
    assert set(compose["services"]["tidewaiter"]["depends_on"]) == {"postgres", "migrate"}


def test_root_folders_are_read_only_and_privileges_cannot_grow(compose: dict[str, Any]) -> None:
    for name, service in services(compose):
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_postgresql_keeps_its_data_where_version_18_puts_it(compose: dict[str, Any]) -> None:
    postgres = compose["services"]["postgres"]
    assert postgres["image"] == "postgres:18"
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]


def test_the_published_door_is_the_one_that_is_listened_on_and_checked(compose: dict[str, Any]) -> None:
    port = re.search(r"TIDEWAITER_LISTEN=0\.0\.0\.0:(\d+)", DOCKERFILE.read_text())
    assert port is not None
    service = compose["services"]["tidewaiter"]
    assert service["ports"][0].endswith(f":{port[1]}")
    assert f"http://127.0.0.1:{port[1]}/readyz" in service["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{port[1]}/readyz" in DOCKERFILE.read_text()


def test_the_admin_listener_is_not_published(compose: dict[str, Any]) -> None:
    port = re.search(r"TIDEWAITER_ADMIN_LISTEN=0\.0\.0\.0:(\d+)", DOCKERFILE.read_text())
    assert port is not None
    assert not any(port[1] in mapping for _, service in services(compose) for mapping in service.get("ports", ()))


def test_the_image_is_built_from_hashes_and_runs_unprivileged() -> None:
    text = DOCKERFILE.read_text()
    assert "--require-hashes --requirement requirements/runtime.txt" in text
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users
    assert users[-1] == "10001:10001"
    assert text.rindex("USER ") > text.rindex("FROM ")


def test_what_the_image_copies_is_not_ignored() -> None:
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    ]
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied
    assert set(copied) == kept
    assert all((ROOT / each).exists() for each in copied)
