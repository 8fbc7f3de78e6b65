"""What answering asks of any model: its language model, its output layer and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import Cache, PreTrainedTokenizerBase

from emoverse.models.prefix_tree import PrefixTree


class Language(Protocol):
    """`EmoVerse` and `Mllm`, as far as words go."""

    @property
    def name(self) -> str:
        """How reports call it."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    def language(self) -> torch.nn.Module:
        """The language model without its output layer."""

    @property
    def head(self) -> torch.nn.Module:
        """The output layer."""

    def hidden_states(
        self,
        trees: Sequence[PrefixTree],
        features: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """Run prefix trees side by side, see `EmoVerse.hidden_states`."""
        ...
