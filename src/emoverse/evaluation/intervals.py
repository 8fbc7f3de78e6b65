"""95% bootstrap intervals of the headline figures.

Every headline figure is a function of summed counts (a confusion matrix, or hits, predictions and
gold pairs per emotion, or moments of scores). A bootstrap sample of n units is then one
multinomial draw over the distinct count vectors, and all resamples are scored at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.tasks import eri, fer, labels, msa
from emoverse.tasks.ecpe import Pair

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
BOOTSTRAP = {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED}
Floats = NDArray[np.float64]
Metric = Callable[[Floats], Mapping[str, Floats]]
_SIGNS = ("negative", "zero", "positive")
_POLES = ("negative", "positive")


def intervals(
    task: str,
    gold: Sequence[Any],
    pred: Sequence[Any],
    units: Sequence[Hashable] | None = None,
    values: Sequence[float | None] | None = None,
    captions: Sequence[tuple[str, str]] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, list[float]]:
    """Percentile intervals of a task's headline figures.

    Args:
        task: one of the five.
        gold: as the task's scorer takes it; for `ecpe` already without the targets the protocol
            leaves out.
        pred: likewise, same length.
        units: what is resampled, one per item: the conversations; None means the items.
        values: msa: the model's scores.
        captions: fer: (gold caption, answer).
        resamples: how many bootstrap samples.
        seed: of numpy's default generator.

    Returns:
        Figure name to [low, high] in the figure's unit; {} without data.
    """
    if not gold:
        return {}
    counts, metric = tabulate(task, gold, pred, values, captions)
    sums = resampled(by_unit(counts, units), resamples, seed)
    low, high = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    return {
        name: [round(float(bound), 4) for bound in np.nanpercentile(drawn, [low, high])]
        for name, drawn in metric(sums).items()
        if not np.isnan(drawn).all()
    }


def resampled(counts: Floats, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Sums of bootstrap samples: counts of shape (n, k) to sums of shape (resamples, k)."""
    rows, often = np.unique(counts, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(
        len(counts), often / often.sum(), size=resamples
    )
    sums: Floats = draws @ rows
    return sums


def by_unit(counts: Floats, units: Sequence[Hashable] | None) -> Floats:
    """Item counts (n, k) summed over the items of each unit; unchanged without units."""
    if units is None:
        return counts
    names: dict[Hashable, int] = {}
    which = np.array([names.setdefault(unit, len(names)) for unit in units])
    summed = np.zeros((len(names), counts.shape[1]))
    np.add.at(summed, which, counts)
    return summed


def tabulate(
    task: str,
    gold: Sequence[Any],
    pred: Sequence[Any],
    values: Sequence[float | None] | None = None,
    captions: Sequence[tuple[str, str]] | None = None,
) -> tuple[Floats, Metric]:
    """Count vectors, one row an item, and the figures computed from their sum.

    Returns:
        (counts of shape (n, k), metric); the metric maps sums of shape (resamples, k) to figures
        of shape (resamples,) and equals the task's scorer on the whole data; NaN where a resample
        leaves a figure undefined.
    """
    if task == "er":
        columns = (*labels.EMOTIONS, None)
        return _cells(gold, pred, labels.EMOTIONS, columns), _er_metric
    if task == "msa":
        return _msa_table(gold, pred, values)
    if task == "ecpe":
        rows = [_pair_counts(g, p or ()) for g, p in zip(gold, pred, strict=True)]
        return np.array(rows).reshape(len(gold), -1), _ecpe_metric
    if task == "fer":
        return _means_table(fer.sample_scores(gold, pred, captions))
    return _means_table(eri.sample_scores(gold, pred))


def _means_table(rows: Sequence[Mapping[str, float]]) -> tuple[Floats, Metric]:
    """Figures that are means over the items that have them: (sum, count) per figure."""
    names = sorted(set().union(*rows))
    counts = np.array(
        [[part for n in names for part in (row.get(n, 0.0), float(n in row))] for row in rows]
    )

    def metric(sums: Floats) -> dict[str, Floats]:
        return {
            name: sums[:, 2 * place] / _positive(sums[:, 2 * place + 1])
            for place, name in enumerate(names)
        }

    return counts, metric


def _msa_table(
    gold: Sequence[Any], pred: Sequence[Any], values: Sequence[float | None] | None
) -> tuple[Floats, Metric]:
    cells = _cells([_sign(value) for value in gold], pred, _SIGNS, (*_POLES, None))
    if any(isinstance(value, str) for value in gold):
        return cells, _msa_np_metric
    if values is None:
        return cells, _msa_metric
    graded = np.array([_graded(a, b) for a, b in zip(gold, values, strict=True)])

    def metric(sums: Floats) -> dict[str, Floats]:
        return _msa_metric(sums[:, : cells.shape[1]]) | _graded_metric(sums[:, cells.shape[1] :])

    return np.concatenate([cells, graded], axis=1), metric


def _graded(gold: float, value: float | None) -> list[float]:
    """Item count, three hits, error, and the moments that Pearson's r is made of."""
    if value is None:
        return [1.0] + [0.0] * 10
    hits = [
        msa.rounded_class(gold) == msa.rounded_class(value),
        msa.interval_class(gold) == msa.interval_class(value),
        msa.rounded_class(gold, 2) == msa.rounded_class(value, 2),
    ]
    moments = [gold, value, gold * gold, value * value, gold * value]
    return [1.0, *map(float, hits), abs(gold - value), 1.0, *moments]


def _graded_metric(sums: Floats) -> dict[str, Floats]:
    items, seven, whole, five, error, n, x, y, xx, yy, xy = sums.T
    spread = (n * xx - x * x) * (n * yy - y * y)
    with np.errstate(invalid="ignore"):
        corr = np.where(spread > 1e-9, (n * xy - x * y) / np.sqrt(np.maximum(spread, 1e-9)), np.nan)
    return {
        "acc7": 100 * seven / items,
        "acc7_intervals": 100 * whole / items,
        "acc5": 100 * five / items,
        "mae": error / _positive(n),
        "corr": corr,
    }


def _positive(counts: Floats) -> Floats:
    """Counts to divide by: NaN for 0, so that the figure is undefined."""
    return np.where(counts == 0, np.nan, counts)


def _cells(
    gold: Sequence[Any], pred: Sequence[Any], rows: Sequence[Any], columns: Sequence[Any]
) -> Floats:
    counts = np.zeros((len(gold), len(rows), len(columns)))
    for item, (truth, guess) in enumerate(zip(gold, pred, strict=True)):
        counts[item, rows.index(truth), columns.index(guess)] = 1
    return counts.reshape(len(gold), -1)


def _sign(value: float | str) -> str:
    sign = labels.sentiment(value) if isinstance(value, str) else labels.sentiment_of_score(value)
    return sign or "zero"


def _pair_counts(gold: Sequence[Pair], pred: Sequence[Pair]) -> Floats:
    truth, guess = set(gold), set(pred)
    counts = np.zeros((3, len(labels.EMOTIONS)))
    for row, pairs in enumerate((truth & guess, guess, truth)):
        for pair in pairs:
            counts[row, labels.EMOTIONS.index(pair.emotion)] += 1
    return counts.ravel()


def _er_metric(sums: Floats) -> dict[str, Floats]:
    matrix = sums.reshape(len(sums), len(labels.EMOTIONS), -1)
    accuracy, weighted, macro = _closed(matrix)
    return {"weighted_f1": weighted, "accuracy": accuracy, "macro_f1": macro}


def _msa_np_metric(sums: Floats) -> dict[str, Floats]:
    matrix = sums.reshape(len(sums), 3, 3)
    accuracy, weighted, _ = _closed(matrix[:, [0, 2]])
    return {"acc2_np": accuracy, "f1_np": weighted}


def _msa_metric(sums: Floats) -> dict[str, Floats]:
    matrix = sums.reshape(len(sums), 3, 3)
    merged = np.stack([matrix[:, 0], matrix[:, 1] + matrix[:, 2]], axis=1)
    accuracy, weighted, _ = _closed(merged)
    return _msa_np_metric(sums) | {"acc2_nn": accuracy, "f1_nn": weighted}


def _closed(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Accuracy, weighted F1 and macro F1 of (resamples, classes, classes + unparseable)."""
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    support = matrix.sum(axis=2)
    predicted = matrix.sum(axis=1)[:, : matrix.shape[1]]
    f1 = _ratio(2 * hits, support + predicted)
    total = support.sum(axis=1)
    return (
        _ratio(hits.sum(axis=1), total),
        (f1 * support).sum(axis=1) / np.maximum(total, 1),
        (f1 * (support > 0)).sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1),
    )


def _ecpe_metric(sums: Floats) -> dict[str, Floats]:
    hits, said, gold = sums.reshape(len(sums), 3, -1).transpose(1, 0, 2)
    six = [labels.EMOTIONS.index(emotion) for emotion in labels.ECPE_EMOTIONS]
    f1 = _ratio(2 * hits, said + gold)[:, six]
    weight = gold[:, six]
    micro = [counts.sum(axis=1) for counts in (hits, said, gold)]
    return {
        "weighted_f1": (f1 * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1),
        "f1": _ratio(2 * micro[0], micro[1] + micro[2]),
        "precision": _ratio(micro[0], micro[1]),
        "recall": _ratio(micro[0], micro[2]),
    }


def _ratio(part: Floats, whole: Floats) -> Floats:
    return 100 * part / np.where(whole == 0, 1, whole)
