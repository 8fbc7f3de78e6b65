"""One pass over prompts and their allowed answers: the probability of each answer.

Prompts that share a prefix (a conversation, or system prompt and picture) and the answers to each
prompt are merged into prefix trees (`emoverse.models.prefix_tree`): shared tokens are run once,
and no token is generated. A prompt whose answer is free text goes into the same pass; it leaves
the branch that `generation` continues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from emoverse.models.decoder import Branch
from emoverse.models.language import Language
from emoverse.models.prefix_tree import PrefixTree, Sprout, common_prefix, merge


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
    tree_tokens: int = 768,
) -> list[np.ndarray | Branch]:
    """Run prompts and their allowed answers.

    Args:
        model: the model asked.
        questions: neighbours that share a prefix are cheaper.
        features: (m, width) projected visual tokens.
        tree_tokens: about how many distinct tokens run at once, beyond a first prompt.

    Returns:
        For each question the (answers,) float64 log-probabilities, not normalised over the
        answers; or the branch to be continued when it has none.
    """
    results: list[np.ndarray | Branch] = []
    for group in _groups(questions, tree_tokens):
        sprout = Sprout()
        prompts = [sprout.add(question.prompt) for question in group]
        paths = [
            # Nothing is asked of what follows an answer's last token, so it is not run.
            [sprout.add(answer[:-1], prompt) for answer in question.answers]
            for question, prompt in zip(group, prompts, strict=True)
        ]
        written = any(not question.answers for question in group)
        cache = DynamicCache() if written else None
        tree = _placed(sprout.tree(prompts), group, paths)
        hidden = model.hidden_states([tree], features, cache)[0]
        for question, prompt, answers in zip(group, prompts, paths, strict=True):
            if cache is not None and not question.answers:
                results.append(_branch(cache, hidden, prompt, question.following))
            else:
                results.append(_log_probabilities(model, question, answers, hidden))
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
    model: Language, question: Question, paths: Sequence[Sequence[int]], hidden: torch.Tensor
) -> np.ndarray:
    nodes, targets, owners = [], [], []
    for answer, (tokens, scored, path) in enumerate(
        zip(question.answers, question.scored, paths, strict=True)
    ):
        for place in scored:
            nodes.append(path[len(question.prompt) + place - 1])
            targets.append(tokens[place])
            owners.append(answer)
    distinct, rows = np.unique(nodes, return_inverse=True)
    logits = model.head(hidden[torch.from_numpy(distinct)]).float()
    picked = logits[torch.from_numpy(rows), torch.tensor(targets)]
    terms = (picked - logits.logsumexp(dim=-1)[torch.from_numpy(rows)]).double().cpu().numpy()
    sums: np.ndarray = np.bincount(owners, weights=terms, minlength=len(question.answers))
    return sums


def _branch(
    cache: DynamicCache, hidden: torch.Tensor, path: Sequence[int], following: int
) -> Branch:
    nodes = torch.tensor(path, device=hidden.device)
    layers: Any = cache.layers
    return Branch(
        torch.stack([layer.keys[0].index_select(1, nodes) for layer in layers]),
        torch.stack([layer.values[0].index_select(1, nodes) for layer in layers]),
        hidden[path[-1]],
        following,
    )


def _groups(questions: Sequence[Question], tree_tokens: int) -> list[list[Question]]:
    """Neighbours together, as long as their distinct tokens are few."""
    groups: list[list[Question]] = []
    room = 0
    previous: list[int] = []
    for question in questions:
        answers = len(merge([answer[:-1] for answer in question.answers]).tokens)
        fresh = len(question.prompt) - common_prefix(previous, question.prompt) + answers
        if groups and fresh <= room:
            groups[-1].append(question)
            room -= fresh
        else:
            groups.append([question])
            room = tree_tokens - answers
        previous = question.prompt
    return groups
