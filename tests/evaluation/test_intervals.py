from __future__ import annotations

import random

import numpy as np
import pytest

from emoverse.evaluation.intervals import intervals, tabulate
from emoverse.tasks import ecpe, er, labels, msa
from emoverse.tasks.ecpe import Pair


def _cases() -> list[tuple[str, list, list, dict]]:
    dice = random.Random(4)
    gold_er = [dice.choice(labels.EMOTIONS[:6]) for _ in range(80)]
    pred_er = [g if dice.random() < 0.6 else dice.choice([*labels.EMOTIONS, None]) for g in gold_er]
    gold_msa = [dice.choice([-2.0, -0.3, 0.0, 1.0]) for _ in range(60)]
    pred_msa = [dice.choice(["positive", "negative", None]) for _ in gold_msa]
    words = ["positive" if value > 0 else "negative" for value in gold_msa]
    emotions = [dice.choice(labels.ECPE_EMOTIONS) for _ in range(50)]
    gold_ecpe = [(Pair(5, e, 5), Pair(5, e, 4)) for e in emotions]
    pred_ecpe: list = [
        dice.choice([None, (), (Pair(5, e, 5),), (Pair(5, "neutral", 5), Pair(5, e, 1))])
        for e in emotions
    ]
    return [
        ("er", gold_er, pred_er, er.score(gold_er, pred_er)),
        ("msa", gold_msa, pred_msa, msa.score(gold_msa, pred_msa)),
        ("msa", words, pred_msa, msa.score(words, pred_msa)),
        ("ecpe", gold_ecpe, pred_ecpe, ecpe.score(gold_ecpe, pred_ecpe, "paper")),
    ]


@pytest.mark.parametrize(("task", "gold", "pred", "scores"), _cases())
def test_figures_equal_the_scorer_and_lie_inside_the_interval(task, gold, pred, scores):
    counts, metric = tabulate(task, gold, pred)
    assert metric is not None
    point = metric(np.asarray(counts).sum(axis=0, keepdims=True))
    ranges = intervals(task, gold, pred)
    assert set(ranges) == set(point)
    for name, value in point.items():
        assert value[0] == pytest.approx(scores[name])
        low, high = ranges[name]
        assert low <= scores[name] <= high
        assert 0 <= low < high <= 100


def test_same_seed_same_interval_and_units_widen_it():
    gold = ["joy", "anger"] * 40
    pred = ["joy"] * 20 + ["anger"] * 20 + ["joy", "anger"] * 20
    first, again = intervals("er", gold, pred), intervals("er", gold, pred)
    assert first == again
    assert intervals("er", gold, pred, seed=1) != first
    halves = ["a"] * 40 + ["b"] * 40
    wide = intervals("er", gold, pred, halves)["accuracy"]
    assert wide[1] - wide[0] > first["accuracy"][1] - first["accuracy"][0]


def test_no_data_and_unknown_task_have_no_interval():
    assert intervals("er", [], []) == {}
    assert intervals("eri", ["a"], ["a"]) == {}
