"""Free text: greedy generation, several answers at once, optionally within a grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
        unwanted: runs of tokens that are not written, for each prompt; none by default. An answer
            that comes to the end of one goes back to before it.
        told: is called after new tokens with the prompt's place and its new tokens so far (fewer
            than before where it went back); when it returns False, that answer ends there.
        fused: the model's fused weights, when there are any.

    Returns:
        The new tokens of each prompt, without the end token.
    """
    steps, seen = begin(model, branches, fused)
    drafts = [
        _Draft(branch.following, unwanted[row] if unwanted else ())
        for row, branch in enumerate(branches)
    ]
    hidden = torch.stack([branch.hidden for branch in branches])
    going = set(range(len(branches)))
    while True:
        if grammar is None:
            chosen = _free(steps, hidden, seen, {row: drafts[row] for row in going}, ban_repeats)
        else:
            chosen = _within(steps, hidden, {row: drafts[row] for row in going}, grammar)
        fresh: list[list[int]] = [[] for _ in branches]
        for row, token in chosen.items():
            written = drafts[row].written
            fresh[row] = _forced(written, token, grammar, end, most)
            ended = fresh[row][-1:] == [end]
            written += fresh[row][:-1] if ended else fresh[row]
            unheard = told is not None and token != end and not told(row, list(written))
            if ended or unheard or len(written) >= most:
                going.remove(row)
                fresh[row] = []
        if not going:
            return [draft.written for draft in drafts]
        following = [draft.following for draft in drafts]
        for draft, some in zip(drafts, fresh, strict=True):
            draft.columns += range(seen.shape[1], seen.shape[1] + len(some))
        tokens, positions, visible, seen = _side_by_side(fresh, following, seen)
        states = steps.step(tokens, positions, visible)
        last = [max(len(some), 1) - 1 for some in fresh]
        hidden = states[torch.arange(len(fresh)), last]


@dataclass(slots=True)
class _Draft:
    """An answer in the making.

    Attributes:
        begins: the position of its first token.
        unwanted: runs of tokens that it is not to hold.
        written: its tokens.
        columns: where they stand among the keys and values.
        hidden: of free text, the state that each of them was chosen by.
        barred: tokens that began an unwanted run, by their place.
    """

    begins: int
    unwanted: Sequence[Sequence[int]]
    written: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    hidden: list[torch.Tensor] = field(default_factory=list)
    barred: dict[int, set[int]] = field(default_factory=dict)

    @property
    def following(self) -> int:
        """The position of its next token."""
        return self.begins + len(self.columns)

    def spoilt(self, token: int) -> int | None:
        """The place where an unwanted run begins that `token` would complete."""
        for run in self.unwanted:
            start = len(self.written) + 1 - len(run)
            if start >= 0 and [*self.written[start:], token] == list(run):
                return start
        return None

    def back(self, start: int, token: int) -> list[int]:
        """Forget what is written from `start` on, and bar what began it; the columns to hide.

        Without its last token alone, a word that was begun ends as none: `annoy` goes on to
        `annoyness` where `annoyance` is unwanted.
        """
        first = [*self.written, token][start]
        self.barred = {place: some for place, some in self.barred.items() if place <= start}
        self.barred.setdefault(start, set()).add(first)
        hidden = self.columns[start:]
        del self.written[start:], self.columns[start:], self.hidden[start + 1 :]
        return hidden


def _free(
    steps: Steps,
    hidden: torch.Tensor,
    seen: torch.Tensor,
    drafts: Mapping[int, _Draft],
    ban_repeats: int,
) -> dict[int, int]:
    """The likeliest next token of each row that completes nothing unwanted.

    A draft that has begun an unwanted run goes back to before it: its columns are hidden in `seen`.
    """
    for row, draft in drafts.items():
        draft.hidden.append(hidden[row])
    chosen: dict[int, int] = {}
    open_rows = sorted(drafts)
    while open_rows:
        logits = steps.logits(torch.stack([drafts[row].hidden[-1] for row in open_rows]))
        for place, row in enumerate(open_rows):
            draft = drafts[row]
            barred = draft.barred.get(len(draft.written), ())
            logits[place, [*_repeats(draft.written, ban_repeats), *barred]] = -torch.inf
        chosen |= dict(zip(open_rows, logits.argmax(dim=-1).tolist(), strict=True))
        spoilt = []
        for row in open_rows:
            start = drafts[row].spoilt(chosen[row])
            if start is not None:
                seen[row, drafts[row].back(start, chosen[row])] = False
                spoilt.append(row)
        open_rows = spoilt
    return chosen


def _within(
    steps: Steps, hidden: torch.Tensor, drafts: Mapping[int, _Draft], grammar: Grammar
) -> dict[int, int]:
    """The likeliest next token of each row that the grammar allows."""
    found = {}
    for row, draft in sorted(drafts.items()):
        allowed = grammar(draft.written)
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
