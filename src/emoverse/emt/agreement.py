"""How far annotators agree: Cohen's kappa, Fleiss' kappa, F1 of pair sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

from emoverse.emt.label_studio import Marking
from emoverse.tasks._metrics import prf

Talk = tuple[str, str]
"""(split, conversation id)."""


def cohen(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two raters on the same items (Cohen 1960).

    Returns:
        At most 1; None when it is undefined, because there is no item or both gave every item
        the same single label.
    """
    items = len(one)
    seen = sum(a == b for a, b in zip(one, other, strict=True))
    shares = Counter(one), Counter(other)
    chance = sum(shares[0][label] * shares[1][label] for label in shares[0])
    # In whole numbers, so that "undefined" is decided exactly.
    return (seen * items - chance) / (items**2 - chance) if items**2 != chance else None


def fleiss(items: Collection[Sequence[Hashable]]) -> float | None:
    """Fleiss' kappa over the labels that each item got (Fleiss 1971).

    Items may differ in their number of raters; those with fewer than two are left out. With a
    constant number this is Fleiss' formula to the letter; otherwise every item weighs the same
    in the observed agreement.

    Returns:
        At most 1; None when it is undefined.
    """
    rated = [Counter(labels) for labels in items if len(labels) > 1]
    everything: Counter[Hashable] = sum(rated, Counter())
    if len(everything) < 2:
        return None
    agreed = 0.0
    for counts in rated:
        raters = counts.total()
        same = sum(count * (count - 1) for count in counts.values())
        agreed += same / (raters * (raters - 1))
    observed = agreed / len(rated)
    chance = sum((count / everything.total()) ** 2 for count in everything.values())
    return (observed - chance) / (1 - chance)


def agreement(
    markings: Mapping[Talk, Sequence[Marking]], sizes: Mapping[Talk, int]
) -> dict[str, Any]:
    """Agreement on emotions and on causes.

    Items of `emotion` are all utterances; an unmarked one is neutral. Items of `cause` are, for
    every utterance that the raters compared both gave an emotion and answered, all utterances of
    its conversation: is it a cause or not. Pair F1 compares the sets of (target, emotion, cause)
    of the conversations both did; it is the same whoever is called gold.

    Args:
        markings: per conversation, one marking for each annotator.
        sizes: utterances per conversation.

    Returns:
        `emotion` and `cause`, each {cohen (mean over pairs of annotators), fleiss, items (with
        two raters or more)}; `pair_f1`, mean over pairs of annotators, in percent; `pairs`, for
        every two annotators who share a conversation: annotators, conversations, emotion_kappa,
        cause_kappa, pair_f1. A figure that is undefined is None.
    """
    people = sorted({marking.annotator for group in markings.values() for marking in group})
    pairs: list[dict[str, Any]] = []
    for one, other in combinations(people, 2):
        shared = [
            (talk, mine, yours)
            for talk, group in markings.items()
            for mine in group
            for yours in group
            if (mine.annotator, yours.annotator) == (one, other)
        ]
        if not shared:
            continue
        emotions = [labels for talk, *two in shared for labels in _emotions(two, sizes[talk])]
        causes = [labels for talk, *two in shared for labels in _causes(two, sizes[talk])]
        sets = [
            {(talk, *pair) for talk, *two in shared for pair in _pairs(two[who])} for who in (0, 1)
        ]
        pairs.append(
            {
                "annotators": [one, other],
                "conversations": len(shared),
                "emotion_kappa": _cohen_of(emotions),
                "cause_kappa": _cohen_of(causes),
                "pair_f1": prf(len(sets[0] & sets[1]), len(sets[1]), len(sets[0]))["f1"]
                if sets[0] | sets[1]
                else None,
            }
        )
    every_emotion, every_cause = [], []
    for talk, group in markings.items():
        every_emotion += _emotions(group, sizes[talk])
        every_cause += _causes(group, sizes[talk])
    return {
        "emotion": _figures(every_emotion, [pair["emotion_kappa"] for pair in pairs]),
        "cause": _figures(every_cause, [pair["cause_kappa"] for pair in pairs]),
        "pair_f1": _mean([pair["pair_f1"] for pair in pairs]),
        "pairs": pairs,
    }


def _emotions(group: Sequence[Marking], size: int) -> list[list[str]]:
    return [[marking.emotions.get(at, "neutral") for marking in group] for at in range(1, size + 1)]


def _causes(group: Sequence[Marking], size: int) -> list[list[bool]]:
    """For every target that two or more answered: is utterance i a cause, by each of them."""
    items = []
    for target in range(1, size + 1):
        told = [marking.causes.get(target) for marking in group]
        answers = [causes for causes in told if causes is not None]
        if len(answers) > 1:
            items += [[at in causes for causes in answers] for at in range(1, size + 1)]
    return items


def _pairs(marking: Marking) -> set[tuple[int, str, int]]:
    return {
        (target, marking.emotions[target], cause)
        for target, causes in marking.causes.items()
        for cause in causes or ()
    }


def _cohen_of(items: Sequence[Sequence[Hashable]]) -> float | None:
    return cohen([labels[0] for labels in items], [labels[1] for labels in items])


def _figures(items: Sequence[Sequence[Hashable]], kappas: Sequence[float | None]) -> dict[str, Any]:
    rated = [labels for labels in items if len(labels) > 1]
    return {"cohen": _mean(kappas), "fleiss": fleiss(rated), "items": len(rated)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
