"""What goes with images, held against a deletion step by step in worlds that hypothesis makes up."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from policies import images
from policies.images import Blob, Holding, Manifest

BLOBS = ["a", "b", "c", "d"]
SIZES = dict(zip(BLOBS, (1, 10, 100, 1000), strict=True))


@dataclass
class World:
    """One repository: what each manifest names, what it refers to, and the tags on it."""

    blobs: dict[str, set[str]] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)
    subject: dict[str, str | None] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)

    def holding(self) -> Holding:
        """All of it."""
        holding = Holding()
        for digest in self.blobs:
            parents = sum(digest in children for children in self.children.values())
            subject = self.subject[digest] if self.subject[digest] in self.blobs else None
            named = frozenset(self.children[digest]), frozenset(self.blobs[digest])
            holding.add(digest, Manifest(size_of(digest), len(self.tags[digest]), parents, subject, *named))
        for blob in BLOBS:
            holding.blobs[blob] = Blob(SIZES[blob], sum(blob in needed for needed in self.blobs.values()))
        return holding

    def without_tags(self, roots: set[str]) -> "World":
        tags = {digest: set() if digest in roots else tags for digest, tags in self.tags.items()}
        return World(self.blobs, self.children, self.subject, tags)

    def without(self, gone: set[str]) -> "World":
        kept = [digest for digest in self.blobs if digest not in gone]
        return World(
            *({one: facts[one] for one in kept} for facts in (self.blobs, self.children, self.subject, self.tags))
        )

    def linked(self) -> set[str]:
        return set(self.blobs) | {blob for needed in self.blobs.values() for blob in needed}


def size_of(digest: str) -> int:
    return 10**4 * (1 + int(digest[1:]))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Manifests may name and refer to earlier ones only, as a digest must be known before it is named."""
    world = World()
    for number in range(draw(st.integers(1, 6))):
        digest, earlier = f"m{number}", sorted(world.blobs)
        some = st.sets(st.sampled_from(earlier), max_size=3) if earlier else st.just(set())
        world.blobs[digest] = draw(st.sets(st.sampled_from(BLOBS), max_size=3))
        world.children[digest] = draw(some)
        world.subject[digest] = draw(st.sampled_from([None, None, "gone", *earlier]))
        world.tags[digest] = draw(st.sets(st.sampled_from(["x", "y"]), max_size=2))
    return world


def step_by_step(world: World, roots: set[str]) -> set[str]:
    """Keeps first what a tag or a manifest outside keeps, then what that leads to, and takes the rest."""
    members = reached(world, roots)
    kept = set(world.blobs) - members
    kept |= {digest for digest in members - roots if world.tags[digest]}
    while True:
        more = {child for digest in kept for child in world.children[digest]}
        more |= {digest for digest in members - roots if world.subject[digest] in kept}
        if more <= kept:
            return members - kept
        kept |= more


def reached(world: World, roots: set[str]) -> set[str]:
    found = set(roots)
    while True:
        more = {child for digest in found for child in world.children[digest]}
        more |= {digest for digest in world.blobs if world.subject[digest] in found}
        if more <= found:
            return found
        found |= more


some_roots = st.sets(st.sampled_from([f"m{number}" for number in range(6)]), min_size=1, max_size=3)


@given(worlds(), some_roots)
def test_what_goes_is_what_a_patient_cleaner_would_take(world: World, chosen: set[str]) -> None:
    roots = chosen & set(world.blobs)
    assert images.going(world.holding(), roots) == step_by_step(world, roots)


@given(worlds(), some_roots)
def test_nothing_that_stays_misses_a_part_or_loses_a_tag(world: World, chosen: set[str]) -> None:
    roots = chosen & set(world.blobs)
    left = world.without(images.going(world.holding(), roots))
    assert all(children <= set(left.blobs) for children in left.children.values())
    assert all(digest in left.blobs or digest in roots for digest, tags in world.tags.items() if tags)


@given(worlds(), some_roots)
def test_the_links_that_are_dropped_are_those_that_are_there_no_more(world: World, chosen: set[str]) -> None:
    roots = chosen & set(world.blobs)
    gone = images.going(world.holding(), roots)
    assert set(images.dropped(world.holding(), gone)) == world.linked() - world.without(gone).linked()


@given(worlds(), some_roots, some_roots)
def test_more_that_goes_never_takes_less_with_it(world: World, some: set[str], more: set[str]) -> None:
    some, all_ = some & set(world.blobs), (some | more) & set(world.blobs)
    assert images.going(world.holding(), some) <= images.going(world.holding(), all_)


@given(worlds(), st.integers(0, 5))
def test_an_image_gives_back_no_more_than_it_weighs(world: World, number: int) -> None:
    root = f"m{number % len(world.blobs)}"
    holding = world.holding()
    drops = images.dropped(holding, images.going(holding, [root]))
    sizes = {digest: holding.size_of(digest) for digest in drops}
    assert images.given_back(drops, drops, sizes) <= images.weight(holding, [root])


def image(*blobs: str, tags: int = 0, parents: int = 0, subject: str | None = None, children: str = "") -> Manifest:
    return Manifest(1, tags, parents, subject, frozenset(children.split()), frozenset(blobs))


def holding(**manifests: Manifest) -> Holding:
    found = Holding(blobs={blob: Blob(SIZES[blob], 0) for blob in BLOBS})
    for digest, manifest in manifests.items():
        found.add(digest, manifest)
    needs = Counter(blob for manifest in manifests.values() for blob in manifest.blobs)
    found.blobs = {blob: Blob(SIZES[blob], needs[blob]) for blob in BLOBS}
    return found


def test_images_of_an_index_go_with_it_unless_they_are_tagged() -> None:
    found = holding(
        index=image(tags=1, children="arm amd"), arm=image("a", parents=1), amd=image("b", parents=1, tags=1)
    )
    assert images.going(found, ["index"]) == {"index", "arm"}
    assert images.going(found, ["index", "amd"]) == {"index", "arm", "amd"}


def test_an_image_that_an_index_needs_stays_with_it() -> None:
    found = holding(index=image(tags=1, children="amd"), amd=image("a", parents=1, tags=1))
    assert images.going(found, ["amd"]) == set()


def test_a_signature_goes_with_what_it_signs_and_may_go_alone() -> None:
    found = holding(web=image("a", tags=1), sig=image("b", subject="web"), tagged=image("c", subject="web", tags=1))
    assert images.going(found, ["web"]) == {"web", "sig"}
    assert images.going(found, ["tagged"]) == {"tagged"}


def test_a_blob_goes_with_the_last_that_needs_it() -> None:
    found = holding(one=image("a", "b", tags=1), two=image("b", tags=1))
    assert images.dropped(found, ["one"]) == {"one": 1, "a": 1}
    assert images.dropped(found, ["one", "two"]) == {"one": 1, "two": 1, "a": 1, "b": 1}


def test_bytes_come_back_with_the_last_link() -> None:
    sizes = {"a": 5, "b": 7}
    assert images.given_back({"a": 1, "b": 1}, {"a": 1, "b": 2}, sizes) == 5
    assert images.given_back({"a": 1, "b": 2}, {"a": 1, "b": 2}, sizes) == 12
