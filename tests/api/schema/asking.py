"""How the tests of the schema ask: as somebody, and for what came of it.

data = await ask(tidewaiter, "{ viewer { user { name } } }", cast.reader)
payload = await change(tidewaiter, "createRepository", cast.owner, "repository { name }", organization=…, name=…)
assert await verdict(tidewaiter, "createRepository", cast.reader, organization=…, name=…) == "DENIED"
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.server import PASSWORD, Server
from tests.support.world import Person, Tenant

DONE = "DONE"
NOBODY = Person("", "")
ADMIN = Person("admin", PASSWORD)
STATEMENTS = re.compile(r"^db_client_operation_duration_seconds_count\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cast:
    """An account with its people, and people of another. Levels are held on both organizations of the account.

    What becomes public belongs into the second, `open`: the first shows strangers nothing. `receiver` is an account
    that nobody signs in to.
    """

    acme: Tenant
    open: Tenant
    other: Tenant
    receiver: str
    manager: Person
    writer: Person
    reader: Person
    colleague: Person

    @property
    def everybody(self) -> dict[str, Person]:
        """`colleague` belongs to the account and holds no level, `stranger` owns another account."""
        return {
            "nobody": NOBODY,
            "stranger": self.other.owner,
            "colleague": self.colleague,
            "reader": self.reader,
            "writer": self.writer,
            "manager": self.manager,
            "owner": self.acme.owner,
            "admin": ADMIN,
        }


async def told(tidewaiter: Server, query: str, by: Person, /, **variables: Any) -> dict[str, Any]:
    """The whole answer."""
    return await tidewaiter.graphql(query, variables, by.name, by.password)


async def ask(tidewaiter: Server, query: str, by: Person, /, **variables: Any) -> Any:
    """The data of an answer without errors."""
    answer = await told(tidewaiter, query, by, **variables)
    assert "errors" not in answer, answer
    return answer["data"]


async def code_of(tidewaiter: Server, query: str, by: Person, /, **variables: Any) -> str:
    """The code of the one error that an answer has; DONE without any."""
    answer = await told(tidewaiter, query, by, **variables)
    codes = [error["extensions"]["code"] for error in answer.get("errors", [])]
    assert len(codes) <= 1, answer
    return codes[0] if codes else DONE


def _document(name: str, selection: str) -> str:
    kind = f"{name[0].upper()}{name[1:]}Input"
    return f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {selection} errors {{ {ERROR} }} }} }}"


ERROR = """
    __typename code message path
    ... on PermissionDeniedError { held needed }
    ... on QuotaExceededError { key scope limit used requested }
"""


async def change(tidewaiter: Server, mutation: str, by: Person, selection: str = "", /, **given: Any) -> Any:
    """The payload of a change that was done."""
    payload = (await ask(tidewaiter, _document(mutation, selection), by, input=given))[mutation]
    assert payload.pop("errors") == [], payload
    return payload


async def refusal(
    tidewaiter: Server, mutation: str, by: Person, selection: str = "", /, **given: Any
) -> Mapping[str, Any]:
    """The one error of a change that was refused; all that the payload would have shown is null."""
    payload = (await ask(tidewaiter, _document(mutation, selection), by, input=given))[mutation]
    (error,) = payload.pop("errors")
    assert all(value is None for value in payload.values()), payload
    return dict(error)


async def verdict(tidewaiter: Server, mutation: str, by: Person, /, **given: Any) -> str:
    """DONE, or the code of what was refused, wherever in the answer it stands."""
    answer = await told(tidewaiter, _document(mutation, ""), by, input=given)
    errors = answer.get("errors") or answer["data"][mutation]["errors"]
    return next((error.get("code") or error["extensions"]["code"] for error in errors), DONE)


def statements(tidewaiter: Server) -> int:
    """How many statements the server has run since it started."""
    return sum(int(float(number)) for number in STATEMENTS.findall(tidewaiter.metrics()))


async def statements_of(tidewaiter: Server, query: str, by: Person, /, **variables: Any) -> int:
    """How many statements an operation takes, once its document and its asker are known.

    The server does other things beside: a number counts when it was measured twice in a row.
    """
    await ask(tidewaiter, query, by, **variables)
    measured: list[int] = []
    while len(measured) < 2 or measured[-1] != measured[-2]:
        assert len(measured) < 20, measured
        before = statements(tidewaiter)
        await ask(tidewaiter, query, by, **variables)
        measured.append(statements(tidewaiter) - before)
    return measured[-1]
