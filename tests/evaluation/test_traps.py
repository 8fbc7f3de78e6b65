from __future__ import annotations

from dataclasses import replace

import pytest

from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.scored import prepare
from emoverse.evaluation.traps import authors_ecpe, baseline_ecpe, traps
from emoverse.tasks.ecpe import Pair

from .made import ecpe_records, er_records, msa_records


def _traps(records, texts, protocol="paper"):
    answers = [Answer(text=text) for text in texts]
    return traps(prepare(records[0].task, records, answers, protocol))


def test_a_pair_said_twice_is_right_twice():
    gold = (Pair(5, "joy", 2), Pair(5, "joy", 5))
    assert authors_ecpe([(gold, "5_joy,2")])[0] == pytest.approx(100 * 2 / 3)
    assert authors_ecpe([(gold, "5_joy,2;5_joy,2")])[0] == 100
    assert authors_ecpe([(gold, "5_joy, 2")])[0] == 0  # the space breaks the string


def test_for_other_models_the_targets_own_index_is_a_cause_for_nothing():
    gold = (Pair(5, "joy", 5),)
    assert baseline_ecpe([(gold, "5_anger,2")])[0] == pytest.approx(200 / 3)


def test_ecpe_traps_are_measured_in_points():
    records = ecpe_records([3, 4, 5])
    texts = [r.response or "1_joy,1" for r in records]
    found = {trap.rule[:22]: trap for trap in _traps(records, texts, "strict")}
    left_out = next(trap for rule, trap in found.items() if rule.startswith("targets without"))
    assert left_out.points > 0 and left_out.cases == sum(not r.response for r in records)
    empty = _traps(records, [""] * len(records))
    stops = next(trap for trap in empty if trap.rule.startswith("an empty"))
    assert stops.theirs is None and stops.points is None


def test_er_and_msa_traps():
    records = er_records(8)
    exact, laxest, _ = _traps(records, [r.response for r in records])
    assert exact.points == 0
    assert laxest.ours == 100 and laxest.theirs == 25  # capitals: everything is Neutral
    stopped = _traps(records, ["I see joy.", *(r.response for r in records[1:])])[0]
    assert stopped.theirs is None and stopped.cases == 1
    sentiments = [replace(r, label=1.0) for r in msa_records(4)]
    exact, lax, swapped = _traps(sentiments, ["positive"] * 3 + ["negative"])
    assert (exact.ours, exact.theirs, lax.theirs) == (75, 0, 75)
    assert swapped.ours != swapped.theirs
