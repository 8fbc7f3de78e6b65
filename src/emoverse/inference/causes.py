"""ECPE answers: the causes that are worth naming, from the probabilities of whole answers.

The grammar is closed: causes are the target itself and utterances before it, in rising order. The
most probable answer maximises exact matches; pair F1 is served better by the causes whose
marginal probability passes a threshold, summed over every answer that names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from emoverse.tasks import ecpe

# Answers naming several causes name recent ones: on ECF's training set, the window holds them
# all for 9 of 10 such targets.
_WINDOW = 5
_TRIPLES = 4
THRESHOLD = 0.4


def cause_sets(turns: Sequence[ecpe.Turn], target: int) -> list[tuple[int, ...]]:
    """The answers that are weighed: none, every single cause, pairs and triples of recent ones.

    Args:
        turns: the conversation.
        target: `Turn.index` of the target utterance.
    """
    allowed = [turn.index for turn in turns if turn.index <= target]
    sets: list[tuple[int, ...]] = [()]
    sets += [(index,) for index in allowed]
    sets += combinations(allowed[-_WINDOW:], 2)
    sets += combinations(allowed[-_TRIPLES:], 3)
    return sets


def marginals(sets: Sequence[tuple[int, ...]], probabilities: np.ndarray) -> dict[int, float]:
    """For each cause the probability that an answer names it.

    Args:
        sets: what each answer names.
        probabilities: (sets,) summing to 1.
    """
    found: dict[int, float] = {}
    for names, probability in zip(sets, probabilities, strict=True):
        for index in names:
            found[index] = found.get(index, 0.0) + float(probability)
    return dict(sorted(found.items()))


def without(sets: Sequence[tuple[int, ...]], probabilities: np.ndarray) -> float:
    """The probability that there is no cause; arguments as of `marginals`."""
    return sum(float(p) for names, p in zip(sets, probabilities, strict=True) if not names)


def chosen(
    found: Mapping[int, float], none: float, threshold: float = THRESHOLD
) -> tuple[int, ...]:
    """The causes to name.

    Args:
        found: each cause's probability.
        none: the probability that there is none.
        threshold: a cause is named from this probability on.

    Returns:
        () when it is likelier than not that there is no cause; else the causes above the
        threshold, in order, or the likeliest alone when none is above.
    """
    if none > 0.5 or not found:
        return ()
    named = tuple(index for index, probability in found.items() if probability >= threshold)
    return named or (max(found, key=lambda index: found[index]),)
