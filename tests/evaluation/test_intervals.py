from __future__ import annotations

import random

import numpy as np
import pytest

from emoverse.evaluation.intervals import intervals, tabulate
from emoverse.tasks import ecpe, er, eri, fer, labels, msa
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
    point = metric(np.asarray(counts).sum(axis=0, keepdims=True))
    ranges = intervals(task, gold, pred)
    assert set(ranges) == set(point)
    for name, value in point.items():
        assert value[0] == pytest.approx(scores[name])
        low, high = ranges[name]
        assert low <= scores[name] <= high
        assert 0 <= low < high <= 100


def test_figures_of_scores_captions_and_reasons_equal_their_scorers():
    dice = random.Random(5)
    gold = [dice.uniform(-3, 3) for _ in range(60)]
    values = [None if dice.random() < 0.1 else max(-3, min(3, g + dice.gauss(0, 1))) for g in gold]
    signs = ["positive" if (v or 0) >= 0 else "negative" for v in values]
    graded = msa.score(gold, signs, values)
    aus = [("AU12", "AU06"), ("AU04",), ()] * 10
    said = [("AU12",), ("AU04", "AU01"), ("AU05",)] * 10
    captions = [("Grinning", "Grinning wide"), ("Frowning", "Puzzled"), ("", "Eyes")] * 10
    reasons = ["She is happy, she won.", "A door opens.", "He is afraid of dogs."] * 10
    guesses = ["She won.", None, "He is scared and happy."] * 10
    for task, truth, guess, more, scores in (
        ("msa", gold, signs, {"values": values}, graded),
        ("fer", aus, said, {"captions": captions}, fer.score(aus, said, captions)),
        ("eri", reasons, guesses, {}, eri.score(reasons, guesses)),
    ):
        counts, metric = tabulate(task, truth, guess, **more)
        ranges = intervals(task, truth, guess, **more)
        for name, value in metric(counts.sum(axis=0, keepdims=True)).items():
            assert value[0] == pytest.approx(scores[name]), name
            low, high = ranges[name]
            assert low <= scores[name] <= high, name
    assert {"acc7", "acc5", "mae", "corr"} <= set(intervals("msa", gold, signs, values=values))


def test_same_seed_same_interval_and_units_widen_it():
    gold = ["joy", "anger"] * 40
    pred = ["joy"] * 20 + ["anger"] * 20 + ["joy", "anger"] * 20
    first, again = intervals("er", gold, pred), intervals("er", gold, pred)
    assert first == again
    assert intervals("er", gold, pred, seed=1) != first
    halves = ["a"] * 40 + ["b"] * 40
    wide = intervals("er", gold, pred, halves)["accuracy"]
    assert wide[1] - wide[0] > first["accuracy"][1] - first["accuracy"][0]


def test_no_data_has_no_interval():
    assert intervals("er", [], []) == {}
    assert intervals("eri", [], []) == {}
