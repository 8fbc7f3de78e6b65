"""Answers from a closed set: the probability of each, by one pass over prompt and answers.

Prompts that share a prefix (a conversation, or just the system prompt) and the answers to each
prompt are merged into prefix trees (`emoverse.models.prefix_tree`): shared tokens are run once,
and no token is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emoverse.models.emoverse import EmoVerse
from emoverse.models.prefix_tree import common_prefix, merge


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A prompt with its allowed answers, as tokens.

    Attributes:
        prompt: token ids; negative ones point into the visual features.
        answers: token ids of each allowed answer, end mark included.
        scored: for each answer the indices of the tokens whose probability counts; tokens that
            the grammar dictates are left out.
    """

    prompt: list[int]
    answers: list[list[int]]
    scored: list[list[int]]


@torch.inference_mode()
def log_probabilities(
    model: EmoVerse,
    questions: Sequence[Question],
    features: torch.Tensor | None = None,
    tree_tokens: int = 768,
) -> list[np.ndarray]:
    """Log-probability of every allowed answer of every question.

    Args:
        model: the model asked.
        questions: neighbours that share a prefix are cheaper.
        features: (m, width) projected visual tokens.
        tree_tokens: about how many distinct tokens run at once.

    Returns:
        One (answers,) float64 array per question, not normalised over the answers.
    """
    results: list[np.ndarray] = []
    for group in _groups(questions, tree_tokens):
        sequences = [q.prompt + answer for q in group for answer in q.answers]
        tree = merge(sequences)
        hidden = model.hidden_states([tree], features)[0]
        nodes, targets, owners = [], [], []
        answer = 0
        for question in group:
            for tokens, scored in zip(question.answers, question.scored, strict=True):
                path = tree.paths[answer]
                for place in scored:
                    nodes.append(int(path[len(question.prompt) + place - 1]))
                    targets.append(tokens[place])
                    owners.append(answer)
                answer += 1
        distinct, rows = np.unique(nodes, return_inverse=True)
        logits = model.network.lm_head(hidden[torch.from_numpy(distinct)]).float()
        picked = logits[torch.from_numpy(rows), torch.tensor(targets)]
        terms = (picked - logits.logsumexp(dim=-1)[torch.from_numpy(rows)]).double().numpy()
        sums = np.bincount(owners, weights=terms, minlength=answer)
        ends = np.cumsum([len(question.answers) for question in group])
        results += np.split(sums, ends[:-1])
    return results


def normalised(log_probability: np.ndarray) -> np.ndarray:
    """Probabilities over the allowed answers, summing to 1."""
    shifted = np.exp(log_probability - log_probability.max())
    total: np.ndarray = shifted / shifted.sum()
    return total


def _groups(questions: Sequence[Question], tree_tokens: int) -> list[list[Question]]:
    """Neighbours together, as long as their distinct tokens are few."""
    groups: list[list[Question]] = []
    size = 0
    previous: list[int] = []
    for question in questions:
        shared = common_prefix(previous, question.prompt)
        answers = sum(len(answer) for answer in question.answers)
        if groups and size + len(question.prompt) - shared + answers <= tree_tokens:
            groups[-1].append(question)
            size += len(question.prompt) - shared + answers
        else:
            groups.append([question])
            size = len(question.prompt) + answers
        previous = question.prompt
    return groups
