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
        positions: (n,) depth of each node, 0 for roots.
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


def merge(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Merge token sequences; equal prefixes become the same nodes.

    Args:
        sequences: token ids; see `PrefixTree.tokens` for negative ones.
    """
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    positions: list[int] = []
    parents: list[int] = []
    paths = []
    for sequence in sequences:
        node, path = -1, []
        for position, token in enumerate(sequence):
            child = children.get((node, token))
            if child is None:
                child = children[node, token] = len(tokens)
                tokens.append(token)
                positions.append(position)
                parents.append(node)
            node = child
            path.append(node)
        paths.append(np.array(path, dtype=np.int64))
    return PrefixTree(
        np.array(tokens, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        np.array(parents, dtype=np.int64),
        tuple(paths),
    )


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share from the start: what `merge` stores once."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
