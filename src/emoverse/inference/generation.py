"""Free text: greedy generation, several answers at once, optionally within a grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from emoverse.inference.phrases import NONE, Phrases
from emoverse.models.decoder import Branch, Steps, begin
from emoverse.models.language import Language
from emoverse.models.llama import FusedLlama

# The tokens that may follow what was written, one at least.
Grammar = Callable[[Sequence[int]], Sequence[int]]

_AHEAD = 8  # guesses a step at most
_ODDS = 0.1  # of a guess and all before it, down to which it is worth a place in a step


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
    phrases: Phrases = NONE,
    prompts: Sequence[Sequence[int]] = (),
    fused: FusedLlama | None = None,
) -> list[list[int]]:
    """Continue each prompt greedily.

    Tokens that the grammar leaves no choice about are run together with the one before them, and so
    are those that `phrases` guesses. A step over some tokens costs little more than over one, and
    a guess is kept where the model chooses it too ("speculative decoding", Leviathan et al., ICML
    2023, with a table in place of the small model). So guesses do not change what is written, but
    for the rounding of bfloat16, where several tokens are added up otherwise than one.

    Args:
        model: the model asked.
        branches: the prompts, as `scoring.read` leaves them.
        end: the token that ends an answer.
        most: most new tokens.
        grammar: what may follow.
        ban_repeats: when positive, no run of this many new tokens is written twice.
        unwanted: of answers without a grammar, runs of tokens that are not written, for each
            prompt; none by default. An answer that comes to the end of one goes back to before it.
        told: is called after new tokens with the prompt's place and its new tokens so far (fewer
            than before where it went back); when it returns False, that answer ends there.
        phrases: what the model often writes.
        prompts: tokens of each prompt, which answers may quote.
        fused: the model's fused weights, when there are any.

    Returns:
        The new tokens of each prompt, without the end token.
    """
    steps, seen = begin(model, branches, fused)
    drafts = [
        _Draft(branch.following, unwanted[row] if unwanted and grammar is None else ())
        for row, branch in enumerate(branches)
    ]

    def choose(draft: _Draft, scores: torch.Tensor | None) -> int:
        """The likeliest token that may follow what is written."""
        if grammar is not None:
            return _within(steps, draft.hidden[-1], grammar(draft.written))
        if scores is None:
            scores = steps.logits(draft.hidden[-1][None])[0]
        return _free(scores, [*_repeats(draft.written, ban_repeats), *draft.barred_here])

    states = {row: branch.hidden[None] for row, branch in enumerate(branches)}
    while True:
        scores = {} if grammar else _scores(steps, states)
        fresh: list[list[int]] = [[] for _ in branches]
        decided: dict[int, int] = {}
        for row, mine in states.items():
            draft = drafts[row]
            before = len(draft.written)
            token, lost = _decide(draft, mine, scores.get(row, [None] * len(mine)), choose)
            if lost:
                seen[row, lost] = False
            certain = _forced(draft.written, token, grammar, end, most)
            ended = certain[-1] == end
            draft.written += certain[:-1] if ended else certain
            new = token != end or len(draft.written) != before
            unheard = told is not None and new and not told(row, list(draft.written))
            if not (ended or unheard or len(draft.written) >= most):
                prompt = prompts[row] if prompts else ()
                guesses = _ahead(draft.written, prompt, phrases, grammar, end, most)
                fresh[row], decided[row] = [*certain, *guesses], len(certain)
        if not decided:
            return [draft.written for draft in drafts]
        following = [draft.following for draft in drafts]
        for row, count in decided.items():
            drafts[row].stand_at(seen.shape[1], fresh[row], count)
        tokens, positions, visible, seen = _side_by_side(fresh, following, seen)
        found = steps.step(tokens, positions, visible, seen[:, -tokens.shape[1] :])
        states = {row: found[row, count - 1 : len(fresh[row])] for row, count in decided.items()}


@dataclass(slots=True)
class _Draft:
    """An answer in the making.

    Attributes:
        begins: the position of its first token.
        unwanted: runs of tokens that it is not to hold.
        written: its tokens.
        columns: where they stand among the keys and values.
        guessed: tokens that were run behind them and are not decided on, with their columns.
        hidden: of free text the state that each token was chosen by; the last one in any case.
        barred: tokens that began an unwanted run, by their place.
    """

    begins: int
    unwanted: Sequence[Sequence[int]]
    written: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    guessed: list[tuple[int, int]] = field(default_factory=list)
    hidden: list[torch.Tensor] = field(default_factory=list)
    barred: dict[int, set[int]] = field(default_factory=dict)

    @property
    def following(self) -> int:
        """The position of its next token."""
        return self.begins + len(self.columns)

    @property
    def barred_here(self) -> set[int]:
        """Tokens that are not to come next."""
        return self.barred.get(len(self.written), set())

    def stand_at(self, column: int, tokens: Sequence[int], decided: int) -> None:
        """Note that tokens are run from this column on, guesses behind the decided ones."""
        self.columns += range(column, column + decided)
        self.guessed = [(token, column + n) for n, token in enumerate(tokens) if n >= decided]

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


def _decide(
    draft: _Draft,
    states: torch.Tensor,
    scores: Sequence[torch.Tensor | None],
    choose: Callable[[_Draft, torch.Tensor | None], int],
) -> tuple[int, list[int]]:
    """Write down the guesses that are chosen; then the token that is chosen after them.

    A draft that has begun an unwanted run goes back to before it.

    Args:
        draft: what is written.
        states: (1 + guesses, width) after its last token, and after each guess.
        scores: of the token that follows each, where they are known.
        choose: the token that follows a draft.

    Returns:
        The token, and the columns that no longer hold anything of the draft.
    """
    guessed, draft.guessed = draft.guessed, []
    kept = 0
    while True:
        draft.hidden.append(states[kept])
        token = choose(draft, scores[kept])
        right = kept < len(guessed) and guessed[kept][0] == token
        if not right or draft.spoilt(token) is not None:
            break
        draft.written.append(token)
        draft.columns.append(guessed[kept][1])
        kept += 1
    lost = [column for _, column in guessed[kept:]]
    while (start := draft.spoilt(token)) is not None:
        lost += draft.back(start, token)
        token = choose(draft, None)
    return token, lost


def _scores(steps: Steps, states: Mapping[int, torch.Tensor]) -> dict[int, list[torch.Tensor]]:
    """Each row's scores of the words: one product, as the output layer is a large matrix."""
    found = steps.logits(torch.cat([*states.values()]))
    parts = torch.split(found, [len(mine) for mine in states.values()])
    return {row: [*part] for row, part in zip(states, parts, strict=True)}


def _free(scores: torch.Tensor, barred: Sequence[int]) -> int:
    scores[barred] = -torch.inf
    return int(scores.argmax())


def _within(steps: Steps, state: torch.Tensor, allowed: Sequence[int]) -> int:
    if len(allowed) == 1:
        return allowed[0]
    scores = steps.logits(state[None], torch.tensor(allowed, device=state.device))[0]
    return allowed[int(scores.argmax())]


def _ahead(
    written: Sequence[int],
    prompt: Sequence[int],
    phrases: Phrases,
    grammar: Grammar | None,
    end: int,
    most: int,
) -> list[int]:
    """Tokens that are likely to follow."""
    found: list[int] = []
    odds = 1.0
    # One more token is chosen after the last guess.
    while len(found) < _AHEAD and len(written) + len(found) + 1 < most:
        text = [*written, *found]
        allowed = grammar(text) if grammar else None
        sure = (allowed[0], 1.0) if allowed and len(allowed) == 1 else None
        guess = sure or phrases.after(text, prompt)
        if guess is None or guess[0] == end or (allowed and guess[0] not in allowed):
            break
        odds *= guess[1]
        if odds < _ODDS:
            break
        found.append(guess[0])
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
