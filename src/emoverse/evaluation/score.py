"""Answers to figures: one block of scores a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoverse.emt.record import load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.floors import floors as all_floors
from emoverse.evaluation.floors import plain_floors
from emoverse.evaluation.gold import unique_ids
from emoverse.evaluation.intervals import BOOTSTRAP, SEED, intervals
from emoverse.evaluation.predictions import matched
from emoverse.evaluation.scored import Scored, check_protocol, prepare
from emoverse.evaluation.semeval import is_semeval_file, load_semeval, semeval_figures
from emoverse.evaluation.traps import trap_rows
from emoverse.files import sha256_of


def score_files(
    task: str,
    gold: Path | str,
    pred: Path | str,
    protocol: str,
    *,
    derive_scores: bool = False,
    open_vocabulary: bool = False,
    floors_train: Path | str | None = None,
    traps: bool = False,
) -> dict[str, Any]:
    """Score a file of answers against a file of records (or SemEval conversations).

    Args:
        task: one of the five.
        gold: our records, the authors' JSON, or SemEval JSON for `ecpe` under `semeval`.
        pred: the same formats with the answer in `response`, or `predictions.jsonl` with `text`.
            Rows are matched by `id` where all have one, else by position.
        protocol: `paper`, `strict` or `semeval`.
        derive_scores: see `prepare`.
        open_vocabulary: see `prepare`.
        floors_train: a training set for the floors, see `emoverse.evaluation.floors.floors`.
        traps: add what the authors' script would say, see `emoverse.evaluation.traps`.

    Returns:
        What `block` returns, and in `replaced` how many answers a later one of the same id took
        the place of (not under `semeval`).

    Raises:
        EmoVerseError: a file is unreadable, an answer is missing, or the protocol does not fit.
    """
    check_protocol(protocol, task)
    origin: dict[str, Any] = {
        "data_sha256": sha256_of(gold) if Path(gold).is_file() else None,
        "predictions_sha256": sha256_of(pred) if Path(pred).is_file() else None,
        "model_sha256": None,
        "settings": {
            "gold": str(gold),
            "pred": str(pred),
            "derive_scores": derive_scores,
            "open_vocabulary": open_vocabulary,
            "floors_train": str(floors_train) if floors_train else None,
        },
    }
    if protocol == "semeval":
        truth = load_semeval(gold)
        said = load_semeval(pred, only={conversation.id for conversation in truth})
        return semeval_figures(truth, said) | {"seed": SEED} | origin
    for path in (gold, pred):
        if is_semeval_file(path):
            raise EmoVerseError(f"{path} is a SemEval file; score it with `--protocol semeval`.")
    everything = unique_ids(load_records(gold))
    records = [record for record in everything if record.task == task]
    if not records:
        raise EmoVerseError(f"{gold} has no {task} records; check `--task`.")
    answers, replaced = matched(pred, everything, records)
    scored = prepare(
        task,
        records,
        answers,
        protocol,
        derive_scores=derive_scores,
        open_vocabulary=open_vocabulary,
    )
    result = block(scored, all_floors(scored, floors_train), origin) | {"replaced": replaced}
    return result | {"traps": trap_rows(scored)} if traps else result


def block(
    scored: Scored,
    floors: Mapping[str, Mapping[str, Any]] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One task's part of `scores.json`.

    Args:
        scored: gold and predictions.
        floors: name to headline figures; None computes those that need no training data.
        origin: data_sha256, model_sha256, settings and what else says where the figures are from.

    Returns:
        task, protocol, n, headline, intervals (95 %), unparseable, floors, bootstrap, seed, the
        task's full `scores`, and `origin`.
    """
    figures = scored.score()
    floors = plain_floors(scored) if floors is None else floors
    result = {
        "task": scored.task,
        "protocol": scored.protocol,
        "n": len(scored.records),
        "headline": scored.headline(figures),
        "intervals": intervals(
            scored.task, scored.gold, scored.pred, scored.units, scored.values, scored.captions
        ),
        "unparseable": figures.get("unparseable", 0),
        "floors": {name: dict(row) for name, row in floors.items()},
        "bootstrap": BOOTSTRAP | {"unit": "conversation" if scored.units else "record"},
        "seed": SEED,
        **(origin or {}),
        "scores": figures,
    }
    if scored.values_from:
        result["scores_from"] = scored.values_from
    if scored.through_wheel is not None:
        result["through_wheel"] = scored.through_wheel
    return result
