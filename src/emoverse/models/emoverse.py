"""EmoVerse: visual encoder, projector and language model (Eq 4-6), one class for every size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    Cache,
    DynamicCache,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from emoverse.models import attention
from emoverse.models.prefix_tree import PrefixTree, padded
from emoverse.models.prompt import IMAGE_TOKENS as IMAGE_TOKENS


class LinearProjector(nn.Module):
    """Eq 4, T'_v = W_v T_v: visual tokens (…, in) to the language model's width (…, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Project visual tokens."""
        projected: torch.Tensor = self.linear(tokens)
        return projected


@dataclass(frozen=True, slots=True, eq=False)
class EmoVerse:
    """A model with its tokenizer, ready to answer.

    Attributes:
        name: how reports call it.
        network: InternVL, its language model possibly wrapped by peft.
        tokenizer: knows `IMAGE_TOKENS`.
        image_tokens: visual tokens per picture.
    """

    name: str
    network: InternVLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    image_tokens: int

    @property
    def dtype(self) -> torch.dtype:
        """Precision the language model runs in."""
        dtype: torch.dtype = self.network.lm_head.weight.dtype
        return dtype

    @property
    def language(self) -> torch.nn.Module:
        """The language model without its output layer."""
        language: torch.nn.Module = self.network.model.language_model
        return language

    @property
    def head(self) -> torch.nn.Module:
        """The output layer."""
        head: torch.nn.Module = self.network.lm_head
        return head

    @torch.no_grad()
    def visual_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Frozen part of seeing: pictures to pixel-shuffled ViT tokens, before the projector.

        Args:
            pixels: (n, 3, side, side), normalised.

        Returns:
            (n, image_tokens, 4 x ViT width).
        """
        model = self.network.model
        vision = model.vision_tower
        weight = next(vision.parameters())
        tokens = vision(pixel_values=pixels.to(weight.dtype)).last_hidden_state[:, 1:]
        side = int(tokens.shape[1] ** 0.5)
        grid = tokens.reshape(len(pixels), side, side, -1)
        shuffled = model.pixel_shuffle(grid, scale_factor=self.network.config.downsample_ratio)
        return shuffled.reshape(len(pixels), self.image_tokens, -1)  # type: ignore[no-any-return]

    def embed(self, ids: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """Eq 5, X = [T'_v; T_t]: word embeddings, with visual tokens where ids are negative.

        Args:
            ids: any shape (...); -1 - k stands for row k of `features`.
            features: (m, width) projected visual tokens.

        Returns:
            (..., width).
        """
        language = self.network.model.language_model
        embeddings: torch.Tensor = language.get_input_embeddings()(ids.clamp(min=0))
        seen = ids < 0
        if features is not None and bool(seen.any()):
            visual = features[-1 - ids[seen]].to(embeddings.dtype)
            embeddings = embeddings.index_put((seen,), visual)
        return embeddings

    def new_cache(self) -> DynamicCache:
        """See `Language`."""
        return DynamicCache()

    def hidden_states(
        self,
        trees: Sequence[PrefixTree],
        features: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """See `Language`; features are (m, width)."""
        tokens, positions = padded(trees)
        device = self.network.lm_head.weight.device
        ids = torch.from_numpy(tokens).to(device)
        embeddings = self.embed(ids, features)
        language: Any = self.language
        name = language.config._attn_implementation
        output = language(
            inputs_embeds=embeddings,
            position_ids=torch.from_numpy(positions).to(device),
            past_key_values=cache,
            use_cache=cache is not None,
            **attention.masks(trees, tokens.shape[1], name, embeddings.dtype, device),
        )
        states: torch.Tensor = output.last_hidden_state
        return states

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Eq 4: (n, image_tokens, in) visual tokens to (n * image_tokens, width) features."""
        projector = self.network.model.multi_modal_projector
        weight = next(projector.parameters())
        projected: torch.Tensor = projector(tokens.to(weight.dtype)).flatten(0, 1)
        return projected
