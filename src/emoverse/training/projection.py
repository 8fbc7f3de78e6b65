"""How long a training takes: floating-point operations counted on shapes, and common GPUs' speed.

The language model runs forward and backward without weights (PyTorch's meta device) under PyTorch's
operation counter. A frozen weight costs two passes, not three: it has no gradient of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from emoverse.models.any_mllm import Mllm

PEAKS = {"RTX 3090": 71e12, "A100": 312e12, "H200": 989e12}
"""Dense bfloat16 operations a second with float32 sums, from NVIDIA's data sheets."""

REACHED = 0.4
"""The share of a card's peak that the projection assumes (model FLOPs utilisation)."""

ENTRIES, EPOCHS = 32_940, 2
"""The paper's schedule: EMT's entries (Table I), each in one of two stages, and passes over it."""


def hours(operations: float, peak: float) -> float:
    """Hours that so many operations take on a card."""
    return operations / (REACHED * peak) / 3600


def row_operations(model: Mllm, tokens: int, *, checkpointing: bool = False) -> int:
    """Operations of one row, forward and backward through the language model with its LoRA.

    Args:
        model: on the meta device, what is trained being marked so.
        tokens: of the row; its attention is counted in full, blocks that nobody sees included.
        checkpointing: whether each layer runs forward once more.
    """
    language: Any = model.language
    inner = language.get_base_model()
    whole, layers = inner.layers, len(inner.layers)
    counts = []
    try:
        for few in (1, 2):
            inner.layers = whole[:few]
            counts.append([_counted(language, inner, tokens, back) for back in (False, True)])
    finally:
        inner.layers = whole
    forward, both = (one + (layers - 1) * (two - one) for one, two in zip(*counts, strict=True))
    total: int = both + (forward if checkpointing else 0)
    return total


def clip_operations(network: Any, frames: int) -> int:
    """Operations of the frozen visual encoder for one clip, a tile a frame."""
    side = network.config.vision_config.image_size
    pixels = torch.empty(frames, 3, *side, dtype=torch.bfloat16, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.model.get_image_features(pixels)
    return int(counter.get_total_flops())


def _counted(language: Any, inner: Any, tokens: int, back: bool) -> int:
    width = inner.config.hidden_size
    states = torch.empty(1, tokens, width, dtype=torch.bfloat16, device="meta", requires_grad=True)
    mask = torch.zeros(1, 1, tokens, tokens, dtype=torch.bfloat16, device="meta")
    positions = torch.arange(tokens, device="meta")[None]
    with FlopCounterMode(display=False) as counter:
        output = language(
            inputs_embeds=states, attention_mask=mask, position_ids=positions, use_cache=False
        )
        if back:
            torch.autograd.backward(output.last_hidden_state.sum())
    return int(counter.get_total_flops())
