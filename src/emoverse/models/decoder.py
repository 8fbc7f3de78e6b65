"""Writing token by token: a language model's step, with the keys and values it has seen so far.

A Llama whose weights are laid out for a CPU (`emoverse.models.llama`) has a step of its own; every
other model takes transformers'. Both get the same `Branch`es and give the same interface, so that
what is written does not know which it runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from emoverse.models.language import Language
from emoverse.models.llama import FusedLlama, FusedSteps


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A sequence that was run and may be continued.

    Attributes:
        keys: (layers, kv heads, length, d), rotated to their positions.
        values: the same shape.
        hidden: (width,) hidden state of the last token, after the last norm.
        following: the position of the next token.
    """

    keys: torch.Tensor
    values: torch.Tensor
    hidden: torch.Tensor
    following: int


class Steps(Protocol):
    """Sequences that go on side by side."""

    def step(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run further tokens.

        Args:
            tokens: (rows, new) ids of words.
            positions: (rows, new) their places in their sequences.
            seen: (rows, new, old + new) bool, what each may attend to.
            real: (rows, new) bool, False where there is but padding, whose states are of no use;
                all are real by default.

        Returns:
            (rows, new, width) hidden states after the last norm.
        """

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of the next token.

        Args:
            hidden: (rows, width).
            allowed: ids of the tokens that are asked for; all by default.

        Returns:
            (rows, vocabulary or allowed) float32.
        """


def begin(
    model: Language, branches: Sequence[Branch], fused: FusedLlama | None = None
) -> tuple[Steps, torch.Tensor]:
    """Put branches side by side, shorter ones behind padding.

    Args:
        model: what ran them.
        branches: at least one.
        fused: the model's weights laid out, where there are any; they are worth keeping.

    Returns:
        What takes the next step, and (rows, longest) bool: False where there is padding.
    """
    longest = max(branch.keys.shape[2] for branch in branches)
    seen = torch.zeros(len(branches), longest, dtype=torch.bool, device=branches[0].keys.device)
    keys, values = [], []
    for row, branch in enumerate(branches):
        missing = longest - branch.keys.shape[2]
        keys.append(functional.pad(branch.keys, (0, 0, missing, 0)))
        values.append(functional.pad(branch.values, (0, 0, missing, 0)))
        seen[row, missing:] = True
    past = torch.stack(keys, dim=1), torch.stack(values, dim=1)  # (layers, rows, heads, ...)
    return (FusedSteps(fused, *past) if fused else _PlainSteps(model, *past)), seen


class _PlainSteps:
    def __init__(self, model: Any, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._language: Any = model.language
        self._head: Any = model.head
        self._cache = model.new_cache()
        for layer in range(len(keys)):
            self._cache.update(keys[layer], values[layer], layer)

    def step(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        embeddings = self._language.get_input_embeddings()(tokens)
        mask = torch.zeros(seen.shape, dtype=embeddings.dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(embeddings.dtype).min)
        output = self._language(
            inputs_embeds=embeddings,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        states: torch.Tensor = output.last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        head = self._head
        if allowed is None:
            scores: torch.Tensor = head(hidden).float()
            return scores
        bias = None if head.bias is None else head.bias[allowed]
        return functional.linear(hidden, head.weight[allowed], bias).float()
