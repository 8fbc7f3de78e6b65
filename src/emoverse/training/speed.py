"""What a machine runs quickest: the attention's implementation, compiled layers, fused losses."""

from __future__ import annotations

import resource
import sys
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import Recipe
from emoverse.models import attention
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.training.lora import quicken

_FUSED_FROM = 2**28  # logits of a batch (1 GiB in float32) from which they are made in pieces


def tune(model: EmoVerse | Mllm, recipe: Recipe, device: torch.device, sample_tokens: float) -> str:
    """Set how the language model attends; compile or checkpoint its layers where the recipe says.

    Args:
        model: with its LoRA.
        recipe: its `attention`, `compile`, `gradient_checkpointing` and `row_tokens`.
        device: where the model is.
        sample_tokens: of a typical sample; rows are longer than the recipe's where samples are.

    Returns:
        The attention chosen: a key of `attention.IMPLEMENTATIONS`.

    Raises:
        EmoVerseError: the machine or the model does not allow what the recipe wants.
    """
    language = language_of(model)
    chosen = attention.choose(recipe.attention, device, max(recipe.row_tokens, sample_tokens))
    if recipe.attention == "auto" and getattr(language.config, "attention_dropout", None):
        chosen = "sdpa"  # the others drop no weights
    if not isinstance(model, Mllm) and chosen == "flex":
        if recipe.attention == "flex":
            raise EmoVerseError(
                "The rows of the compact model are too short for FlexAttention; leave attention "
                "out of its recipe."
            )
        chosen = "sdpa"
    language.set_attn_implementation(attention.IMPLEMENTATIONS[chosen])
    quicken(language)
    for layer in layers_of(model):
        if recipe.gradient_checkpointing:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        if recipe.compile:
            layer.compile(dynamic=True)
    return chosen


def language_of(model: EmoVerse | Mllm) -> Any:
    """The language model, out of the LoRA's wrapping."""
    place = model.language_name if isinstance(model, Mllm) else "language_model"
    language = getattr(model.network.model, place)
    return language.get_base_model() if hasattr(language, "get_base_model") else language


def layers_of(model: EmoVerse | Mllm) -> nn.ModuleList:
    """The layers of the language model."""
    return next(
        module
        for name, module in language_of(model).named_modules()
        if name.split(".")[-1] == "layers" and isinstance(module, nn.ModuleList)
    )


def token_losses(head: nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of tokens under the output layer.

    Many tokens at once go through PyTorch's fused `linear_cross_entropy` (2.13 and later), which
    never holds all logits; few are quicker without, as it computes them twice.

    Args:
        head: the output layer, (vocabulary, width), frozen.
        hidden: (k, width).
        targets: (k,) token ids.

    Returns:
        (k,) float32.
    """
    fused = getattr(functional, "linear_cross_entropy", None)
    plain = getattr(head, "bias", None) is None
    if fused is not None and plain and len(targets) * head.out_features >= _FUSED_FROM:
        options = nn.LinearCrossEntropyOptions()
        losses: torch.Tensor = fused(
            hidden, head.weight, targets, reduction="none", options=options
        )
        return losses.float()
    return functional.cross_entropy(head(hidden).float(), targets, reduction="none")


def peak_memory(device: torch.device) -> float:
    """Most memory the process has held so far, in GB: the GPU's, or main memory without one."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * {"darwin": 1}.get(sys.platform, 1024) / 1e9  # macOS counts bytes
