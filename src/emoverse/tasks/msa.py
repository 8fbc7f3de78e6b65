"""MSA, multimodal sentiment analysis: positive or negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels
from emoverse.tasks._metrics import accuracy, check_lengths, weighted_f1

IDENTIFIER = "<sentiment>"
QUESTION = "Please determine which sentiment label in the video represents: positive or negative."


def query(text: str | None = None) -> str:
    """The authors' MSA query, with the transcript in front when there is one."""
    says = f'The person says: "{text}" ' if text is not None else ""
    return f"{says}{IDENTIFIER} {QUESTION}"


def answer(label: str) -> str:
    """The gold response: `positive` gives "Positive."."""
    return f"{label.capitalize()}."


def choices() -> tuple[str, ...]:
    """Every allowed answer."""
    return tuple(answer(label) for label in labels.SENTIMENTS)


def parse(text: str) -> str | None:
    """Read `positive` or `negative` out of any answer; None when it settles on neither."""
    return labels.stated(text, labels.SENTIMENT_WORDS)


def score(gold: Sequence[float | str], pred: Sequence[str | None]) -> dict[str, Any]:
    """Acc2 and weighted F1 in percent under both CMU-MOSEI conventions.

    N/N sets negative (< 0) against non-negative (>= 0), N/P negative against positive with zeros
    dropped (Liang et al., MultiBench; the paper's Table III). An unparseable answer is wrong.

    Args:
        gold: scores in [-3, 3], or labels (`neutral` counts as 0); with any label among them N/N is
            undefined (None).
        pred: `positive`, `negative` or None, same length.

    Returns:
        n, n_np (items left without zeros), acc2_nn, acc2_np, f1_nn, f1_np, unparseable.

    Raises:
        EmoVerseError: the lengths differ, or a gold value is no score in [-3, 3] and no label.
    """
    check_lengths(gold, pred)
    signs = [_sign(value) for value in gold]
    polar = [(sign, guess) for sign, guess in zip(signs, pred, strict=True) if sign is not None]
    by_np = _measure(polar)
    by_nn: tuple[float | None, float | None] = (None, None)
    if not any(isinstance(value, str) for value in gold):
        by_nn = _measure([(sign or "positive", p) for sign, p in zip(signs, pred, strict=True)])
    return {
        "n": len(gold),
        "n_np": len(polar),
        "acc2_nn": by_nn[0],
        "acc2_np": by_np[0],
        "f1_nn": by_nn[1],
        "f1_np": by_np[1],
        "unparseable": sum(guess is None for guess in pred),
    }


def _sign(value: float | str) -> str | None:
    if isinstance(value, str) and value.lower() in (*labels.SENTIMENTS, "neutral"):
        return labels.sentiment(value)
    if not isinstance(value, str) and -3 <= value <= 3:
        return labels.sentiment_of_score(value)
    raise EmoVerseError(f"Gold sentiment {value!r} is neither a score in [-3, 3] nor a label.")


def _measure(pairs: Sequence[tuple[str, str | None]]) -> tuple[float, float]:
    gold, pred = [sign for sign, _ in pairs], [guess for _, guess in pairs]
    return accuracy(gold, pred), weighted_f1(gold, pred)
