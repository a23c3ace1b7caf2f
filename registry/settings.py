"""How one server is set up: read once, at the start, from `TIDEWAITER_…` in the environment, then frozen.

A name nobody knows, or a value that cannot be meant, stops the start with a sentence for each; a secret is
never shown in one. Listed for people in docs/reference/settings.md, which a test keeps complete.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from registry.addresses import (
    Network,
    check_listen,
    check_listen_or_off,
    check_public_url,
    reachable,
    read_networks,
    split_listen,
)
from registry.errors import Unable

PREFIX = "TIDEWAITER_"
SECRETS = ("database_url", "admin_password", "audit_s3_secret")
"""May also be given as `…_FILE`, a file that holds the value, and are never shown."""


class SettingsError(Unable):
    """One readable line for each setting that is wrong."""


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql:// and name a PostgreSQL 15 or newer")
    return text


def _blobs(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "s3":
        raise ValueError("object storage (s3://) is not supported yet: use a folder, file:///path")
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise ValueError("must be a folder written as file:///absolute/path")
    return text


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _unlimited(value: object) -> object:
    return None if _lowered(value) == "unlimited" else value


def _anchors(value: object) -> object:
    return tuple(_anchor(one.strip()) for one in value.split(",")) if isinstance(value, str) else value


def _anchor(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return text
    endpoint = dict(parse_qsl(parts.query)).get("endpoint", "")
    if parts.scheme == "s3" and parts.netloc and endpoint.startswith(("https://", "http://")):
        return text
    raise ValueError("must be file:///absolute/path or s3://bucket/prefix?endpoint=https://store, with commas between")


Folder = Annotated[Path, AfterValidator(_absolute)]
DatabaseUrl = Annotated[Annotated[str, AfterValidator(_database_url)] | None, Field(repr=False)]
Blobs = Annotated[str, AfterValidator(_blobs)]
Listen = Annotated[str, AfterValidator(check_listen)]
ListenOrOff = Annotated[str, AfterValidator(check_listen_or_off)]
PublicUrl = Annotated[str, AfterValidator(check_public_url)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(read_networks)]
Anchors = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_anchors)]
Limit = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_unlimited)]
ByteLimit = Annotated[Annotated[ByteSize, Field(ge=0)] | None, BeforeValidator(_unlimited)]


class _SecretFiles(PydanticBaseSettingsSource):
    """Values of secrets from the files that `…_FILE` names, without the line end that editors leave."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        variable = variable_of(field_name)
        path = os.environ.get(f"{variable}_FILE") if field_name in SECRETS else None
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them.")
        return _secret_in(Path(path), f"{variable}_FILE"), field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """The text below each field is what docs/reference/settings.md says of it."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    data: Folder = Path("./var")
    """Folder of everything kept on this machine."""
    database_url: DatabaseUrl = None
    """PostgreSQL to use, as postgresql://user:password@host/name; unset: an embedded one."""
    blobs: Blobs | None = None
    """Where blobs are stored, as file:///absolute/path; unset: the folder blobs under the data folder."""
    listen: Listen = "127.0.0.1:8080"
    """Address and port of the public door."""
    public_url: PublicUrl | None = None
    """Address at which clients reach this server; unset: http and the listening address."""
    admin_password: SecretStr | None = None
    """Password of the user admin, for the first start only; unset: one is made and shown once."""
    anonymous_pull: bool = True
    """Whether public repositories may be pulled without signing in."""
    admin_listen: ListenOrOff = "127.0.0.1:9090"
    """Address and port of metrics and health, for operators; off: none; unset and taken: any free port."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lowered)] = "info"
    """The least level of log lines that are written: debug, info, warning or error."""
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lowered)] = "json"
    """Form of log lines: json for programs, console for people."""
    trusted_proxies: Networks = ()
    """Addresses or networks, with commas between, whose X-Forwarded-For is believed."""
    token_minutes: Annotated[int, Field(ge=1, le=60)] = 5
    """How long a registry token holds, in minutes."""
    upload_hours: Annotated[int, Field(ge=1)] = 24
    """How long an unfinished upload may rest before it expires, in hours."""
    unused_blob_hours: Annotated[int, Field(ge=1)] = 24
    """How long a blob stays that no manifest came for, in hours."""
    max_blob_bytes: Annotated[ByteSize, Field(ge=1)] = ByteSize(10 * 1024**3)
    """Largest blob that is accepted, in bytes or with a unit, such as 10GiB."""
    quota_organizations: Limit = 5
    """Organizations an account may own, where nothing else is set; unlimited: no limit."""
    quota_users: Limit = None
    """Users an account may have, where nothing else is set; unlimited: no limit."""
    quota_access_tokens: Limit = None
    """Access keys the users of an account may have, where nothing else is set; unlimited: no limit."""
    quota_shares: Limit = None
    """Shares an account may give, where nothing else is set; unlimited: no limit."""
    quota_triggers: Limit = None
    """Triggers an account may have, where nothing else is set; unlimited: no limit."""
    quota_repositories: Limit = None
    """Repositories an organization may hold, where nothing else is set; unlimited: no limit."""
    quota_tags: Limit = None
    """Tags a repository may hold, where nothing else is set; unlimited: no limit."""
    quota_storage_bytes: ByteLimit = None
    """Bytes an organization may store, where nothing else is set, a unit may follow; unlimited: no limit."""
    quota_egress_bytes: ByteLimit = None
    """Bytes that may be downloaded from an organization in a month, where nothing else is set; unlimited: no limit."""
    quota_pulls: Limit = None
    """Pulls from an organization in a month, where nothing else is set; unlimited: no limit."""
    audit_publish_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """How long a numbered audit entry waits at most for a signed checkpoint, in seconds."""
    audit_archive: Folder | None = None
    """Folder to which the server writes each month of the audit log that is over; unset: none is archived by itself."""
    audit_retention_months: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_unlimited)] = None
    """How many months an archived month stays in the database besides; unlimited: for good."""
    audit_anchors: Anchors = ()
    """Files or buckets, with commas between, that get each signed checkpoint; unset: a file in the data folder."""
    audit_s3_key: str | None = None
    """Name of the key for anchors in an object store."""
    audit_s3_secret: SecretStr | None = None
    """Secret of that key."""
    audit_reads: Annotated[Literal["all", "denied"], BeforeValidator(_lowered)] = "all"
    """Which looks at management data are recorded: all, or those that were denied."""
    audit_blobs: Annotated[Literal["denied", "all"], BeforeValidator(_lowered)] = "denied"
    """Which pulls and pushes of single blobs are recorded: those that were denied, or all."""
    database_pool: Annotated[int, Field(ge=1, le=1000)] = 10
    """Most database connections this server opens for requests."""
    embedded_fsync: bool = True
    """Whether the embedded PostgreSQL waits for the disk; off is for tests only."""
    clock_file: Folder | None = None
    """For tests only: a file with a number of seconds that is added to the system's time."""

    @property
    def host(self) -> str:
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Host and port of the operators' door, or None when it is off."""
        return None if self.admin_listen == "off" else split_listen(self.admin_listen)

    @property
    def address(self) -> str:
        """The URL under which clients reach this server, without a slash at the end."""
        return self.public_url or f"http://{reachable(self.listen)}"

    @property
    def registry_host(self) -> str:
        """`host[:port]`, as it stands in image names and after `docker login`."""
        return urlsplit(self.address).netloc

    @property
    def blobs_folder(self) -> Path:
        return self.data / "blobs" if self.blobs is None else Path(unquote(urlsplit(self.blobs).path))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Given in code, then the environment, then the files it names; no .env is ever read."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


