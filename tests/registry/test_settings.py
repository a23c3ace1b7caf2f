import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.settings import PREFIX, Settings, SettingsError, load_settings, variable_of


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


def test_an_empty_environment_is_enough() -> None:
    settings = load_settings()
    assert settings.data == Path.cwd() / "var"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.admin_address == ("127.0.0.1", 9090)
    assert settings.blobs_folder == settings.data / "blobs"
    assert settings.quota_organizations == 5
    assert settings.quota_storage_bytes is None
    assert settings.max_blob_bytes == 10 * 1024**3


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass on variables that nobody set as empty ones."""
    monkeypatch.setenv("TIDEWAITER_DATABASE_URL", "")
    monkeypatch.setenv("TIDEWAITER_TOKEN_MINUTES", "")
    assert load_settings() == Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().token_minutes = 6


@pytest.mark.parametrize(
    ("listen", "public_url", "address", "registry_host"),
    [
        ("127.0.0.1:8080", "", "http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:5000", "", "http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::]:5000", "", "http://[::1]:5000", "[::1]:5000"),
        ("[fe80::1]:80", "", "http://[fe80::1]:80", "[fe80::1]:80"),
        ("0.0.0.0:5000", "https://registry.example/", "https://registry.example", "registry.example"),
        ("0.0.0.0:5000", "http://localhost:80", "http://localhost:80", "localhost:80"),
    ],
)
def test_the_address_is_the_public_one_or_a_reachable_one(
    monkeypatch: pytest.MonkeyPatch, listen: str, public_url: str, address: str, registry_host: str
) -> None:
    monkeypatch.setenv("TIDEWAITER_LISTEN", listen)
    monkeypatch.setenv("TIDEWAITER_PUBLIC_URL", public_url)
    settings = load_settings()
    assert (settings.address, settings.registry_host) == (address, registry_host)


@pytest.mark.parametrize("listen", ["8080", ":8080", "localhost", "::1:80", "[::1]", "host:99999", "http://h:1"])
def test_a_listening_address_needs_host_and_port(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    assert "TIDEWAITER_LISTEN must be host:port" in refusal(monkeypatch, LISTEN=listen)


@pytest.mark.parametrize(
    "url",
    ["registry.example", "ftp://h", "https://h/registry", "https://h?x", "https://u:p@h", "https://h:x"],
)
def test_a_public_url_is_an_origin(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert "TIDEWAITER_PUBLIC_URL must be https://host" in refusal(monkeypatch, PUBLIC_URL=url)


def test_the_admin_listener_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_ADMIN_LISTEN", "OFF")
    assert load_settings().admin_address is None


def test_limits_are_numbers_units_or_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_QUOTA_ORGANIZATIONS", "unlimited")
    monkeypatch.setenv("TIDEWAITER_QUOTA_TAGS", "100")
    monkeypatch.setenv("TIDEWAITER_QUOTA_STORAGE_BYTES", "2GiB")
    settings = load_settings()
    assert (settings.quota_organizations, settings.quota_tags) == (None, 100)
    assert settings.quota_storage_bytes == 2 * 1024**3


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_TRUSTED_PROXIES", "10.0.0.0/8, ::1,")
    assert [str(network) for network in load_settings().trusted_proxies] == ["10.0.0.0/8", "::1/128"]


def test_blobs_lie_where_the_file_url_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_BLOBS", "file:///srv/my%20blobs")
    assert load_settings().blobs_folder == Path("/srv/my blobs")


def test_object_storage_is_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3://) is not supported yet" in refusal(monkeypatch, BLOBS="s3://bucket/prefix")


def test_secrets_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "url").write_text("postgresql://u:p@h/n\n")
    monkeypatch.setenv("TIDEWAITER_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("TIDEWAITER_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = load_settings()
    assert settings.admin_password is not None
    assert settings.admin_password.get_secret_value() == "correct horse"
    assert settings.database_url == "postgresql://u:p@h/n"


def test_a_secret_and_its_file_exclude_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refusal(monkeypatch, ADMIN_PASSWORD="battery", ADMIN_PASSWORD_FILE=str(tmp_path / "password"))
    assert "both set" in said
    assert "battery" not in said


def test_a_secret_file_that_is_missing_or_empty_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert f"cannot be read: {missing}" in refusal(monkeypatch, ADMIN_PASSWORD_FILE=str(missing))
    missing.write_text("\n")
    assert f"empty file: {missing}" in refusal(monkeypatch, ADMIN_PASSWORD_FILE=str(missing))


def test_an_unknown_name_is_refused_with_the_nearest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, LISTN="hunter2", ADMIN_PASWORD="hunter2")
    assert "TIDEWAITER_LISTN is not a setting. Did you mean TIDEWAITER_LISTEN?" in said
    assert "TIDEWAITER_ADMIN_PASWORD is not a setting. Did you mean TIDEWAITER_ADMIN_PASSWORD?" in said
    assert "hunter2" not in said


def test_names_are_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("tidewaiter_data", "/srv")
    assert "Did you mean TIDEWAITER_DATA?" in refusal(monkeypatch)


def test_service_links_of_kubernetes_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service named tidewaiter puts these into the environment of every pod beside it."""
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8080_TCP", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"{PREFIX}{name}", "10.0.0.1")
    monkeypatch.setenv("TIDEWAITER_PORT", "tcp://10.0.0.1:8080")
    load_settings()
    assert "TIDEWAITER_PORT is not a setting" in refusal(monkeypatch, PORT="8080")


def test_all_wrong_values_are_told_at_once_one_sentence_each(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "ANONYMOUS_PULL": "maybe",
        "TOKEN_MINUTES": "0",
        "UPLOAD_HOURS": "soon",
        "MAX_BLOB_BYTES": "10GoB",
        "LOG_LEVEL": "loud",
        "QUOTA_TAGS": "-1",
        "TRUSTED_PROXIES": "10.0.0.1/8",
    }
    lines = refusal(monkeypatch, **wrong).splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(f"{PREFIX}{name}" for name in wrong)
    assert "TIDEWAITER_ANONYMOUS_PULL must be on or off, not 'maybe'." in lines
    assert "TIDEWAITER_TOKEN_MINUTES must be at least 1, not '0'." in lines
    assert "TIDEWAITER_UPLOAD_HOURS must be a whole number, not 'soon'." in lines
    assert "TIDEWAITER_LOG_LEVEL must be 'debug', 'info', 'warning' or 'error', not 'loud'." in lines


def test_every_setting_refuses_nonsense_in_a_readable_way(monkeypatch: pytest.MonkeyPatch) -> None:
    anything_goes = {"data", "admin_password", "clock_file", "audit_archive", "audit_s3_key", "audit_s3_secret"}
    wrong = {name.upper(): "\x01 nonsense" for name in Settings.model_fields if name not in anything_goes}
    lines = refusal(monkeypatch, **wrong).splitlines()
    assert len(lines) == len(wrong)
    assert all(" must be " in line or " must begin " in line for line in lines), lines
    assert not any("pydantic" in line or "Error" in line for line in lines)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in refusal(monkeypatch, DATABASE_URL="mysql://root:hunter2@host/name")
    monkeypatch.setenv("TIDEWAITER_DATABASE_URL", "postgresql://root:hunter2@host/name")
    monkeypatch.setenv("TIDEWAITER_ADMIN_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())
    assert variable_of("database_url") == "TIDEWAITER_DATABASE_URL"
