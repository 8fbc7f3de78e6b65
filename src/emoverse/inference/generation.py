"""Free text: greedy generation, several prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import DynamicCache

from emoverse.models.emoverse import EmoVerse


@torch.inference_mode()
def generate(
    model: EmoVerse,
    prompts: Sequence[Sequence[int]],
    features: torch.Tensor | None = None,
    *,
    end: int,
    most: int,
    ban_repeats: int = 0,
    told: Callable[[int, Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """Continue each prompt greedily.

    Args:
        model: the model asked.
        prompts: token ids; negative ones point into `features`.
        features: (m, width) projected visual tokens.
        end: the token that ends an answer.
        most: most new tokens.
        ban_repeats: when positive, no run of this many new tokens is written twice.
        told: is called after every new token with the prompt's place and its new tokens so far;
            when it returns False, that answer ends there.

    Returns:
        The new tokens of each prompt, without the end token.
    """
    device = model.network.lm_head.weight.device
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt, device=device)
    embeddings = model.embed(tokens, features)
    cache = DynamicCache()
    written: list[list[int]] = [[] for _ in prompts]
    open_rows = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for _ in range(most):
        steps = embeddings.shape[1]
        keys = cache.get_seq_length() + steps
        queries = torch.arange(keys - steps, keys, device=device)
        seen = torch.arange(keys, device=device)
        visible = (seen[None, None] <= queries[None, :, None]) & (
            seen[None, None] >= padding[:, None, None]
        )
        # A padding place sees itself, or its softmax is NaN.
        visible |= seen[None, None] == queries[None, :, None]
        mask = torch.zeros(visible.shape, dtype=embeddings.dtype, device=device)
        mask.masked_fill_(~visible, torch.finfo(embeddings.dtype).min)
        positions = (queries[None] - padding[:, None]).clamp(min=0)
        output = model.network.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits = model.network.lm_head(output.last_hidden_state[:, -1]).float()
        if ban_repeats:
            for row, past in enumerate(written):
                logits[row, _repeats(past, ban_repeats)] = -torch.inf
        chosen = logits.argmax(dim=-1)
        open_rows &= chosen != end
        for row in torch.nonzero(open_rows).flatten().tolist():
            written[row].append(int(chosen[row]))
            if told and not told(row, written[row]):
                open_rows[row] = False
        if not bool(open_rows.any()):
            break
        embeddings = model.embed(chosen[:, None], None)
    return written


def _repeats(past: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete a run of `size` tokens that is in `past` already."""
    last = list(past[-(size - 1) :]) if size > 1 else []
    if len(past) < size:
        return []
    return [
        past[start + size - 1]
        for start in range(len(past) - size + 1)
        if list(past[start : start + size - 1]) == last
    ]
