"""Scalars, enums and the interface that several nouns share."""

from datetime import UTC, datetime
from enum import Enum
from typing import NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from policies.access import Level as LawLevel
from policies.quotas import Key

BigInt = NewType("BigInt", int)
LARGEST = 2**63 - 1


def _read_integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value
    raise GraphQLError("A BigInt is a whole number of at most 64 bits.", extensions={"code": "INVALID_QUERY"})


BIG_INT = strawberry.scalar(
    name="BigInt",
    description="A whole number of up to 64 bits, a JSON number: bytes, and counts that outgrow Int.",
    serialize=int,
    parse_value=_read_integer,
)


@strawberry.enum(description="What a permission grants; each level holds the ones below.")
class Level(Enum):
    READ = strawberry.enum_value("READ", description="Pull and see. SWR's 1.")
    WRITE = strawberry.enum_value("WRITE", description="Also push, retag, and create repositories. SWR's 3.")
    MANAGE = strawberry.enum_value("MANAGE", description="Also delete, share and grant. SWR's 7.")

    @property
    def of_the_law(self) -> LawLevel:
        return LawLevel[self.name]

    @classmethod
    def shown(cls, level: LawLevel | int | None) -> "Level | None":
        return None if level is None else cls[LawLevel(level).name]


@strawberry.enum(description="Who can pull a repository without a permission.")
class Visibility(Enum):
    PUBLIC = strawberry.enum_value("PUBLIC", description="Everybody; whether without signing in, the server decides.")
    PRIVATE = strawberry.enum_value("PRIVATE", description="Nobody.")


@strawberry.enum(description="What a repository is for; SWR's eight categories.")
class Category(Enum):
    APP_SERVER = strawberry.enum_value("APP_SERVER", description="Application servers. SWR's app_server.")
    LINUX = strawberry.enum_value("LINUX", description="Linux base images. SWR's linux.")
    FRAMEWORK_APP = strawberry.enum_value("FRAMEWORK_APP", description="Frameworks. SWR's framework_app.")
    DATABASE = strawberry.enum_value("DATABASE", description="Databases. SWR's database.")
    LANG = strawberry.enum_value("LANG", description="Programming languages. SWR's lang.")
    OTHER = strawberry.enum_value("OTHER", description="Anything else; what nobody chose a category for.")
    WINDOWS = strawberry.enum_value("WINDOWS", description="Windows base images. SWR's windows.")
    ARM = strawberry.enum_value("ARM", description="Images for ARM processors. SWR's arm.")


# The law's own enum, shown under another name.
QUOTA_KEYS = {
    Key.ORGANIZATIONS: "Organizations of an account.",
    Key.USERS: "Users of an account.",
    Key.ACCESS_TOKENS: "Access keys of an account's users, until they are revoked.",
    Key.SHARES: "Shares that an account gives, ended ones too.",
    Key.TRIGGERS: "Triggers of an account.",
    Key.REPOSITORIES: "Repositories of an organization or account.",
    Key.TAGS: "Tags of a repository or organization.",
    Key.STORAGE_BYTES: "Bytes stored; each digest counts once in a repository, and once in an organization.",
    Key.EGRESS_BYTES: "Bytes downloaded from an organization in a calendar month, in UTC.",
    Key.PULLS: "Pulls from an organization in a calendar month, in UTC.",
}
strawberry.enum(Key, name="QuotaKey", description="What is counted against a limit.")
for shown in Key.__strawberry_definition__.values:  # type: ignore[attr-defined]
    shown.description = QUOTA_KEYS[shown.value]


def read_moment(value: object) -> datetime:
    try:
        if isinstance(value, str) and len(value) < 64:
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # an offset may lead out of the years 1 to 9999
        pass
    raise GraphQLError("A DateTime is written as 2026-01-31T12:00:00Z.", extensions={"code": "INVALID_QUERY"})


def _show_moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="An instant, as RFC 3339 writes it; without a zone it is taken as UTC, and always shown in UTC.",
    specified_by_url="https://datatracker.ietf.org/doc/html/rfc3339",
    serialize=_show_moment,
    parse_value=read_moment,
)
SCALARS: dict[object, ScalarDefinition] = {BigInt: BIG_INT, datetime: DATE_TIME}


@strawberry.interface(description="Anything with an id that the whole server knows.")
class Node:
    id: strawberry.ID = strawberry.field(description="An opaque id, good for `node(id:)`.")
