"""Free text: greedy generation, several answers at once, optionally within a grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from emoverse.models.decoder import Branch, Steps, begin
from emoverse.models.language import Language
from emoverse.models.llama import FusedLlama

# The tokens that may follow what was written, one at least.
Grammar = Callable[[Sequence[int]], Sequence[int]]


@torch.inference_mode()
def generate(
    model: Language,
    branches: Sequence[Branch],
    *,
    end: int,
    most: int,
    grammar: Grammar | None = None,
    ban_repeats: int = 0,
    unwanted: Sequence[Sequence[Sequence[int]]] = (),
    told: Callable[[int, Sequence[int]], bool] | None = None,
    fused: FusedLlama | None = None,
) -> list[list[int]]:
    """Continue each prompt greedily.

    Tokens that the grammar leaves no choice about are run together with the one before them.

    Args:
        model: the model asked.
        branches: the prompts, as `scoring.read` leaves them.
        end: the token that ends an answer.
        most: most new tokens.
        grammar: what may follow.
        ban_repeats: when positive, no run of this many new tokens is written twice.
        unwanted: runs of tokens that are not written, for each prompt; none by default.
        told: is called after new tokens with the prompt's place and its new tokens so far; when it
            returns False, that answer ends there.
        fused: the model's fused weights, when there are any.

    Returns:
        The new tokens of each prompt, without the end token.
    """
    steps, seen = begin(model, branches, fused)
    following = [branch.following for branch in branches]
    hidden = torch.stack([branch.hidden for branch in branches])
    written: list[list[int]] = [[] for _ in branches]
    going = set(range(len(branches)))
    while True:
        banned: dict[int, list[int]] = {}
        if grammar is None:
            for row in going:
                runs = unwanted[row] if unwanted else ()
                banned[row] = _repeats(written[row], ban_repeats) + _completing(written[row], runs)
        chosen = _chosen(steps, hidden, written, sorted(going), grammar, banned)
        fresh: list[list[int]] = [[] for _ in branches]
        for row, token in chosen.items():
            fresh[row] = _forced(written[row], token, grammar, end, most)
            ended = fresh[row][-1:] == [end]
            written[row] += fresh[row][:-1] if ended else fresh[row]
            unheard = told is not None and token != end and not told(row, list(written[row]))
            if ended or unheard or len(written[row]) >= most:
                going.remove(row)
                fresh[row] = []
        if not going:
            return written
        tokens, positions, visible, seen = _side_by_side(fresh, following, seen)
        states = steps.step(tokens, positions, visible)
        last = [max(len(some), 1) - 1 for some in fresh]
        hidden = states[torch.arange(len(fresh)), last]
        following = [place + len(some) for place, some in zip(following, fresh, strict=True)]


def _chosen(
    steps: Steps,
    hidden: torch.Tensor,
    written: Sequence[Sequence[int]],
    rows: Sequence[int],
    grammar: Grammar | None,
    banned: Mapping[int, Sequence[int]],
) -> dict[int, int]:
    """The likeliest next token of each row."""
    if grammar is None:
        logits = steps.logits(hidden)
        for row in rows:
            logits[row, banned[row]] = -torch.inf
        best = logits.argmax(dim=-1).tolist()
        return {row: best[row] for row in rows}
    found = {}
    for row in rows:
        allowed = grammar(written[row])
        logits = steps.logits(hidden[row : row + 1], torch.tensor(allowed, device=hidden.device))
        found[row] = int(allowed[int(logits[0].argmax())])
    return found


def _forced(
    written: Sequence[int], token: int, grammar: Grammar | None, end: int, most: int
) -> list[int]:
    """A token and those that the grammar lets follow without a choice."""
    chain = [token]
    while grammar is not None and chain[-1] != end and len(written) + len(chain) < most:
        allowed = grammar([*written, *chain])
        if len(allowed) != 1:
            break
        chain.append(allowed[0])
    return chain


def _side_by_side(
    fresh: Sequence[Sequence[int]], following: Sequence[int], seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """New tokens as a batch: ids, positions, what each sees, and which columns hold a token.

    Rows that have fewer, or have ended, are filled up with tokens that see themselves alone and
    that nothing sees.
    """
    device = seen.device
    new = max(len(some) for some in fresh)
    real = torch.tensor([[n < len(some) for n in range(new)] for some in fresh], device=device)
    tokens = torch.tensor([[*some, *[0] * (new - len(some))] for some in fresh], device=device)
    positions = torch.tensor(following, device=device)[:, None] + torch.arange(new, device=device)
    causal = torch.ones(new, new, dtype=torch.bool, device=device).tril()
    visible = torch.cat(
        [
            seen[:, None].expand(-1, new, -1),
            causal & real[:, None] | torch.eye(new, dtype=torch.bool, device=device),
        ],
        dim=-1,
    )
    return tokens, positions, visible, torch.cat([seen, real], dim=-1)


def _repeats(past: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete a run of `size` tokens that is in `past` already."""
    if not size or len(past) < size:
        return []
    last = list(past[-(size - 1) :]) if size > 1 else []
    return [
        past[start + size - 1]
        for start in range(len(past) - size + 1)
        if list(past[start : start + size - 1]) == last
    ]


def _completing(past: Sequence[int], runs: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that would complete one of the runs."""
    return [
        run[-1] for run in runs if len(run) == 1 or list(past[-(len(run) - 1) :]) == list(run[:-1])
    ]
