"""Fit a model's calibration on records that it was not trained on.

What the fit is worth is measured by cross-validation: every record is judged by a fit that has not
seen it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import f1_score

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.fit_form import Form, fit_form, join
from emoverse.evaluation.gold import gold_label
from emoverse.evaluation.weighing import FOLDS, MOST, TASKS_BY_LABEL, Weighed, fold
from emoverse.inference import causes
from emoverse.inference.calibration import Calibration
from emoverse.tasks import ecpe, er, msa

_BINS = 15
_THRESHOLDS = np.arange(0.1, 0.71, 0.02)
_STRENGTHS = np.arange(0, 1.01, 0.05)
_PRIOR = 1e-3  # weight of the squared biases: answers that never occur stay finite
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Worth:
    """What the fit of a task is worth, on records that it has not seen.

    Attributes:
        records: how many there are.
        before, after: mean negative log-likelihood in nats (`nll`); in percent expected calibration
            error (`ece`), `accuracy`, and what is fitted for: weighted F1 (MSA and ER,
            `weighted_f1`) or micro pair F1 (ECPE, `pair_f1`).
    """

    records: int
    before: Mapping[str, float]
    after: Mapping[str, float]


def fit(
    weighed: Sequence[Weighed], talks: Sequence[Record] = ()
) -> tuple[Calibration, dict[str, Worth]]:
    """The calibration that makes the gold answers likeliest, and what it is worth.

    MSA and ER get a temperature and biases, with rare answers lifted where weighted F1 gains by it.
    ECPE, whose answers are sets, gets a temperature, a second witness (`inference.cause_form`) and
    the threshold with the best pair F1.

    Args:
        weighed: records that the model has not seen.
        talks: ECPE records, those that it has seen too: what the second witness is fitted on. It
            is left out where they are of too few conversations.

    Returns:
        The calibration, and per task its worth by 5-fold cross-validation.

    Raises:
        EmoVerseError: there are too few records of every task.
    """
    found, worth = Calibration(), {}
    form = fit_form(talks)
    for task in TASKS_BY_LABEL:
        mine = [one for one in weighed if one.record.task == task and _is_usable(one)]
        if len(mine) < 10 * FOLDS:
            continue
        fitted = _fit_task(task, mine, form)
        found = replace(
            fitted if task == "ecpe" else found,
            temperatures={**found.temperatures, **fitted.temperatures},
            biases={**found.biases, **fitted.biases},
        )
        worth[task] = _worth(task, mine, form)
    if not worth:
        raise EmoVerseError(
            f"There are fewer than {10 * FOLDS} usable records of every task; give more data."
        )
    counts = {task: one.records for task, one in worth.items()}
    return replace(found, fitted_on=counts), worth


def _fit_task(task: str, mine: Sequence[Weighed], form: Form | None) -> Calibration:
    told = [(one, place) for one in mine if (place := _gold_place(one)) is not None]
    if task == "ecpe":
        temperature, _ = _fit(told, ())
        found = Calibration({task: temperature})
        if form:
            marginals = [causes.marginals(_sets(one), _chances(one, found)) for one in mine]
            witness = join(form, [one.record for one in mine], marginals)
            found = replace(found, cause_form=witness)
        return replace(found, cause_threshold=_threshold(found, mine, form))
    names = sorted({answer for one, _ in told for answer in one.answers})
    temperature, biases = _fit(told, names)
    return Calibration({task: temperature}, {task: _levelled(told, temperature, biases)})


def _levelled(
    told: Sequence[tuple[Weighed, int]], temperature: float, biases: Mapping[str, float]
) -> dict[str, float]:
    """Biases with rare answers lifted as far as weighted F1 gains by it.

    The likeliest answer is right most often, and too often the most frequent one for F1. The lift
    is -strength * log(share of the answer), "logit adjustment" (Menon et al., ICLR 2021).
    """
    seen = Counter(one.answers[place] for one, place in told)
    asked = Counter(answer for one, _ in told for answer in one.answers)
    shares = {name: (seen[name] + 0.5) / (asked[name] + 1) for name in biases}
    gold = [one.answers[place] for one, place in told]

    def lifted(strength: float) -> dict[str, float]:
        return {
            name: round(bias - strength * math.log(shares[name]), 4)
            for name, bias in biases.items()
        }

    def gain(strength: float) -> float:
        added = lifted(strength)
        guesses = [
            max(
                zip(one.logs, one.answers, strict=True),
                key=lambda pair: pair[0] / temperature + added[pair[1]],
            )[1]
            for one, _ in told
        ]
        return float(f1_score(gold, guesses, average="weighted"))

    return lifted(_best(_STRENGTHS, gain))


def _fit(
    told: Sequence[tuple[Weighed, int]], names: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """Temperature and biases of least negative log-likelihood."""
    places = {name: place for place, name in enumerate(names)}
    most = max(len(one.answers) for one, _ in told)
    logs = np.full((len(told), most), -np.inf)
    # Answers that have no bias of their own share the last, which stays 0.
    owners = np.full((len(told), most), len(names))
    for row, (one, _) in enumerate(told):
        logs[row, : len(one.answers)] = one.logs
        owners[row, : len(one.answers)] = [places.get(a, len(names)) for a in one.answers]
    gold = np.array([place for _, place in told])
    rows = np.arange(len(told))
    real = np.isfinite(logs)
    finite = np.where(real, logs, 0.0)

    def loss(given: Floats) -> tuple[float, Floats]:
        scale, added = given[0], np.append(given[1:], 0.0)
        values = np.where(real, finite * scale + added[owners], -np.inf)
        values -= values.max(axis=1, keepdims=True)
        chances = np.exp(values)
        total = chances.sum(axis=1, keepdims=True)
        chances /= total
        value = float(np.mean(np.log(total[:, 0]) - values[rows, gold]))
        off = chances
        off[rows, gold] -= 1
        slopes = np.bincount(owners.ravel(), off.ravel(), len(names) + 1)[:-1] / len(told)
        slope = np.concatenate([[float((off * finite).sum()) / len(told)], slopes])
        slope[1:] += 2 * _PRIOR * given[1:]
        return value + _PRIOR * float(given[1:] @ given[1:]), slope

    bounds = [(0.1, 10.0)] + [(None, None)] * len(names)
    best = minimize(loss, np.eye(1, len(names) + 1)[0], jac=True, method="L-BFGS-B", bounds=bounds)
    scale, added = best.x[0], best.x[1:]
    return round(1 / float(scale), 4), {
        name: round(float(bias), 4) for name, bias in zip(names, added, strict=True)
    }


def _threshold(fitted: Calibration, mine: Sequence[Weighed], form: Form | None) -> float:
    found = [_found(one, fitted, form) for one in mine]

    def gain(threshold: float) -> float:
        return _pair_f1(mine, [causes.chosen(*one, threshold) for one in found])

    return round(_best(_THRESHOLDS, gain), 4)


def _found(
    one: Weighed, fitted: Calibration, form: Form | None
) -> tuple[Mapping[int, float], float]:
    """Each cause's probability, and that of none; the form judges by a fit without the record."""
    sets, chances = _sets(one), _chances(one, fitted)
    marginals = causes.marginals(sets, chances)
    if form and fitted.cause_form:
        witness = replace(fitted.cause_form, weights=form.unseen(one.record))
        marginals = witness.joined(marginals, *ecpe.parse_query(one.record.query))
    return marginals, causes.without(sets, chances)


