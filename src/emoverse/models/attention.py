"""How prefix trees attend: three ways of one result, each the quickest somewhere.

`sdpa`, PyTorch's fused kernels, is given the tree as an additive mask and works everywhere.
`grouped` is for CPUs: there PyTorch's fused kernel is slow backwards in bfloat16, and transformers'
eager one repeats the key heads and runs its softmax in float32. `flex` is FlexAttention, for GPUs;
it has no backward pass on CPUs. Both leave out blocks of keys that no query of a block sees: in
long rows of many samples most of them. `benchmarks/train.py` measures all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask, flex_attention_mask

from emoverse.errors import EmoVerseError
from emoverse.models.key_runs import Runs, picked, runs_of
from emoverse.models.prefix_tree import PrefixTree, seen_by

NAME = "grouped_bmm"
FLEX = "tree_flex"
IMPLEMENTATIONS = {"sdpa": "sdpa", "grouped": NAME, "flex": FLEX}
"""Names in recipes to names in transformers."""

_GROUPED_UP_TO = 2048  # tokens of a row; beyond, the weights that it keeps fill the memory
_FLEX_FROM = 1024  # tokens of a row; below, there is too little to leave out
_MORE_THAN_SCORES = ("softcap", "s_aux", "position_bias")  # arguments of families that bend them


def choose(wanted: str, device: torch.device, row_tokens: float) -> str:
    """The implementation for a machine and its rows.

    Args:
        wanted: a key of `IMPLEMENTATIONS`, or `auto`.
        device: where the language model trains.
        row_tokens: of a typical row.

    Returns:
        A key of `IMPLEMENTATIONS`.

    Raises:
        EmoVerseError: FlexAttention is wanted on a CPU.
    """
    if wanted == "flex" and device.type == "cpu":
        raise EmoVerseError(
            "attention: flex cannot train on a CPU (PyTorch has no backward pass for it there); "
            "set attention: auto."
        )
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return "grouped" if row_tokens <= _GROUPED_UP_TO else "sdpa"
    return "flex" if device.type == "cuda" and row_tokens >= _FLEX_FROM else "sdpa"


def window_of(config: Any) -> int | None:
    """How many tokens a layer of a language model sees at most; None where all see everything.

    Args:
        config: the language model's.
    """
    kinds = getattr(config, "layer_types", None)  # without them all layers are alike
    limits = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    found = [
        getattr(config, limit, None) for kind, limit in limits.items() if kind in (kinds or [kind])
    ]
    return min((int(size) for size in found if size), default=None)


def masks(
    trees: Sequence[PrefixTree],
    longest: int,
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Any]:
    """What the nodes of trees side by side see, as arguments of a language model.

    For FlexAttention a `block_mask`, which spares the dense one, that grows with the square of a
    row; else `tree_mask` and `seen_keys`.

    Args:
        trees: one a row.
        longest: nodes of a row, padding included.
        implementation: a value of `IMPLEMENTATIONS`.
        dtype: of the hidden states.
        device: where they are.
    """
    if implementation == FLEX:
        return {"attention_mask": block_mask(trees, longest, device)}
    seen = seen_by(trees, longest)
    return {"attention_mask": tree_mask(seen, dtype, device), **seen_keys(seen, implementation)}


def tree_mask(visible: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What the nodes of trees side by side see, as an additive mask (rows, 1, longest, longest).

    Args:
        visible: (rows, longest, longest) bool, of `side_by_side`.
        dtype: of the hidden states.
        device: where they are.
    """
    hidden = torch.zeros(visible.shape, dtype=dtype)
    hidden.masked_fill_(~torch.from_numpy(visible), torch.finfo(dtype).min)
    return hidden[:, None].to(device)


def seen_keys(visible: np.ndarray, implementation: str) -> dict[str, Runs]:
    """What `grouped` is told beside the mask, as an argument of the language model.

    Args:
        visible: (rows, longest, longest) bool, of `side_by_side`.
        implementation: a value of `IMPLEMENTATIONS`; the others are told nothing.
    """
    runs = runs_of(visible) if implementation == NAME else None
    return {} if runs is None else {"key_runs": runs}


