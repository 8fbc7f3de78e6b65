"""Two runs on the same data: every figure of both, and an interval of the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoverse.errors import EmoVerseError
from emoverse.evaluation.end_to_end import load_semeval_run
from emoverse.evaluation.intervals import (
    LEVEL,
    SEED,
    Floats,
    Metric,
    by_unit,
    resampled,
    tabulate,
)
from emoverse.evaluation.runner import scored_run
from emoverse.evaluation.runs import Run, load_run
from emoverse.evaluation.scored import HEADLINES, Scored, check_protocol
from emoverse.evaluation.semeval import pairs_of, score_semeval

RESAMPLES = 10_000


def compare(
    a: Path | str,
    b: Path | str,
    protocol: str = "paper",
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """Paired bootstrap between two runs (Efron & Tibshirani 1993; Koehn, EMNLP 2004).

    Every resample draws the same conversations, or the same records where no conversation is known,
    for both runs, so what is hard for both cancels out. Only records that both have answered count.

    Args:
        a: a folder that `emoverse eval` wrote.
        b: another one, on the same data.
        protocol: `paper` or `strict`; `semeval` for two runs of that protocol, over the
            conversations that both have.
        resamples: bootstrap samples.
        seed: of numpy's default generator.

    Returns:
        protocol, data_sha256, the two runs' folders, models and hashes, bootstrap, and per task n
        and figures: a, b, difference (b - a), its 95 % interval, and p, the two-sided bootstrap p
        (how often the difference falls on the other side of 0, twice, never below 2 in resamples).

    Raises:
        EmoVerseError: a folder holds no run, the two are not about the same data, or nothing that
            they answered has a figure.
    """
    check_protocol(protocol)
    if protocol == "semeval":
        return _conversations(a, b, resamples, seed)
    runs = [load_run(a), load_run(b)]
    _check_same(a, b, [run.settings for run in runs])
    common = runs[0].answers.keys() & runs[1].answers.keys()
    if not common:
        raise EmoVerseError(f"{a} and {b} have answered no record in common; finish them first.")
    first, second = (scored_run(_only(run, common), protocol) for run in runs)
    tasks = {
        one.task: _of_records(one, two, resamples, seed)
        for one, two in zip(first, second, strict=True)
        if one.records
    }
    if not any(found["figures"] for found in tasks.values()):
        raise EmoVerseError(
            f"{a} and {b} have nothing to compare: what they answered has no gold answers or no "
            "figures. Of a run of protocol semeval name its folder, and --protocol semeval."
        )
    return {
        "protocol": protocol,
        "data_sha256": runs[0].settings["data_sha256"],
        "runs": [_told(run.folder, run, len(run.answers)) for run in runs],
        "bootstrap": {"level": LEVEL, "resamples": resamples, "seed": seed},
        "tasks": tasks,
    }


def _conversations(a: Path | str, b: Path | str, resamples: int, seed: int) -> dict[str, Any]:
    """`compare` under `semeval`."""
    runs = [load_semeval_run(a), load_semeval_run(b)]
    _check_same(a, b, [run.settings for run in runs])
    gold = min((run.gold for run in runs), key=len)  # limits take the first ones
    said = [run.said[: len(gold)] for run in runs]
    tables = [tabulate("ecpe", *pairs_of(gold, one)) for one in said]
    points = [score_semeval(gold, one) for one in said]
    return {
        "protocol": "semeval",
        "data_sha256": runs[0].settings["data_sha256"],
        "runs": [
            _told(folder, run.emotions, len(run.said))
            for folder, run in zip((a, b), runs, strict=True)
        ],
        "bootstrap": {"level": LEVEL, "resamples": resamples, "seed": seed},
        "tasks": {
            "ecpe": {
                "n": len(gold),
                "unit": "conversation",
                "figures": _differences("ecpe", tables, points, None, resamples, seed),
            }
        },
    }


def _check_same(a: Path | str, b: Path | str, settings: Sequence[Mapping[str, Any]]) -> None:
    one, two = settings
    if one["data_sha256"] != two["data_sha256"]:
        raise EmoVerseError(
            f"{a} and {b} are about different data ({one['data']} and {two['data']}); compare "
            "runs on the same file."
        )


def _told(folder: Path | str, run: Run, answered: int) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "model": run.settings["model_name"],
        "model_sha256": run.settings.get("model_sha256"),
        "answered": answered,
    }


def _only(run: Run, common: set[str]) -> Run:
    records = tuple(record for record in run.records if record.id in common)
    return Run(run.folder, run.settings, records, run.answers)


def _of_records(a: Scored, b: Scored, resamples: int, seed: int) -> dict[str, Any]:
    tables = [tabulate(one.task, one.gold, one.pred, one.values, one.captions) for one in (a, b)]
    points = [one.headline(one.score()) for one in (a, b)]
    return {
        "n": len(a.records),
        "unit": "conversation" if a.units else "record",
        "figures": _differences(a.task, tables, points, a.units, resamples, seed),
    }


def _differences(
    task: str,
    tables: Sequence[tuple[Floats, Metric]],
    points: Sequence[Mapping[str, float | None]],
    units: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Figures of both sides, given their count tables (`tabulate`) and scores."""
    counts = by_unit(np.concatenate([table for table, _ in tables], axis=1), units)
    sums = resampled(counts, resamples, seed)
    width = tables[0][0].shape[1]
    drawn = [tables[0][1](sums[:, :width]), tables[1][1](sums[:, width:])]
    tail = 50 * (1 - LEVEL)
    figures = {}
    for name in HEADLINES[task]:
        one, two = points[0].get(name), points[1].get(name)
        if one is None or two is None:
            continue
        differences = drawn[1][name] - drawn[0][name]
        differences = differences[~np.isnan(differences)]
        sides = min((differences <= 0).sum(), (differences >= 0).sum())
        low, high = np.percentile(differences, [tail, 100 - tail])
        figures[name] = {
            "a": one,
            "b": two,
            "difference": two - one,
            "interval": [round(float(low), 4), round(float(high), 4)],
            "p": min(1.0, 2 * (int(sides) + 1) / (len(differences) + 1)),
        }
    return figures
