from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask

from emoverse.errors import EmoVerseError
from emoverse.models import attention
from emoverse.models.attention import (
    block_mask,
    choose,
    grouped_bmm,
    masks,
    seen_keys,
    tree_flex,
    tree_mask,
)
from emoverse.models.prefix_tree import PrefixTree, merge, pack, side_by_side

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def _tensors(heads: int, groups: int, steps: int, keys: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, heads, steps, 8, generator=rng),
        torch.randn(2, groups, keys, 8, generator=rng),
        torch.randn(2, groups, keys, 8, generator=rng),
    )


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (9, 3), (4, 1)])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_it_equals_pytorchs_attention(
    heads: int, groups: int, masked: bool, scaling: float | None
) -> None:
    query, key, value = _tensors(heads, groups, 5, 7)
    mask = None
    if masked:
        visible = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
        visible[..., 0] = True
        mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    ours, weights = grouped_bmm(torch.nn.Module(), query, key, value, mask, scaling)
    theirs = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    )
    assert weights is None
    assert ours.shape == (2, 5, heads, 8)
    torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_mask_for_more_keys_than_there_are_is_cut() -> None:
    query, key, value = _tensors(4, 2, 3, 6)
    mask = torch.zeros(2, 1, 3, 10)
    ours, _ = grouped_bmm(torch.nn.Module(), query, key, value, mask)
    same, _ = grouped_bmm(torch.nn.Module(), query, key, value, None)
    torch.testing.assert_close(ours, same)


def test_gradients_equal_pytorchs() -> None:
    ours = [t.requires_grad_() for t in _tensors(4, 2, 5, 5)]
    theirs = [t.detach().clone().requires_grad_() for t in ours]
    mask = torch.full((5, 5), torch.finfo(torch.float32).min).triu(1)[None, None]
    grouped_bmm(torch.nn.Module(), *ours, mask)[0].square().sum().backward()
    functional.scaled_dot_product_attention(
        *theirs, attn_mask=mask, enable_gqa=True
    ).square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)


_SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_SEQUENCES, st.booleans()), min_size=1, max_size=3))
def test_a_block_mask_shows_each_node_its_ancestors(
    rows: list[tuple[list[list[int]], bool]],
) -> None:
    trees = [(merge if merged else pack)(sequences) for sequences, merged in rows]
    longest = max(len(tree.tokens) for tree in trees) + 3
    mask = block_mask(trees, longest, CPU)
    row, query, key = torch.meshgrid(
        torch.arange(len(trees)), torch.arange(longest), torch.arange(longest), indexing="ij"
    )
    seen = mask.mask_mod(row, torch.zeros_like(row), query, key).numpy()
    for number, tree in enumerate(trees):
        n = len(tree.tokens)
        assert np.array_equal(seen[number, :n, :n], tree.mask())
        assert not seen[number, :n, n:].any()
        assert np.array_equal(seen[number, n:, n:], np.eye(longest - n, dtype=bool))


def _two_trees() -> list[PrefixTree]:
    rng = np.random.default_rng(0)
    talks = [[list(rng.integers(0, 3, 20)) for _ in range(12)] for _ in range(2)]
    return [merge(talks[0]), pack(talks[1][:6])]


def test_flex_attention_is_given_no_dense_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = _two_trees()
    tokens, _, visible = side_by_side(trees)
    given = masks(trees, tokens.shape[1], attention.NAME, torch.float32, CPU)
    assert given["key_runs"] == seen_keys(visible, attention.NAME)["key_runs"]
    dense = tree_mask(visible, torch.float32, CPU)
    assert torch.equal(given["attention_mask"], dense)
    monkeypatch.setattr(PrefixTree, "mask", lambda _: pytest.fail("a dense mask"))
    given = masks(trees, tokens.shape[1], attention.FLEX, torch.float32, CPU)
    assert given.keys() == {"attention_mask"}
    assert isinstance(given["attention_mask"], BlockMask)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (9, 3)])