def load_settings() -> Settings:
    """The settings of this process. Raises `SettingsError`, whose text may be shown as it stands."""
    strangers = [_strange(name) for name, value in sorted(os.environ.items()) if _is_strange(name, value)]
    if strangers:
        raise SettingsError("\n".join(strangers))
    try:
        return Settings()
    except ValidationError as wrong:
        raise SettingsError("\n".join(_sentences(wrong.errors()))) from None


def variable_of(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def variables() -> frozenset[str]:
    """Every name that may stand in the environment, exactly so."""
    files = {f"{variable_of(each)}_FILE" for each in SECRETS}
    return frozenset(map(variable_of, Settings.model_fields)) | files


# Kubernetes puts such names into the environment for each service whose name begins with ours.
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")


def _is_strange(name: str, value: str) -> bool:
    if not name.upper().startswith(PREFIX) or name in variables():
        return False
    return not (_SERVICE_LINK.search(name) or (name.endswith("_PORT") and "://" in value))


def _strange(name: str) -> str:
    nearest = difflib.get_close_matches(name.upper(), sorted(variables()), n=1, cutoff=0)[0]
    return f"{name} is not a setting. Did you mean {nearest}? All are listed in docs/reference/settings.md."


def _secret_in(path: Path, variable: str) -> str:
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as failure:
        reason = getattr(failure, "strerror", None) or "not a text file"
        raise SettingsError(f"{variable} names a file that cannot be read: {path} ({reason}).") from None
    if not content:
        raise SettingsError(f"{variable} names an empty file: {path}.")
    return content


_RULES: Mapping[str, str] = {
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be on or off",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "byte_size": "must be a number of bytes, or a number with a unit such as 10GiB",
    "byte_size_unit": "must be a number of bytes, or a number with a unit such as 10GiB",
    "value_error": "{error}",
}


def _sentences(errors: list[ErrorDetails]) -> Iterator[str]:
    for error in errors:
        field = str(error["loc"][0])
        rule = _RULES.get(error["type"], "cannot be understood").format_map(error.get("ctx", {}))
        silent = field in SECRETS or error["type"] == "value_error"
        yield (f"{variable_of(field)} {rule}." if silent else f"{variable_of(field)} {rule}, not {_shown(error)}.")


def _shown(error: ErrorDetails) -> str:
    return repr(str(error["input"])[:80])
