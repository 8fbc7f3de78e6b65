"""One pass over prompts and their allowed answers: the probability of each answer.

Prompts that share a prefix (a conversation, or system prompt and picture) and the answers to each
prompt are merged into prefix trees (`emoverse.models.prefix_tree`): shared tokens are run once,
and no token is generated. A prompt whose answer is free text may go into the same pass; it
leaves the branch that `generation` continues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from emoverse.models.decoder import Branch
from emoverse.models.language import Language
from emoverse.models.prefix_tree import PADDING, PrefixTree, Sprout, common_prefix, merge

_HEAD_ROWS = 256  # tokens whose logits over all words are held at once


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A prompt with its allowed answers, as tokens.

    Attributes:
        prompt: token ids; negative ones point into the visual features.
        answers: token ids of each allowed answer, see `deciding`; none when the answer is to be
            written.
        scored: for each answer the indices of the tokens whose probability counts; tokens that
            the grammar dictates are left out.
        positions: (axes, len) of the prompt, for models that give a token several; None counts up.
    """

    prompt: list[int]
    answers: Sequence[list[int]] = ()
    scored: Sequence[list[int]] = ()
    positions: np.ndarray | None = None

    @property
    def following(self) -> int:
        """The position of what comes after the prompt."""
        return len(self.prompt) if self.positions is None else int(self.positions.max()) + 1


def deciding(answers: Sequence[list[int]]) -> list[list[int]]:
    """Answers up to the token that tells each from all the others.

    What comes after it says nothing about which answer it is, and need not be run.

    Args:
        answers: token ids, end mark included; none is the beginning of another.
    """
    counts = Counter(
        tuple(answer[:size]) for answer in answers for size in range(1, len(answer) + 1)
    )
    return [
        answer[: next(n for n in range(1, len(answer) + 1) if counts[tuple(answer[:n])] == 1)]
        for answer in answers
    ]


@torch.inference_mode()
def read(
    model: Language,
    questions: Sequence[Question],
    features: torch.Tensor | None = None,
    tree_tokens: int = 1536,
) -> list[np.ndarray | Branch]:
    """Run prompts and their allowed answers.

    Args:
        model: the model asked.
        questions: neighbours that share a prefix are cheaper.
        features: (m, width) projected visual tokens.
        tree_tokens: how many distinct tokens run at once at most; a question of more runs alone.

    Returns:
        For each question the (answers,) float64 log-probabilities, not normalised over the
        answers; or the branch to be continued when it has none.
    """
    results: list[np.ndarray | Branch] = []
    for group in _groups(questions, tree_tokens):
        sprout = Sprout()
        for start in _starts(group):
            sprout.add(start)
        prompts, paths = [], []
        for question in group:
            prompt = sprout.add(question.prompt)
            prompts.append(prompt)
            # Nothing is asked of what follows an answer's last token, so it is not run.
            paths.append([sprout.add(answer[:-1], prompt) for answer in question.answers])
        written = any(not question.answers for question in group)
        cache = model.new_cache() if written else None
        tree = _placed(sprout.tree(prompts), group, paths)
        hidden = model.hidden_states([tree], features, cache)[0]
        found = _log_probabilities(model, group, paths, hidden)
        for question, prompt, values in zip(group, prompts, found, strict=True):
            if cache is not None and not question.answers:
                results.append(_branch(cache, hidden, prompt, question.following))
            else:
                results.append(values)
    return results


def _placed(
    tree: PrefixTree, questions: Sequence[Question], paths: Sequence[Sequence[Sequence[int]]]
) -> PrefixTree:
    """The tree with the positions that its prompts bring along; answers count on from there."""
    axes = {len(q.positions) for q in questions if q.positions is not None}
    if not axes:
        return tree
    positions = np.tile(tree.positions, (axes.pop(), 1))
    for question, prompt, answers in zip(questions, tree.paths, paths, strict=True):
        if question.positions is not None:
            positions[:, prompt] = question.positions
            for answer in answers:
                nodes = answer[len(prompt) :]
                positions[:, nodes] = question.following + np.arange(len(nodes))
    return replace(tree, positions=positions)


