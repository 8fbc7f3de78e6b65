from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emoverse.models.prefix_tree import merge

# Few different tokens, so that prefixes are shared often; negative ones are visual features.
SEQUENCES = st.lists(st.lists(st.integers(-2, 3), max_size=8), max_size=8)


@given(SEQUENCES)
def test_every_path_spells_its_sequence(sequences: list[list[int]]) -> None:
    tree = merge(sequences)
    assert [tree.tokens[path].tolist() for path in tree.paths] == sequences
    for path in tree.paths:
        assert tree.positions[path].tolist() == list(range(len(path)))


@given(SEQUENCES)
def test_each_distinct_prefix_is_one_node(sequences: list[list[int]]) -> None:
    tree = merge(sequences)
    prefixes = {tuple(s[: end + 1]) for s in sequences for end in range(len(s))}
    assert len(tree.tokens) == len(prefixes) <= sum(map(len, sequences))
    assert len(tree.positions) == len(tree.parents) == len(tree.tokens)


@given(SEQUENCES)
def test_a_node_sees_itself_and_its_ancestors_only(sequences: list[list[int]]) -> None:
    tree = merge(sequences)
    mask = tree.mask()
    assert mask.shape == (len(tree.tokens), len(tree.tokens))
    for path in tree.paths:
        for end, node in enumerate(path):
            assert set(np.flatnonzero(mask[node])) == set(path[: end + 1].tolist())


@given(SEQUENCES)
def test_parents_come_before_their_children(sequences: list[list[int]]) -> None:
    tree = merge(sequences)
    assert all(parent < node for node, parent in enumerate(tree.parents))
    assert ((tree.parents == -1) == (tree.positions == 0)).all()


def test_a_sequence_that_another_continues_keeps_its_own_path() -> None:
    tree = merge([[5, 6], [5, 6, 7], [5, 6]])
    assert tree.tokens.tolist() == [5, 6, 7]
    assert [path.tolist() for path in tree.paths] == [[0, 1], [0, 1, 2], [0, 1]]
