"""Does a model know how sure it may be: stated probabilities against how often they come true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emoverse.evaluation.scored import Scored
from emoverse.tasks import labels

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Statements whose probability lies in one tenth; all but n in percent.

    Attributes:
        low, high: the tenth's bounds.
        stated: mean probability.
        true: share that was right.
        n: how many.
    """

    low: float
    high: float
    stated: float
    true: float
    n: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        bins: those that hold something, lowest first.
        ece: expected calibration error in percent points, the mean of |true - stated| weighted by
            n (Naeini et al., AAAI 2015; Guo et al., ICML 2017).
        n: statements in all.
        of: what a statement is, for people.
    """

    bins: tuple[Bin, ...]
    ece: float
    n: int
    of: str


def reliability(scored: Scored) -> Reliability | None:
    """The diagram of one task's answers.

    msa, er: one statement an answer, the probability of the label it gives. ecpe: one statement a
    candidate, the probability that it is a cause.

    Returns:
        None where no answer carries probabilities (fer and eri never do).
    """
    statements = _statements(scored)
    if not statements:
        return None
    cells: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for share, right in statements:
        cells[min(BINS - 1, int(share * BINS))].append((share, right))
    bins = tuple(
        Bin(
            100 * place / BINS,
            100 * (place + 1) / BINS,
            100 * sum(share for share, _ in cell) / len(cell),
            100 * sum(right for _, right in cell) / len(cell),
            len(cell),
        )
        for place, cell in enumerate(cells)
        if cell
    )
    error = sum(one.n * abs(one.true - one.stated) for one in bins) / len(statements)
    of = "candidate causes" if scored.task == "ecpe" else "answers"
    return Reliability(bins, error, len(statements), of)


def right(task: str, gold: Any, pred: Any) -> bool:
    """Whether an answer is wholly right: the same pairs; for msa by N/N, a zero not negative."""
    if task == "ecpe":
        return bool(pred is not None and set(gold) == set(pred))
    if task == "msa":
        return bool((polarity(gold) or "positive") == pred)
    return bool(gold == pred)


def polarity(gold: float | str) -> str | None:
    """`positive` or `negative` of an msa gold, a score or a label; None for zero and neutral."""
    return labels.sentiment(gold) if isinstance(gold, str) else labels.sentiment_of_score(gold)


def _statements(scored: Scored) -> list[tuple[float, bool]]:
    """(probability 0..1, whether it came true)."""
    found = []
    for answer, gold, pred in zip(scored.answers, scored.gold, scored.pred, strict=True):
        if scored.task in ("msa", "er") and pred in answer.probabilities:
            found.append((answer.probabilities[pred], right(scored.task, gold, pred)))
        if scored.task == "ecpe":
            causes = {str(pair.cause_index) for pair in gold}
            found += [(share, key in causes) for key, share in answer.probabilities.items()]
    return found
