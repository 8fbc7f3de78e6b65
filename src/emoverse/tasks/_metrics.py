"""Counts to precision, recall and F1, in percent; an undefined ratio is 0, as in scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Sized

from emoverse.errors import EmoVerseError


def check_lengths(gold: Sized, pred: Sized) -> None:
    """Refuse to score lists that do not belong together.

    Raises:
        EmoVerseError: their lengths differ.
    """
    if len(gold) != len(pred):
        raise EmoVerseError(
            f"{len(gold)} gold labels but {len(pred)} predictions; give one prediction for each."
        )


def prf(hits: float, predicted: float, gold: float) -> dict[str, float]:
    """Precision, recall and F1 in percent from three counts."""
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, gold),
        "f1": _ratio(2 * hits, predicted + gold),
    }


def by_class(
    gold: Sequence[str], pred: Sequence[str | None], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`prf` of every class, with its `support` in gold; None predicts no class."""
    hits = Counter(label for label, guess in zip(gold, pred, strict=True) if label == guess)
    predicted, support = Counter(pred), Counter(gold)
    return {
        label: prf(hits[label], predicted[label], support[label]) | {"support": support[label]}
        for label in classes
    }


def accuracy(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Share of right answers in percent; 0 without data."""
    hits = sum(label == guess for label, guess in zip(gold, pred, strict=True))
    return _ratio(hits, len(gold))


def weighted_f1(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """F1 of the classes weighted by their gold counts, in percent; 0 without data."""
    classes = by_class(gold, pred, sorted(set(gold))).values()
    return sum(row["f1"] * row["support"] for row in classes) / (len(gold) or 1)


def macro_f1(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Plain mean F1 of the classes that occur in gold, in percent; 0 without data."""
    classes = by_class(gold, pred, sorted(set(gold))).values()
    return sum(row["f1"] for row in classes) / (len(classes) or 1)


def _ratio(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0
