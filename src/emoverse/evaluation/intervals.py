"""95% bootstrap intervals of the headline figures.

Every headline figure is a function of summed counts (a confusion matrix, or hits, predictions and
gold pairs per emotion). A bootstrap sample of n units is then one multinomial draw over the
distinct count vectors, and all resamples are scored at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.tasks import labels
from emoverse.tasks.ecpe import Pair

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
Floats = NDArray[np.float64]
Metric = Callable[[Floats], Mapping[str, Floats]]
_SIGNS = ("negative", "zero", "positive")
_POLES = ("negative", "positive")


def intervals(
    task: str,
    gold: Sequence[Any],
    pred: Sequence[Any],
    units: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, list[float]]:
    """Percentile intervals of a task's headline figures.

    Args:
        task: `msa`, `er` or `ecpe`; any other task gives {}.
        gold: as the task's scorer takes it; for `ecpe` already without the targets the protocol
            leaves out.
        pred: likewise, same length.
        units: what is resampled, one per item: conversations for `ecpe`; None means the items.
        resamples: how many bootstrap samples.
        seed: of numpy's default generator.

    Returns:
        Figure name to [low, high] in percent; {} without data.
    """
    if not gold:
        return {}
    counts, metric = tabulate(task, gold, pred)
    if metric is None:
        return {}
    if units is not None:
        _, which = np.unique([repr(unit) for unit in units], return_inverse=True)
        summed = np.zeros((int(which.max()) + 1, counts.shape[1]))
        np.add.at(summed, which, counts)
        counts = summed
    rows, often = np.unique(counts, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(
        len(counts), often / often.sum(), size=resamples
    )
    low, high = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    return {
        name: [round(float(bound), 4) for bound in np.percentile(values, [low, high])]
        for name, values in metric(draws @ rows).items()
    }


def tabulate(task: str, gold: Sequence[Any], pred: Sequence[Any]) -> tuple[Floats, Metric | None]:
    """Count vectors, one row an item, and the figures computed from their sum.

    Returns:
        (counts of shape (n, k), metric); the metric maps sums of shape (resamples, k) to figures
        of shape (resamples,) in percent and equals the task's scorer on the whole data. It is
        None for a task without one.
    """
    if task == "er":
        classes, columns = labels.EMOTIONS, (*labels.EMOTIONS, None)
        return _cells(gold, pred, classes, columns), _er_metric
    if task == "msa":
        signs = [_sign(value) for value in gold]
        words = any(isinstance(value, str) for value in gold)
        return (
            _cells(signs, pred, _SIGNS, (*_POLES, None)),
            _msa_np_metric if words else _msa_metric,
        )
    if task == "ecpe":
        return np.array(
            [_pair_counts(g, p or ()) for g, p in zip(gold, pred, strict=True)]
        ).reshape(len(gold), -1), _ecpe_metric
    return np.zeros((0, 0)), None


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