def _log_probabilities(
    model: Language,
    questions: Sequence[Question],
    paths: Sequence[Sequence[Sequence[int]]],
    hidden: torch.Tensor,
) -> list[np.ndarray]:
    """(answers,) of each question; the output layer, a large matrix, is read once for many."""
    nodes, targets, owners = [], [], []
    answers = 0
    for question, mine in zip(questions, paths, strict=True):
        for tokens, scored, path in zip(question.answers, question.scored, mine, strict=True):
            for place in scored:
                nodes.append(path[len(question.prompt) + place - 1])
                targets.append(tokens[place])
                owners.append(answers)
            answers += 1
    distinct, rows = np.unique(np.array(nodes, dtype=np.int64), return_inverse=True)
    terms = np.zeros(len(nodes))
    for first in range(0, len(distinct), _HEAD_ROWS):
        logits = model.head(hidden[torch.from_numpy(distinct[first : first + _HEAD_ROWS])]).float()
        here = np.flatnonzero((rows >= first) & (rows < first + _HEAD_ROWS))
        row = torch.from_numpy(rows[here] - first)
        picked = logits[row, torch.tensor([targets[n] for n in here])]
        terms[here] = (picked - logits.logsumexp(dim=-1)[row]).double().cpu().numpy()
    sums = np.bincount(np.array(owners, dtype=np.int64), weights=terms, minlength=answers)
    ends = np.cumsum([len(question.answers) for question in questions])
    return np.split(sums, ends[:-1])


def _branch(cache: Any, hidden: torch.Tensor, path: Sequence[int], following: int) -> Branch:
    nodes = torch.tensor(path, device=hidden.device)
    return Branch(
        torch.stack([layer.keys[0].index_select(1, nodes) for layer in cache.layers]),
        torch.stack([layer.values[0].index_select(1, nodes) for layer in cache.layers]),
        hidden[path[-1]],
        following,
    )


def _starts(questions: Sequence[Question]) -> list[list[int]]:
    """What each prompt shares with a neighbour.

    Put into the tree before all the rest, the tokens that many look back to lie close together, so
    that attention can pass over more of the blocks of keys (`emoverse.models.attention`).
    """
    shared = [0, *_shared(questions), 0]
    return [
        question.prompt[: max(before, after)]
        for question, before, after in zip(questions, shared, shared[1:], strict=False)
    ]


def _shared(questions: Sequence[Question]) -> list[int]:
    """How many tokens of its prompt each but the first shares with the one before."""
    return [common_prefix(one.prompt, two.prompt) for one, two in pairwise(questions)]


def _groups(questions: Sequence[Question], tree_tokens: int) -> list[list[Question]]:
    """Neighbours together, cut where the fewest tokens, padding included, are run in all.

    A conversation that is cut in two is run twice, so cuts fall between conversations if they can.
    """
    if not questions:
        return []
    own = [
        len(question.prompt) + len(merge([answer[:-1] for answer in question.answers]).tokens)
        for question in questions
    ]
    shared = [0, *_shared(questions)]
    costs, begins = [0], [0]  # of the first so many questions; where their last group begins
    for end in range(1, len(questions) + 1):
        tokens, ways = 0, list[tuple[int, int]]()
        for first in reversed(range(end)):
            tokens += own[first] - (shared[first + 1] if ways else 0)
            if ways and tokens > tree_tokens:
                break
            ways.append((costs[first] + tokens + -tokens % PADDING, first))
        cost, first = min(ways)
        costs.append(cost)
        begins.append(first)
    cuts = [len(questions)]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    cuts.reverse()
    return [list(questions[first:end]) for first, end in pairwise(cuts)]
