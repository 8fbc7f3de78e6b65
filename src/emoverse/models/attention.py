"""Attention for CPUs: two batched products in the model's own precision.

PyTorch's fused CPU kernel is slow backwards in bfloat16, and transformers' eager one repeats the
key heads and runs its softmax in float32; on a 2-core AVX512-BF16 machine this is 1.2 times as
fast as either in training (`benchmarks/train.py` measures it).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

NAME = "grouped_bmm"


def grouped_bmm(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention in transformers' attention interface.

    Args:
        module: the attention layer; unused.
        query: (b, heads, t, d).
        key: (b, kv_heads, s, d).
        value: (b, kv_heads, s, d).
        attention_mask: additive, broadcastable to (b, 1, t, s); None attends everywhere.
        scaling: factor on the scores, 1/sqrt(d) when None.

    Returns:
        (b, t, heads, d), and None for the weights.
    """
    batch, heads, steps, width = query.shape
    groups = key.shape[1]
    scaling = width**-0.5 if scaling is None else scaling
    grouped = (query * scaling).reshape(batch, groups, heads // groups * steps, width)
    scores = (grouped @ key.transpose(2, 3)).view(batch, groups, heads // groups, steps, -1)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None, :, : key.shape[2]]
    weights = scores.softmax(dim=-1).view(batch, groups, heads // groups * steps, -1)
    mixed = (weights @ value).view(batch, heads, steps, width)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_bmm)
