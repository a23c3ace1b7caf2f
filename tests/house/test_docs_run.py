"""The GraphQL of the README and of the guides is run as it stands, against a real server, by who is said to run it."""

import re
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
GRAPHQL = re.compile(r"^```graphql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = re.compile(r'"(acme-corp|ships|harbour|ada|grace|alan)\b')
ADMINISTRATOR = re.compile("createAccount|setQuota")
PASSWORD = "correct horse battery"
# What pages take as there. A step is left out where the page itself takes it.
STEPS = (
    f'createAccount(input: {{name: "acme-corp", ownerName: "ada", ownerPassword: "{PASSWORD}"}})',
    f'createAccount(input: {{name: "harbour", ownerName: "grace-of-harbour", ownerPassword: "{PASSWORD}"}})',
    'createOrganization(input: {name: "ships"})',
    f'createUser(input: {{account: "acme-corp", name: "grace", password: "{PASSWORD}"}})',
    f'createUser(input: {{account: "acme-corp", name: "alan", password: "{PASSWORD}"}})',
    'createRepository(input: {organization: "ships", name: "hull"})',
)


def documents(page: Path) -> list[str]:
    return GRAPHQL.findall(page.read_text())


def with_graphql() -> list[Path]:
    return [page for page in PAGES if documents(page)]


async def ask(tidewaiter: Server, document: str, suffix: str) -> dict[str, Any]:
    """Runs it under names of its own, so that pages do not meet."""
    own = NAMES.sub(rf'"\1-{suffix}', document)
    if ADMINISTRATOR.search(document):
        return await tidewaiter.graphql(own)
    return await tidewaiter.graphql(own, user=f"ada-{suffix}", password=PASSWORD)


def test_there_is_something_to_run() -> None:
    assert {"README.md", "access.md", "quotas.md", "audit.md"} <= {page.name for page in with_graphql()}


@pytest.mark.parametrize("page", with_graphql(), ids=lambda page: page.name)
async def test_what_stands_on_the_page_works(tidewaiter: Server, page: Path) -> None:
    suffix, steps = secrets.token_hex(4), steps_before(page)
    for document in documents(page):
        # A step may need what an earlier document of the page makes: it is tried again before the next.
        steps = [step for step in steps if refused(await ask(tidewaiter, step, suffix))]
        answer = await ask(tidewaiter, document, suffix)
        assert not refused(answer), (document, answer)


def steps_before(page: Path) -> list[str]:
    missing = [step for step in STEPS if first_words(step) not in page.read_text()]
    return [f"mutation {{ {step} {{ errors {{ code }} }} }}" for step in missing]


def refused(answer: dict[str, Any]) -> list[Any]:
    fields = (answer.get("data") or {}).values()
    return answer.get("errors") or [field for field in fields if isinstance(field, dict) and field.get("errors")]


def first_words(step: str) -> str:
    """The mutation with the names it makes: up to the password, if there is one."""
    return re.split(r", (?:ownerName|password)", step)[0].rstrip("})")
