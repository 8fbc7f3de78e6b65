"""Many token sequences as one: common prefixes are stored, and computed, once.

Five questions about one clip, all targets of one conversation or all allowed answers to one
query differ in their last tokens only. Merged into a prefix tree and run with an attention mask
that shows each node its ancestors alone, they cost one pass over the distinct tokens, and every
logit equals that of the sequence run by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """`n` nodes in an order where parents come first.

    Attributes:
        tokens: (n,) token ids; negative ids -1 - k stand for row k of the visual features.
        positions: (n,) depth of each node, 0 for roots; (axes, n) for models that give a token
            several positions.
        parents: (n,) index of the parent, -1 for roots.
        paths: one (len,) index array per sequence: its nodes from first token to last.
    """

    tokens: np.ndarray
    positions: np.ndarray
    parents: np.ndarray
    paths: tuple[np.ndarray, ...]

    def mask(self) -> np.ndarray:
        """(n, n) bool: row i is True at node i and its ancestors."""
        n = len(self.tokens)
        visible = np.zeros((n, n), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                visible[node] = visible[parent]
            visible[node, node] = True
        return visible


class Sprout:
    """A prefix tree that grows; `merge` for sequences that are not all known at once."""

    def __init__(self) -> None:
        """An empty tree."""
        self._children: dict[tuple[int, int], int] = {}
        self._tokens: list[int] = []
        self._positions: list[int] = []
        self._parents: list[int] = []

    def __len__(self) -> int:
        """How many nodes it has."""
        return len(self._tokens)

    def add(self, sequence: Sequence[int], after: Sequence[int] = ()) -> list[int]:
        """Put a sequence in, at the root or after the last node of an earlier path.

        Args:
            sequence: token ids; see `PrefixTree.tokens` for negative ones.
            after: what an earlier `add` returned.

        Returns:
            The nodes of `after` and the sequence's own.
        """
        path = list(after)
        node = path[-1] if path else -1
        for token in sequence:
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self._tokens)
                self._tokens.append(token)
                self._positions.append(len(path))
                self._parents.append(node)
            node = child
            path.append(node)
        return path

    def tree(self, paths: Sequence[Sequence[int]]) -> PrefixTree:
        """The tree as it stands, with the paths that are of interest."""
        return PrefixTree(
            np.array(self._tokens, dtype=np.int64),
            np.array(self._positions, dtype=np.int64),
            np.array(self._parents, dtype=np.int64),
            tuple(np.array(path, dtype=np.int64) for path in paths),
        )


def merge(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Merge token sequences; equal prefixes become the same nodes.

    Args:
        sequences: token ids; see `PrefixTree.tokens` for negative ones.
    """
    sprout = Sprout()
    paths = [sprout.add(sequence) for sequence in sequences]
    return sprout.tree(paths)


def pack(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Token sequences one after the other in one row, nothing shared (block-diagonal attention)."""
    ends = np.cumsum([len(sequence) for sequence in sequences])
    paths = tuple(
        np.arange(end - len(sequence), end) for sequence, end in zip(sequences, ends, strict=True)
    )
    positions = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
    tokens = np.concatenate([np.array(sequence, dtype=np.int64) for sequence in sequences])
    parents = np.arange(-1, len(tokens) - 1)
    parents[positions == 0] = -1
    return PrefixTree(tokens, positions, parents, paths)


# Lengths are padded to a multiple of this: the matrix kernels of a CPU are compiled for each new
# shape, which costs more than the padding.
PADDING = 64


def side_by_side(
    trees: Sequence[PrefixTree], multiple: int = PADDING
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trees as the rows of one batch, padded to the longest.

    Args:
        trees: one row each.
        multiple: lengths are padded to a multiple of this.

    Returns:
        Tokens (rows, longest); positions (rows, longest), or (axes, rows, longest) when a tree has
        several axes; and what each place sees (rows, longest, longest). Padding sees the first
        token, or its softmax would be NaN.
    """
    tokens, positions = padded(trees, multiple)
    return tokens, positions, seen_by(trees, tokens.shape[1])


def padded(trees: Sequence[PrefixTree], multiple: int = PADDING) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and positions of `side_by_side`, without what each place sees."""
    longest = max(len(tree.tokens) for tree in trees)
    longest += -longest % multiple
    axes = max(tree.positions.shape[0] if tree.positions.ndim == 2 else 0 for tree in trees)
    tokens = np.zeros((len(trees), longest), dtype=np.int64)
    positions = np.zeros((max(axes, 1), len(trees), longest), dtype=np.int64)
    for row, tree in enumerate(trees):
        n = len(tree.tokens)
        tokens[row, :n], positions[:, row, :n] = tree.tokens, tree.positions
    return tokens, positions if axes else positions[0]


def seen_by(trees: Sequence[PrefixTree], longest: int) -> np.ndarray:
    """What each place of trees side by side sees, (rows, longest, longest) bool."""
    seen = np.zeros((len(trees), longest, longest), dtype=bool)
    seen[:, :, 0] = True
    for row, tree in enumerate(trees):
        n = len(tree.tokens)
        seen[row, :n, :n] = tree.mask()
    return seen


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share from the start: what `merge` stores once."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
