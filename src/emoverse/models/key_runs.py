"""Blocks of keys that no query of a block sees: in long rows of many samples most of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

Runs = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
"""For each block of queries where it ends, and the runs of keys (from, to) that it sees."""

_QUERIES, _KEYS = 128, 64  # of a block


def runs_of(visible: np.ndarray) -> Runs | None:
    """What blocks of queries see.

    Args:
        visible: (rows, longest, longest) bool, of `side_by_side`.

    Returns:
        None where there is but one block.
    """
    size = visible.shape[-1]
    if size <= _QUERIES:
        return None
    starts = np.arange(0, size, _KEYS)
    found = []
    for begin in range(0, size, _QUERIES):
        keys = visible[:, begin : begin + _QUERIES].any(axis=(0, 1))
        blocks = np.logical_or.reduceat(keys, starts)
        edges = np.flatnonzero(np.diff(blocks, prepend=False, append=False)) * _KEYS
        runs = tuple((int(a), min(int(b), size)) for a, b in edges.reshape(-1, 2))
        found.append((min(begin + _QUERIES, size), runs))
    return tuple(found)


def picked(whole: torch.Tensor, runs: Sequence[tuple[int, int]], dim: int) -> torch.Tensor:
    """The runs of a tensor along `dim`, side by side."""
    parts = [whole.narrow(dim, begin, end - begin) for begin, end in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)