def block_mask(trees: Sequence[PrefixTree], longest: int, device: torch.device) -> BlockMask:
    """The trees' ancestry for FlexAttention; padding sees itself alone.

    A node sees exactly those that a walk down the tree enters before it and leaves after it, so two
    numbers a node say everything.

    Args:
        trees: one a row.
        longest: nodes of a row, padding included.
        device: where the hidden states are.
    """
    spans = np.tile(np.arange(longest), (2, len(trees), 1))
    spans[1] += 1
    for row, tree in enumerate(trees):
        spans[:, row, : len(tree.tokens)] = _spans(tree.parents)
    enter, leave = torch.from_numpy(spans).to(device)

    def sees(
        row: torch.Tensor, _: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        seen: torch.Tensor = enter[row, query] >= enter[row, key]
        return seen.logical_and(enter[row, query] < leave[row, key])

    return create_block_mask(sees, len(trees), None, longest, longest, device=device)


def _spans(parents: np.ndarray) -> np.ndarray:
    """When a walk down the trees enters each node, and how many it has entered on leaving it."""
    n = len(parents)
    sizes = np.ones(n, dtype=np.int64)
    for node in range(n - 1, -1, -1):  # parents come first, so children are summed before them
        if parents[node] >= 0:
            sizes[parents[node]] += sizes[node]
    enter = np.zeros(n, dtype=np.int64)
    free = 0  # the next root's place
    within = np.zeros(n, dtype=np.int64)  # the next child's place within each node
    for node in range(n):
        parent = parents[node]
        if parent < 0:
            enter[node], free = free, free + sizes[node]
        else:
            enter[node] = within[parent]
            within[parent] += sizes[node]
        within[node] = enter[node] + 1
    return np.stack([enter, enter + sizes])


def grouped_bmm(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    key_runs: Runs | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention by two batched products, in transformers' attention interface.

    Args:
        module: the attention layer; unused.
        query: (b, heads, t, d).
        key: (b, kv_heads, s, d).
        value: (b, kv_heads, s, d).
        attention_mask: additive, broadcastable to (b, 1, t, s); None attends everywhere.
        scaling: factor on the scores, 1/sqrt(d) when None.
        key_runs: of `seen_keys`; without them every query is held to every key.
        more: what a family wants besides.

    Returns:
        (b, t, heads, d), and None for the weights.

    Raises:
        EmoVerseError: the family bends the scores in a way this does not know.
    """
    _only_scores("grouped", more)
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
    if attention_mask is None or key_runs is None or torch.compiler.is_compiling():
        return _two_products(query, key, value, attention_mask).transpose(1, 2).contiguous(), None
    parts, begin = [], 0
    for end, runs in key_runs:
        mine = attention_mask[:, :, begin:end]
        keys, values = (picked(whole, runs, -2) for whole in (key, value))
        parts.append(_two_products(query[:, :, begin:end], keys, values, picked(mine, runs, -1)))
        begin = end
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _two_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    batch, heads, steps, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * steps, width)
    scores = (grouped @ key.transpose(2, 3)).view(batch, groups, heads // groups, steps, -1)
    if mask is not None:
        scores = scores + mask[:, :, None]
    weights = scores.softmax(dim=-1).view(batch, groups, heads // groups * steps, -1)
    return (weights @ value).view(batch, heads, steps, width)


def tree_flex(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: BlockMask | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """FlexAttention in transformers' attention interface.

    Args:
        module: the attention layer; unused.
        query: (b, heads, t, d).
        key: (b, kv_heads, s, d).
        value: (b, kv_heads, s, d).
        attention_mask: which blocks are looked at; None attends everywhere.
        scaling: factor on the scores, 1/sqrt(d) when None.
        more: what a family wants besides.

    Returns:
        (b, t, heads, d), and None for the weights.

    Raises:
        EmoVerseError: the family bends the scores in a way this does not know.
    """
    _only_scores("flex", more)
    run: Callable[..., Any] = flex_attention
    if query.device.type != "cpu":
        run = _compiled_flex()
    mixed = run(
        query,
        key,
        value,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed.transpose(1, 2).contiguous(), None


_compiled: list[Callable[..., Any]] = []


def _compiled_flex() -> Callable[..., Any]:
    if not _compiled:  # compiled on first use: only then it needs a compiler
        _compiled.append(torch.compile(flex_attention))
    return _compiled[0]


def _only_scores(name: str, more: dict[str, Any]) -> None:
    strange = [key for key in _MORE_THAN_SCORES if more.get(key) is not None]
    strange += ["dropout"] if more.get("dropout") else []
    if strange:
        raise EmoVerseError(
            f"attention: {name} does not fit this model, whose layers also use {strange[0]}; set "
            "attention: sdpa."
        )


AttentionInterface.register(NAME, grouped_bmm)
AttentionMaskInterface.register(NAME, eager_mask)
AttentionInterface.register(FLEX, tree_flex)
AttentionMaskInterface.register(FLEX, flex_attention_mask)
