"""What docs/reference/audit-actions.md says that each request leaves."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "audit-actions.md"
QUOTED = re.compile("`([^`]+)`")


def documented() -> dict[str, set[str]]:
    """Actions by mutation, or by method and route."""
    table = PAGE.read_text().split("## Which request leaves which")[1]
    found = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            requests, actions = (set(QUOTED.findall(cell)) for cell in line.strip("|").split("|"))
            found |= dict.fromkeys(requests, actions)
    return found
