"""The tree of RFC 6962, against the reference vectors of transparency-dev/merkle and a naive tree."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.transparency.merkle import (
    EMPTY_ROOT,
    CompactRange,
    ProofInvalid,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
HASHES = [b64decode(text) for text in VECTORS["hashes"]]


def of(reference: str) -> bytes:
    return HASHES[int(reference[1:])]


def proof_of(references: list[int]) -> list[bytes]:
    return [HASHES[one] for one in references]


def naive_root(leaves: list[bytes]) -> bytes:
    """As RFC 6962 writes it down."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(naive_root(leaves[:middle]), naive_root(leaves[middle:]))


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: str(case[0]))
def test_an_inclusion_proof_is_judged_as_the_reference_judges_it(case: list[Any]) -> None:
    _, index, size, leaf, proof, root, sound = case
    if sound:
        verify_inclusion(index, size, of(leaf), proof_of(proof), of(root))
    else:
        with pytest.raises(ProofInvalid):
            verify_inclusion(index, size, of(leaf), proof_of(proof), of(root))


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: str(case[0]))
def test_a_consistency_proof_is_judged_as_the_reference_judges_it(case: list[Any]) -> None:
    _, first, second, proof, first_root, second_root, sound = case
    if sound:
        verify_consistency(first, second, proof_of(proof), of(first_root), of(second_root))
    else:
        with pytest.raises(ProofInvalid):
            verify_consistency(first, second, proof_of(proof), of(first_root), of(second_root))


def test_the_reference_has_both_sound_and_unsound_cases() -> None:
    for kind in ("inclusion", "consistency"):
        verdicts = [case[-1] for case in VECTORS[kind]]
        assert len(verdicts) == 98
        assert 0 < sum(verdicts) < 20


def test_the_hashes_are_those_of_the_standard() -> None:
    """RFC 6962, 2.1: a leaf and a node can never be taken for each other."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"\x01" + b"a" * 64) != node_hash(b"a" * 32, b"a" * 32)


@given(st.lists(st.integers(0, 5), max_size=90))
def test_a_tree_that_grows_has_the_root_of_one_made_at_once(batches: list[int]) -> None:
    tree, leaves = CompactRange(), []
    for number, count in enumerate(batches):
        fresh = [leaf_hash(f"{number}.{place}".encode()) for place in range(count)]
        tree.extend(fresh)
        leaves += fresh
        assert tree.size == len(leaves)
        assert tree.root() == naive_root(leaves)
        assert CompactRange(tree.size, tree.nodes).root() == tree.root()


@pytest.mark.parametrize(
    ("size", "nodes"), [(1, []), (0, [bytes(32)]), (3, [bytes(32)]), (1, [b"short"]), (-1, [bytes(32)])]
)
def test_a_range_is_not_made_of_what_does_not_belong_together(size: int, nodes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="perfect subtrees"):
        CompactRange(size, nodes)