def _chances(one: Weighed, fitted: Calibration) -> np.ndarray:
    return fitted.probabilities(one.record.task, one.answers, one.logs)


def _best(values: Floats, gain: Callable[[float], float]) -> float:
    """The value that gains most; neighbours count, as a peak of one is chance."""
    gains = [gain(float(value)) for value in values]
    smooth = np.convolve(np.pad(gains, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    return float(values[int(smooth.argmax())])


def _pair_f1(mine: Sequence[Weighed], named: Sequence[Sequence[int]]) -> float:
    """Micro pair F1 in percent of the causes named."""
    right = [_gold_causes(one) for one in mine]
    hits = sum(len({*a} & {*b}) for a, b in zip(named, right, strict=True))
    return 200 * hits / max(sum(map(len, named)) + sum(map(len, right)), 1)


def _worth(task: str, mine: Sequence[Weighed], form: Form | None) -> Worth:
    plain = [Calibration()] * len(mine)
    fitted: list[Calibration] = list(plain)
    folds = [fold(one.record) for one in mine]
    for number in range(FOLDS):
        inside = [own == number for own in folds]
        if any(inside) and not all(inside):
            rest = [one for one, held in zip(mine, inside, strict=True) if not held]
            own = _fit_task(task, rest, form)
            fitted = [own if held else old for held, old in zip(inside, fitted, strict=True)]
    before = _figures(task, mine, plain, None)
    return Worth(len(mine), before, _figures(task, mine, fitted, form))


def _figures(
    task: str, mine: Sequence[Weighed], calibrations: Sequence[Calibration], form: Form | None
) -> dict[str, float]:
    nll, sure, right, gold, said = [], [], [], [], []
    for one, calibration in zip(mine, calibrations, strict=True):
        place = _gold_place(one)
        if place is None:
            continue
        chances = _chances(one, calibration)
        nll.append(-float(np.log(max(chances[place], 1e-12))))
        sure.append(float(chances.max()))
        right.append(float(chances.argmax() == place))
        gold.append(one.answers[place])
        said.append(one.answers[int(chances.argmax())])
    bins = np.minimum((np.array(sure) * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, np.array(right) - np.array(sure), _BINS)
    figures = {
        "nll": float(np.mean(nll)),
        "ece": 100 * float(np.abs(gaps).sum()) / len(right),
        "accuracy": 100 * float(np.mean(right)),
    }
    if task == "ecpe":
        named = [
            causes.chosen(*_found(one, calibration, form), calibration.cause_threshold)
            for one, calibration in zip(mine, calibrations, strict=True)
        ]
        figures["pair_f1"] = _pair_f1(mine, named)
    else:
        figures["weighted_f1"] = 100 * float(f1_score(gold, said, average="weighted"))
    return figures


def _is_usable(one: Weighed) -> bool:
    return one.record.task == "ecpe" or _gold_place(one) is not None


def _gold_place(one: Weighed) -> int | None:
    """Where the gold answer stands among the allowed ones; None when it is not one of them."""
    wanted: Any
    if one.record.task == "ecpe":
        wanted, sets = _gold_causes(one), _sets(one)
        return sets.index(wanted) if wanted in sets else None
    gold = gold_label(one.record)
    if one.record.task == "msa":
        if isinstance(gold, float):
            gold = None if gold == 0 else "positive" if gold > 0 else "negative"
        wanted, stated = gold, [msa.parse(answer) for answer in one.answers]
    else:
        wanted, stated = gold, [er.parse(answer) for answer in one.answers]
    return stated.index(wanted) if wanted in stated else None


def _gold_causes(one: Weighed) -> tuple[int, ...]:
    return tuple(sorted({pair.cause_index for pair in gold_label(one.record)}))


def _sets(one: Weighed) -> list[tuple[int, ...]]:
    return _cause_sets(one.record.query)


@lru_cache(maxsize=MOST)
def _cause_sets(query: str) -> list[tuple[int, ...]]:
    return causes.cause_sets(*ecpe.parse_query(query))
