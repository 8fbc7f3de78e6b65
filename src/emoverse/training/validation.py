"""Scores on the valid split after each epoch: loss, exact answers, and the tasks' own figures."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.tasks import er, msa
from emoverse.training.rows import Row, Sample, batches, rows

Losses = Callable[[Sequence[Row]], tuple[torch.Tensor, torch.Tensor]]
Tokenise = Callable[[Record], Sample]


def chosen(records: Sequence[Record], tasks: Sequence[str], most: int) -> list[Record]:
    """At most `most` records of each task, always the same ones, in the order of the data."""
    kept: set[int] = set()
    for task in tasks:
        places = [n for n, record in enumerate(records) if record.task == task]
        places.sort(key=lambda n: random.Random(f"valid/{records[n].id}").random())
        kept |= set(places[:most])
    return [record for n, record in enumerate(records) if n in kept]


def valid_scores(
    records: Sequence[Record],
    tokenise: Tokenise,
    losses: Losses,
    *,
    row_tokens: int,
    batch_tokens: int,
    max_length: int,
    kind: str,
) -> dict[str, dict[str, float]]:
    """Score records by task.

    Every task has `loss`, the mean loss of a gold answer's tokens, and `exact`, the share of
    records whose gold answer greedy decoding would write word for word, in percent. MSA and ER
    also have the figure their benchmark is judged by, the answer being the likeliest allowed one.

    Args:
        records: the valid records; those longer than `max_length` tokens are left out.
        tokenise: a record to its sample.
        losses: a batch of rows to its token losses, and whether each token was the likeliest.
        row_tokens: see `rows`.
        batch_tokens: see `batches`.
        kind: see `rows`.
        max_length: most tokens of a sample.

    Returns:
        Task to figure to value.
    """
    asked: list[Sample] = []
    for record in records:
        for answer in _answers(record):
            asked.append(tokenise(replace(record, response=answer)))
    asked = [sample for sample in asked if len(sample.tokens) <= max_length]
    rng = random.Random(0)
    per_answer: dict[tuple[str, str], tuple[float, float, bool]] = {}
    for batch in batches(rows(asked, row_tokens, rng, kind), batch_tokens, rng):
        values, hits = (part.float().cpu().numpy() for part in losses(batch))
        place = 0
        for row in batch:
            mine_values = values[place : place + len(row.nodes)]
            mine_hits = hits[place : place + len(row.nodes)]
            for owner, sample in enumerate(row.samples):
                own = row.owners == owner
                key = (_identity(sample.record), sample.record.response)
                total, exact = float(mine_values[own].sum()), bool(mine_hits[own].all())
                per_answer[key] = (total, float(mine_values[own].mean()), exact)
            place += len(row.nodes)
    return _by_task(records, per_answer)


def mean_score(scores: dict[str, dict[str, float]]) -> float:
    """One figure to choose the best epoch by: the mean over tasks of their main figure."""
    main = {"er": "weighted_f1", "msa": "acc2_np"}
    return float(
        np.mean([row.get(main.get(task, ""), row["exact"]) for task, row in scores.items()])
    )


def _by_task(
    records: Sequence[Record], per_answer: dict[tuple[str, str], tuple[float, float, bool]]
) -> dict[str, dict[str, float]]:
    found: dict[str, list[tuple[Record, float, bool, str]]] = defaultdict(list)
    for record in records:
        answers = [a for a in _answers(record) if (_identity(record), a) in per_answer]
        if record.response not in answers:
            continue  # too long
        _, loss, exact = per_answer[_identity(record), record.response]
        likeliest = min(answers, key=lambda answer: per_answer[_identity(record), answer][0])
        found[record.task].append((record, loss, exact, likeliest))
    scores: dict[str, dict[str, float]] = {}
    for task, items in found.items():
        exact_share = 100 * sum(exact for _, _, exact, _ in items) / len(items)
        scores[task] = {
            "n": float(len(items)),
            "loss": float(np.mean([loss for _, loss, _, _ in items])),
            "exact": exact_share,
        }
        scores[task] |= _own_figures(task, [(record, guess) for record, _, _, guess in items])
    return scores


def _own_figures(task: str, items: Sequence[tuple[Record, str]]) -> dict[str, float]:
    figures: dict[str, Any] = {}
    if task == "er":
        gold = [er.parse(record.response) for record, _ in items]
        if all(gold):
            scored = er.score([str(g) for g in gold], [er.parse(guess) for _, guess in items])
            figures = {name: scored[name] for name in ("weighted_f1", "accuracy")}
    elif task == "msa":
        truth = [msa.parse(record.response) for record, _ in items]
        if all(truth):
            scored = msa.score([str(g) for g in truth], [msa.parse(guess) for _, guess in items])
            figures = {"acc2_np": scored["acc2_np"]}
    return {name: float(value) for name, value in figures.items() if value is not None}


def _answers(record: Record) -> list[str]:
    """The answers whose likelihoods are compared: all allowed ones, the gold among them."""
    allowed: tuple[str, ...] = ()
    if record.task == "msa":
        allowed = msa.choices()
    elif record.task == "er":
        mosei = f" {er.answer('joy', 'mosei')[:-1].lower()}," in record.query
        allowed = er.choices("mosei" if mosei else "meld")
    return list(dict.fromkeys([record.response, *allowed]))


def _identity(record: Record) -> str:
    return f"{record.id}\0{record.query}"
