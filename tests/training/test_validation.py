from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from emoverse.emt.record import Record
from emoverse.tasks import er, fer, msa
from emoverse.training.rows import Row, Sample
from emoverse.training.validation import chosen, mean_score, valid_scores

RECORDS = [
    Record(er.query("a"), "Joy.", "er", id="1"),
    Record(er.query("b"), "Anger.", "er", id="2"),
    Record(er.query("c", wording="mosei"), "Happy.", "er", id="3"),
    Record(msa.query("d"), "Positive.", "msa", id="4"),
    Record(fer.query(), "Eyes narrowing", "fer", id="5"),
]


def _tokenise(record: Record) -> Sample:
    tokens = [int(record.id), *(100 + ord(letter) for letter in record.response)]
    return Sample(record, tokens, list(range(1, len(tokens))))


def _scores(liked: dict[str, str], max_length: int = 99) -> dict[str, dict[str, float]]:
    """Scores of a model that gives every record the answer `liked` says."""

    def losses(batch: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        values = []
        for row in batch:
            for owner in row.owners:
                record = row.samples[owner].record
                values.append(0.25 if liked[record.id] == record.response else 2.0)
        found = torch.tensor(values)
        return found, found < 1

    return valid_scores(
        RECORDS,
        _tokenise,
        losses,
        row_tokens=40,
        batch_tokens=80,
        max_length=max_length,
        kind="merged",
    )


def test_a_model_that_is_right_scores_full_and_its_loss_is_of_the_gold_answers() -> None:
    scores = _scores({record.id: record.response for record in RECORDS})
    assert scores["er"] == pytest.approx(
        {"n": 3, "loss": 0.25, "exact": 100, "weighted_f1": 100, "accuracy": 100}
    )
    assert scores["msa"]["acc2_np"] == 100
    assert scores["fer"] == pytest.approx({"n": 1, "loss": 0.25, "exact": 100})
    assert mean_score(scores) == pytest.approx(100)


def test_the_likeliest_allowed_answer_counts_in_the_querys_own_wording() -> None:
    liked = {"1": "Joy.", "2": "Fear.", "3": "Sad.", "4": "Negative.", "5": "Winking"}
    scores = _scores(liked)
    assert scores["er"]["accuracy"] == pytest.approx(100 / 3)
    assert scores["er"]["exact"] == pytest.approx(100 / 3)
    assert scores["er"]["loss"] == pytest.approx((0.25 + 2 + 2) / 3)
    assert scores["msa"]["acc2_np"] == 0
    assert scores["fer"]["exact"] == 0
    assert mean_score(scores) == pytest.approx(np.mean([scores["er"]["weighted_f1"], 0, 0]))


def test_records_that_are_too_long_are_left_out() -> None:
    scores = _scores({record.id: record.response for record in RECORDS}, max_length=10)
    assert scores["er"]["n"] == 3
    assert "fer" not in scores


def test_the_same_records_are_scored_each_time_at_most_so_many_a_task() -> None:
    many = [Record("q", "a", task, id=f"{n}") for n in range(50) for task in ("er", "fer")]
    first = chosen(many, ["er"], 7)
    assert len(first) == 7
    assert {record.task for record in first} == {"er"}
    assert chosen(many, ["er"], 7) == first
    mixed = chosen(many[::-1], ["er"], 7)
    assert {record.id for record in mixed} == {record.id for record in first}
    assert chosen(many, ["er", "fer"], 999) == many