def test_flex_attention_equals_the_masked_one(heads: tuple[int, int]) -> None:
    trees = _two_trees()
    _, _, visible = side_by_side(trees)
    size = visible.shape[-1]
    assert size > 128  # several blocks, or a mask of blocks says nothing
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads[0], size, 16, generator=rng)
    key, value = (torch.randn(2, heads[1], size, 16, generator=rng) for _ in range(2))
    results = []
    for name, run in ((attention.FLEX, tree_flex), (attention.NAME, grouped_bmm)):
        mask = masks(trees, size, name, torch.float32, CPU)["attention_mask"]
        results.append(run(torch.nn.Module(), query, key, value, mask, 0.3)[0])
    assert results[0].shape == (2, size, heads[0], 16)
    for row, tree in enumerate(trees):  # padding sees other things, and nobody sees it
        n = len(tree.tokens)
        torch.testing.assert_close(results[0][row, :n], results[1][row, :n], atol=1e-5, rtol=1e-5)


def _seen(visible: np.ndarray) -> np.ndarray:
    """(longest, longest) bool: which keys a query's block is held to."""
    found = np.zeros(visible.shape[1:], dtype=bool)
    begin = 0
    for end, runs in seen_keys(visible, attention.NAME)["key_runs"]:
        for a, b in runs:
            found[begin:end, a:b] = True
        begin = end
    assert begin == len(found)
    return found


@pytest.mark.parametrize("length", [130, 200, 256, 700])
@pytest.mark.parametrize("kind", [merge, pack])
def test_keys_that_a_block_does_not_see_are_left_out_and_change_nothing(
    length: int, kind: Callable[[list[list[int]]], PrefixTree]
) -> None:
    rng = np.random.default_rng(length)
    sequences = [[7] * 20 + list(rng.integers(0, 50, length // 5)) for _ in range(5)]
    trees = [kind(sequences), kind(sequences[:3])]
    _, _, visible = side_by_side(trees, multiple=1)
    size = visible.shape[-1]
    assert bool((_seen(visible) >= visible.any(axis=0)).all())
    inputs = [
        torch.randn(2, heads, size, 8, generator=torch.Generator().manual_seed(heads))
        for heads in (4, 2, 2)
    ]
    mask = tree_mask(visible, torch.float32, CPU)
    results = []
    for told in ({}, seen_keys(visible, attention.NAME)):
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        out, _ = grouped_bmm(torch.nn.Module(), *given, mask, 0.3, **told)
        out.square().sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in given)])
    for whole, blocks in zip(*results, strict=True):
        torch.testing.assert_close(whole, blocks, atol=1e-5, rtol=1e-5)


def test_long_rows_of_short_branches_leave_most_keys_out() -> None:
    sequences = [[7] * 64 + [n] * 128 for n in range(8)]
    _, _, visible = side_by_side([merge(sequences)])
    assert _seen(visible).mean() < 0.3
    assert seen_keys(visible, "sdpa") == {}
    assert seen_keys(visible[:, :128, :128], attention.NAME) == {}


def test_a_packed_row_leaves_most_blocks_out() -> None:
    tree = pack([[1] * 128] * 8)
    mask = block_mask([tree], 1024, CPU)
    assert mask.sparsity() == pytest.approx(100 * (1 - 8 / 64))


@pytest.mark.parametrize("run", [grouped_bmm, tree_flex])
@pytest.mark.parametrize("more", [{"softcap": 30.0}, {"s_aux": torch.zeros(4)}, {"dropout": 0.1}])
def test_scores_that_are_bent_otherwise_are_refused(run: object, more: dict[str, object]) -> None:
    with pytest.raises(EmoVerseError, match="set attention: sdpa"):
        run(torch.nn.Module(), *_tensors(4, 2, 3, 3), None, **more)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wanted", "device", "tokens", "chosen"),
    [
        ("auto", CPU, 400, "grouped"),
        ("auto", CPU, 3072, "sdpa"),
        ("auto", GPU, 400, "sdpa"),
        ("auto", GPU, 3072, "flex"),
        ("sdpa", GPU, 3072, "sdpa"),
        ("grouped", CPU, 3072, "grouped"),
        ("flex", GPU, 10, "flex"),
    ],
)
def test_the_machine_and_its_rows_choose(
    wanted: str, device: torch.device, tokens: int, chosen: str
) -> None:
    assert choose(wanted, device, tokens) == chosen


def test_flex_attention_is_refused_where_it_cannot_train() -> None:
    with pytest.raises(EmoVerseError, match="cannot train on a CPU"):
        choose("flex", CPU, 3072)
