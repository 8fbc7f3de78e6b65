"""Fit a model's calibration on records that it was not trained on.

The scores of the allowed answers are kept in a log as they come, so that a run that was stopped
goes on, and fitting again asks nothing. What the fit is worth is measured by cross-validation:
every record is judged by a fit that has not seen it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import f1_score

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import gold_label
from emoverse.evaluation.runs import append, fingerprint, writing
from emoverse.inference import causes
from emoverse.inference.calibration import Calibration
from emoverse.inference.engine import Engine
from emoverse.tasks import ecpe, er, msa

TASKS_BY_LABEL = ("msa", "er", "ecpe")
_FOLDS = 5
_BINS = 15
_MOST = 3000  # of a task; more hardly move two to eight numbers
_THRESHOLDS = np.arange(0.1, 0.71, 0.02)
_STRENGTHS = np.arange(0, 1.01, 0.05)
_PRIOR = 1e-3  # weight of the squared biases: answers that never occur stay finite
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A record's question as the model weighs it.

    Attributes:
        record: which it is.
        answers: the allowed answers in words.
        logs: (answers,) log-probabilities, not normalised.
    """

    record: Record
    answers: tuple[str, ...]
    logs: Floats


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


def left_out(records: Sequence[Record], trained: Sequence[Record]) -> list[Record]:
    """The records whose query is not among those that a model was trained on."""
    seen = {record.query for record in trained}
    return [record for record in records if record.query not in seen]


def draw(records: Sequence[Record], limit: int = _MOST) -> list[Record]:
    """At most `limit` records of each task that is answered by labels, the same ones every time.

    A conversation's ECPE records come together or not at all.
    """
    chosen: set[int] = set()
    for task in TASKS_BY_LABEL:
        mine = [place for place, record in enumerate(records) if record.task == task]
        chosen |= set(sorted(mine, key=lambda place: _lot(records[place]))[:limit])
    return [record for place, record in enumerate(records) if place in chosen]


def weigh(
    engine: Engine,
    records: Sequence[Record],
    log: Path,
    media_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Weighed]:
    """The model's scores of all allowed answers; those in `log` already are not asked for again.

    Args:
        engine: the model; its own calibration plays no part.
        records: MSA, ER and ECPE.
        log: a JSONL file for this model's scores, grown as they come.
        media_root: where relative media paths start.
        progress: called with (weighed, all) records.

    Raises:
        EmoVerseError: a query is malformed, or another process writes that file.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with writing(log):
        done = _kept(log)
        waiting = [record for record in records if fingerprint(record) not in done]
        before = len(records) - len(waiting)
        if progress:
            progress(before, len(records))
        for count in append(log, _rows(engine, waiting, media_root)):
            if progress:
                progress(before + count, len(records))
        done = _kept(log)
    found = [(record, done[fingerprint(record)]) for record in records]
    return [
        Weighed(record, tuple(row["answers"]), np.array(row["logs"], float))
        for record, row in found
    ]


def fit(weighed: Sequence[Weighed]) -> tuple[Calibration, dict[str, Worth]]:
    """The calibration that makes the gold answers likeliest, and what it is worth.

    MSA and ER get a temperature and biases, with rare answers lifted where weighted F1 gains by it.
    ECPE, whose answers are sets, gets a temperature and the threshold with the best pair F1.

    Returns:
        The calibration, and per task its worth by 5-fold cross-validation.

    Raises:
        EmoVerseError: there are too few records of every task.
    """
    temperatures: dict[str, float] = {}
    biases: dict[str, Mapping[str, float]] = {}
    threshold, worth = causes.THRESHOLD, {}
    for task in TASKS_BY_LABEL:
        mine = [one for one in weighed if one.record.task == task and _is_usable(one)]
        if len(mine) < 10 * _FOLDS:
            continue
        fitted = _fit_task(task, mine)
        temperatures |= fitted.temperatures
        biases |= fitted.biases
        threshold = fitted.cause_threshold if task == "ecpe" else threshold
        worth[task] = _worth(task, mine)
    if not worth:
        raise EmoVerseError(
            f"There are fewer than {10 * _FOLDS} usable records of every task; give more data."
        )
    counts = {task: one.records for task, one in worth.items()}
    return Calibration(temperatures, biases, round(threshold, 4), counts), worth


def _fit_task(task: str, mine: Sequence[Weighed]) -> Calibration:
    told = [(one, place) for one in mine if (place := _gold_place(one)) is not None]
    if task == "ecpe":
        temperature, _ = _fit(told, ())
        found = Calibration({task: temperature})
        return replace(found, cause_threshold=_threshold(found, mine))
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


def _threshold(fitted: Calibration, mine: Sequence[Weighed]) -> float:
    sets = [_sets(one) for one in mine]
    chances = [fitted.probabilities("ecpe", one.answers, one.logs) for one in mine]

    def gain(threshold: float) -> float:
        named = [causes.chosen(*both, threshold) for both in zip(sets, chances, strict=True)]
        return _pair_f1(mine, named)

    return _best(_THRESHOLDS, gain)


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


def _worth(task: str, mine: Sequence[Weighed]) -> Worth:
    plain = [Calibration()] * len(mine)
    fitted: list[Calibration] = list(plain)
    for fold in range(_FOLDS):
        # A conversation's records are in one fold.
        inside = [int(_lot(one.record)[:8], 16) % _FOLDS == fold for one in mine]
        if any(inside) and not all(inside):
            rest = [one for one, held in zip(mine, inside, strict=True) if not held]
            own = _fit_task(task, rest)
            fitted = [own if held else old for held, old in zip(inside, fitted, strict=True)]
    return Worth(len(mine), _figures(task, mine, plain), _figures(task, mine, fitted))


def _figures(
    task: str, mine: Sequence[Weighed], calibrations: Sequence[Calibration]
) -> dict[str, float]:
    nll, sure, right, gold, said = [], [], [], [], []
    for one, calibration in zip(mine, calibrations, strict=True):
        place = _gold_place(one)
        if place is None:
            continue
        chances = calibration.probabilities(task, one.answers, one.logs)
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
            causes.chosen(
                _sets(one),
                calibration.probabilities(task, one.answers, one.logs),
                calibration.cause_threshold,
            )
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


@lru_cache(maxsize=_MOST)
def _cause_sets(query: str) -> list[tuple[int, ...]]:
    return causes.cause_sets(*ecpe.parse_query(query))


def _lot(record: Record) -> str:
    """A record's lot, the same for all targets of a conversation."""
    name = record.query
    if record.task == "ecpe":
        turns, _ = ecpe.parse_query(name)
        name = "\n".join(turn.text for turn in turns)
    return hashlib.sha256(name.encode()).hexdigest()


def _rows(
    engine: Engine, records: Sequence[Record], media_root: Path | None
) -> Iterator[Mapping[str, Any]]:
    for posed, logs in engine.weigh(records, media_root):
        yield {
            "key": fingerprint(posed.record),
            "answers": posed.answers,
            "logs": [round(float(value), 5) for value in logs],
        }


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}
