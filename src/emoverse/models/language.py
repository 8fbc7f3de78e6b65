"""What answering asks of any model: its language model, its output layer and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from emoverse.models.prefix_tree import PrefixTree


class Tokenizer(Protocol):
    """What prompts and answers ask of a tokenizer; those of transformers have it."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """A mapping whose `input_ids` are the text's."""

    def decode(self, ids: Any, /, *, skip_special_tokens: bool = False) -> Any:
        """The text of ids."""


class Language(Protocol):
    """`Lean`, `EmoVerse` and `Mllm`, as far as words go."""

    @property
    def name(self) -> str:
        """How reports call it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    @property
    def head(self) -> Any:
        """The output layer: hidden states (…, width) to (…, vocabulary)."""

    def new_cache(self) -> Any:
        """An empty cache for `hidden_states`, whose `layers` have `keys` and `values`."""

    def hidden_states(
        self,
        trees: Sequence[PrefixTree],
        features: torch.Tensor | None = None,
        cache: Any = None,
    ) -> torch.Tensor:
        """Run prefix trees side by side (Eq 5 and 6, without the output layer).

        Args:
            trees: one row each, padded to the longest.
            features: (m, columns) projected visual tokens that negative ids point into.
            cache: an empty one, which is left with the keys and values of all nodes.

        Returns:
            (rows, longest, width) hidden states after the last norm.
        """
        ...
