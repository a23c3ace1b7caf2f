"""The hash tree of RFC 6962 (section 2.1; the same in RFC 9162): leaves, roots, and what proofs prove.

The first so many leaves are always the left part of the tree of more, so a root fixes everything under it for good.
"""

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32
LEAF, NODE = b"\x00", b"\x01"
EMPTY_ROOT = hashlib.sha256(b"").digest()


class ProofInvalid(ValueError):
    """The proof does not prove it."""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(NODE + left + right).digest()


class CompactRange:
    """A tree that grows, of which only the roots of its perfect subtrees are kept, from left to right: one for each bit
    of the size. Raises ValueError when made of a size and nodes that do not belong together."""

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        if size < 0 or len(self.nodes) != size.bit_count() or any(len(node) != HASH_BYTES for node in self.nodes):
            raise ValueError(f"A tree of {size} leaves has {max(size, 0).bit_count()} perfect subtrees of 32 bytes.")

    def append(self, leaf: bytes) -> None:
        self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Adds hashes of leaves."""
        done = 0
        while left := len(leaves) - done:
            room = self.size & -self.size or left
            width = min(room, 1 << left.bit_length() - 1)
            self._add(perfect_root(leaves[done : done + width]), width)
            done += width

    def _add(self, node: bytes, width: int) -> None:
        """Adds the root of a perfect subtree of so many leaves, not more than the smallest one that is there."""
        bits = self.size // width
        while bits & 1:
            node = node_hash(self.nodes.pop(), node)
            bits >>= 1
        self.nodes.append(node)
        self.size += width

    def root(self) -> bytes:
        return folded(self.nodes)


def folded(nodes: Sequence[bytes]) -> bytes:
    """The root over the perfect subtrees of a range, which are given from left to right."""
    if not nodes:
        return EMPTY_ROOT
    root = nodes[-1]
    for node in reversed(nodes[:-1]):
        root = node_hash(node, root)
    return root


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    sha256, level = hashlib.sha256, hashes
    while len(level) > 1:
        pairs = iter(level)
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return level[0]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """That the leaf has this index in the tree of that size and root (RFC 9162, 2.1.3.2). Raises `ProofInvalid`."""
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise ProofInvalid(f"A tree of {size} leaves has none of index {index}.")
    if root_of_inclusion(index, size, leaf, proof) != root:
        raise ProofInvalid("The proof leads to another root.")


def root_of_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root to which the proof leads from the leaf. Raises `ProofInvalid` when it has not the length it takes."""
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border:
        raise ProofInvalid(f"The proof takes {inner + border} hashes, and has {len(proof)}.")
    node = _inner(leaf, proof[:inner], index)
    for sibling in proof[inner:]:
        node = node_hash(sibling, node)
    return node


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """That the tree of the first size is the beginning of that of the second (RFC 9162, 2.1.4.2).

    Raises `ProofInvalid`.
    """
    if not 0 <= first <= second:
        raise ProofInvalid(f"A tree of {first} leaves cannot be the beginning of one of {second}.")
    if first == 0:
        raise ProofInvalid("An empty tree is the beginning of every other: nothing can be proven of it.")
    if first == second:
        if proof or first_root != second_root:
            raise ProofInvalid("Trees of one size are consistent when their roots are equal, without a proof.")
        return
    _check_hashes(first_root, second_root, *proof)
    inner = ((first - 1) ^ (second - 1)).bit_length()
    trailing = (first & -first).bit_length() - 1
    inner -= trailing
    # Where the first tree is itself a perfect subtree, its root begins the proof without standing in it.
    seed, rest = (first_root, proof) if first == 1 << trailing else (proof[0] if proof else b"", proof[1:])
    mask = (first - 1) >> trailing
    border = (mask >> inner).bit_count()
    if not seed or len(rest) != inner + border:
        raise ProofInvalid("The proof has not the length that these sizes take.")
    older = _border(_inner_right(seed, rest[:inner], mask), rest[inner:])
    newer = _border(_inner(seed, rest[:inner], mask), rest[inner:])
    if older != first_root:
        raise ProofInvalid("The proof leads to another root of the first tree.")
    if newer != second_root:
        raise ProofInvalid("The proof leads to another root of the second tree.")


def _inner(node: bytes, proof: Sequence[bytes], index: int) -> bytes:
    for height, sibling in enumerate(proof):
        node = node_hash(sibling, node) if index >> height & 1 else node_hash(node, sibling)
    return node


def _inner_right(node: bytes, proof: Sequence[bytes], index: int) -> bytes:
    for height, sibling in enumerate(proof):
        if index >> height & 1:
            node = node_hash(sibling, node)
    return node


def _border(node: bytes, proof: Sequence[bytes]) -> bytes:
    for sibling in proof:
        node = node_hash(sibling, node)
    return node


def _check_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalid("A hash has 32 bytes.")
