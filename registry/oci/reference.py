"""Repository paths and tags, as in the addresses below /v2/ (distribution-spec 1.1, "Pulling manifests").

The first component of a path is the organization, and the rest names the repository in it. Only the grammar
is checked: a name that could never be created, because it is reserved, is simply not found.
"""

import re

from policies.naming import path_clause
from registry.oci.errors import NameInvalid, TagInvalid, shown

PATH_LENGTH = 255
TAG_LENGTH = 128

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_repository_path(text: str) -> tuple[str, str]:
    """Organization and repository: `acme/web/app` is `web/app` in `acme`. Raises `NameInvalid`."""
    if clause := _path_clause(text):
        raise NameInvalid(f"{shown(text)} is no name for a repository: {clause}")
    organization, _, repository = text.partition("/")
    return organization, repository


def check_tag(text: str) -> str:
    """Raises `TagInvalid`."""
    if clause := _tag_clause(text):
        raise TagInvalid(f"{shown(text)} is no tag: {clause}")
    return text


def _path_clause(text: str) -> str | None:
    if not text:
        return "it is empty."
    if len(text) > PATH_LENGTH:
        return f"it has {len(text)} characters, and at most {PATH_LENGTH} are allowed."
    if clause := path_clause(text):
        return clause
    return None if "/" in text else "it needs an organization and a name, as in 'acme/web'."


def _tag_clause(text: str) -> str | None:
    if not text:
        return "it is empty."
    if len(text) > TAG_LENGTH:
        return f"it has {len(text)} characters, and at most {TAG_LENGTH} are allowed."
    if ":" in text:
        return "a colon stands only in digests."
    if not _TAG.fullmatch(text):
        return "it must start with a letter, digit or '_', and hold only letters, digits, '.', '_' and '-'."
    return None
