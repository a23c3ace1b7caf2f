"""What a target names. Targets are written as people write them, and taken apart by what the action is about."""

import re
from dataclasses import dataclass

PLACED = {
    "organization",
    "organization_permission",
    "repository",
    "repository_permission",
    "image",
    "tag",
    "blob",
    "manifest",
    "referrer",
    "share",
}
TAGGED = {"image", "tag"}
WRITTEN = re.compile(r"([^/:@]+)(?:/([^:@]+))?(?::([^:@]*))?(?:@.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """Names as they were when the entry was written; None for what the target does not name."""

    organization: str | None = None
    repository: str | None = None
    tag: str | None = None


NOTHING = Named()


def named(action: str, target: str) -> Named:
    """`organization/repository:tag`, or `@digest`, or where a permission or share is meant, `:user` or `:account`."""
    noun = action.partition(".")[0]
    found = WRITTEN.fullmatch(target) if noun in PLACED else None
    if found is None:
        return NOTHING
    organization, repository, tail = found.groups()
    return Named(organization, repository, (tail or None) if noun in TAGGED else None)
