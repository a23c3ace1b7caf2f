"""What goes when images go, and what that gives back. Pure sets; who calls reads the facts.

The family of an image is its manifest with all that it needs, the images of an index included, and all that refers to
it, such as signatures. With an image goes what nothing else leads to: no other tag, and no manifest that stays. A blob
goes with the last manifest of its repository that needs it, and an organization gets its bytes back with the last link
of any of its repositories.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Manifest:
    """`tags` and `parents` count the tags on it and the indexes that name it, in all of its repository; `subject` is
    what it refers to, if that is there."""

    size: int
    tags: int = 0
    parents: int = 0
    subject: str | None = None
    children: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Blob:
    """`needed_by` counts the manifests of its repository that need it."""

    size: int
    needed_by: int


@dataclass(slots=True)
class Holding:
    """Whole families of one repository. `links` counts the links of each digest in all of its organization."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    referrers: dict[str, list[str]] = field(default_factory=dict)

    def add(self, digest: str, manifest: Manifest) -> None:
        self.manifests[digest] = manifest
        if manifest.subject is not None:
            self.referrers.setdefault(manifest.subject, []).append(digest)

    def size_of(self, digest: str) -> int:
        return self.manifests[digest].size if digest in self.manifests else self.blobs[digest].size


def family(holding: Holding, roots: Iterable[str]) -> set[str]:
    """All manifests of these images."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += holding.manifests[digest].children
            waiting += holding.referrers.get(digest, ())
    return found


def going(holding: Holding, roots: Iterable[str]) -> set[str]:
    """The manifests that go when the tags of the roots do. A root that something else needs stays with it."""
    roots = set(roots)
    members = family(holding, roots)
    staying: set[str] = set()
    waiting = [digest for digest in members if _is_held(holding, digest, members, roots)]
    waiting += _needed_from_outside(holding, members)
    while waiting:
        digest = waiting.pop()
        if digest not in staying:
            staying.add(digest)
            waiting += holding.manifests[digest].children
            waiting += [one for one in holding.referrers.get(digest, ()) if one not in roots]
    return members - staying


def weight(holding: Holding, roots: Iterable[str]) -> int:
    """The bytes of these images, each digest counted once."""
    members = family(holding, roots)
    blobs = {blob for digest in members for blob in holding.manifests[digest].blobs}
    return sum(holding.size_of(digest) for digest in members | blobs)


def dropped(holding: Holding, gone: Iterable[str]) -> Counter[str]:
    """The links that the repository gives up with these manifests: how many of each digest. One that is both a
    manifest and a blob is linked twice."""
    links: Counter[str] = Counter()
    needs: Counter[str] = Counter()
    for digest in gone:
        links[digest] += 1
        needs.update(holding.manifests[digest].blobs)
    links.update(blob for blob, count in needs.items() if count == holding.blobs[blob].needed_by)
    return links


def given_back(drops: Mapping[str, int], links: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """What the organization gets back when so many links to each digest are given up."""
    return sum(sizes[digest] for digest, count in drops.items() if count == links[digest])


def _is_held(holding: Holding, digest: str, members: set[str], roots: set[str]) -> bool:
    """Whether a tag that stays, or what it refers to, keeps it."""
    manifest = holding.manifests[digest]
    if digest in roots:
        return False
    return manifest.tags > 0 or (manifest.subject is not None and manifest.subject not in members)


def _needed_from_outside(holding: Holding, members: set[str]) -> list[str]:
    inside = Counter(child for digest in members for child in holding.manifests[digest].children)
    return [digest for digest in members if holding.manifests[digest].parents > inside[digest]]
