"""MSA, multimodal sentiment analysis: positive or negative."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels
from emoverse.tasks._metrics import accuracy, check_lengths, weighted_f1

IDENTIFIER = "<sentiment>"
QUESTION = "Please determine which sentiment label in the video represents: positive or negative."
GRADED = ("acc7", "acc7_intervals", "acc5", "mae", "corr", "n_score")  # need the model's scores
_SCORE = re.compile(r"(?:[A-Za-z ]+[:=]\s*)?([+-]?[0-9](?:\.[0-9]+)?)\s*\.?")


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


def parse_score(text: str) -> float | None:
    """The score in [-3, 3] an answer consists of ("1.8", "Score: -0.4."); None for any other."""
    found = _SCORE.fullmatch(text.strip())
    value = float(found[1]) if found else None
    return value if value is not None and -3 <= value <= 3 else None


def score(
    gold: Sequence[float | str],
    pred: Sequence[str | None],
    values: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """Acc2 and weighted F1 in percent under both CMU-MOSEI conventions, and what scores allow.

    N/N sets negative (< 0) against non-negative (>= 0), N/P negative against positive with zeros
    dropped (Liang et al., MultiBench; the paper's Table III). An unparseable answer is wrong.

    Args:
        gold: scores in [-3, 3], or labels (`neutral` counts as 0); with any label among them N/N is
            undefined (None).
        pred: `positive`, `negative` or None, same length.
        values: the model's scores in [-3, 3], same length, None where it gave none.

    Returns:
        n, n_np (items left without zeros), acc2_nn, acc2_np, f1_nn, f1_np, unparseable. With
        values also acc7 and acc5 (`rounded_class`), acc7_intervals (`interval_class`), all three in
        percent with a missing score counted wrong; mae (in score units) and corr (Pearson, None
        when undefined) over the n_score items that have one. They are None when gold holds labels.

    Raises:
        EmoVerseError: the lengths differ, or a gold value is no score in [-3, 3] and no label.
    """
    check_lengths(gold, pred)
    signs = [_sign(value) for value in gold]
    polar = [(sign, guess) for sign, guess in zip(signs, pred, strict=True) if sign is not None]
    by_np = _measure(polar)
    by_nn: tuple[float | None, float | None] = (None, None)
    numbers = [value for value in gold if not isinstance(value, str)]
    if len(numbers) == len(gold):
        by_nn = _measure([(sign or "positive", p) for sign, p in zip(signs, pred, strict=True)])
    figures = {
        "n": len(gold),
        "n_np": len(polar),
        "acc2_nn": by_nn[0],
        "acc2_np": by_np[0],
        "f1_nn": by_nn[1],
        "f1_np": by_np[1],
        "unparseable": sum(guess is None for guess in pred),
    }
    if values is not None:
        check_lengths(gold, values)
        whole = len(numbers) == len(gold)
        figures |= _graded(numbers, values) if whole else dict.fromkeys(GRADED)
    return figures


def rounded_class(value: float, bound: int = 3) -> int:
    """A score's class by clipping to [-bound, bound] and rounding half to even.

    Acc7 (bound 3) and Acc5 (bound 2) of MulT's published evaluation (Tsai et al., ACL 2019), which
    most later work copied.
    """
    return round(max(-float(bound), min(float(bound), value)))


def interval_class(value: float) -> int:
    """A score's class in -3..3 by whole intervals, 0 only for exactly 0.

    The Acc7 of Delbrouck et al. (Challenge-HML 2020) and its followers: below -2, [-2, -1),
    [-1, 0), 0, (0, 1], (1, 2], above 2.
    """
    size = min(3, math.ceil(abs(value)))
    return size if value > 0 else -size


def _graded(gold: Sequence[float], values: Sequence[float | None]) -> dict[str, Any]:
    pairs = [(a, b) for a, b in zip(gold, values, strict=True) if b is not None]

    def share(classify: Callable[[float], int]) -> float:
        return 100 * sum(classify(a) == classify(b) for a, b in pairs) / (len(gold) or 1)

    return {
        "acc7": share(rounded_class),
        "acc7_intervals": share(interval_class),
        "acc5": share(lambda value: rounded_class(value, 2)),
        "mae": sum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else None,
        "corr": _correlation(pairs),
        "n_score": len(pairs),
    }


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    try:
        return statistics.correlation(*zip(*pairs, strict=True))
    except (statistics.StatisticsError, TypeError):  # fewer than two, or one of them is constant
        return None


def _sign(value: float | str) -> str | None:
    if isinstance(value, str) and value.lower() in (*labels.SENTIMENTS, "neutral"):
        return labels.sentiment(value)
    if not isinstance(value, str) and -3 <= value <= 3:
        return labels.sentiment_of_score(value)
    raise EmoVerseError(f"Gold sentiment {value!r} is neither a score in [-3, 3] nor a label.")


def _measure(pairs: Sequence[tuple[str, str | None]]) -> tuple[float, float]:
    gold, pred = [sign for sign, _ in pairs], [guess for _, guess in pairs]
    return accuracy(gold, pred), weighted_f1(gold, pred)
