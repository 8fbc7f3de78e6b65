from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from emoverse.emt.agreement import agreement, cohen, fleiss
from emoverse.emt.label_studio import Marking

LABELS = st.sampled_from(["joy", "anger", "neutral"])


def test_cohen_of_a_textbook_case() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no (Wikipedia, "Cohen's kappa"): 0.4."""
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohen(one, other) == pytest.approx(0.4)


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_cohen_agrees_with_scikit_learn(items: list[tuple[str, str]]) -> None:
    one, other = zip(*items, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = cohen_kappa_score(one, other)
    found = cohen(one, other)
    assert (found is None and math.isnan(known)) or found == pytest.approx(known)


def test_fleiss_of_the_textbook_case() -> None:
    """Ten subjects, fourteen raters, five categories (Wikipedia, "Fleiss' kappa"): 0.210."""
    table = """0 0 0 0 14
    0 2 6 4 2
    0 0 3 5 6
    0 3 9 2 0
    2 2 8 1 1
    7 7 0 0 0
    3 2 6 3 0
    2 5 3 2 2
    6 5 2 1 0
    0 2 2 3 7"""
    items = [
        [category for category, count in enumerate(line.split()) for _ in range(int(count))]
        for line in table.splitlines()
    ]
    assert fleiss(items) == pytest.approx(0.210, abs=5e-4)


@given(st.lists(st.lists(LABELS, min_size=3, max_size=3), max_size=20))
def test_fleiss_is_one_only_for_full_agreement(items: list[list[str]]) -> None:
    kappa = fleiss(items)
    agreed = all(len(set(labels)) == 1 for labels in items)
    if kappa is None:
        assert len({label for labels in items for label in labels}) < 2
    else:
        assert kappa <= 1 + 1e-12
        assert (kappa == pytest.approx(1)) is agreed


def test_undefined_figures_are_none() -> None:
    assert cohen([], []) is None
    assert cohen(["joy", "joy"], ["joy", "joy"]) is None
    assert fleiss([]) is None
    assert fleiss([["joy"], ["anger"]]) is None


def test_agreement_over_conversations() -> None:
    """Two annotators share conversation 1; the third did only conversation 2."""
    one = Marking("ann", {2: "joy", 3: "anger"}, {2: (1, 2), 3: (3,)})
    two = Marking("bob", {2: "joy", 3: "sadness"}, {2: (2,), 3: None})
    three = Marking("cleo", {1: "joy"}, {1: (1,)})
    groups = {("train", "1"): [one, two], ("train", "2"): [three]}
    found = agreement(groups, {("train", "1"): 3, ("train", "2"): 1})
    [pair] = found["pairs"]
    assert (pair["annotators"], pair["conversations"]) == (["ann", "bob"], 1)
    # neutral-neutral, joy-joy, anger-sadness; by chance 1/9 + 1/9.
    assert pair["emotion_kappa"] == pytest.approx((2 / 3 - 2 / 9) / (1 - 2 / 9))
    # Utterance 2 alone was answered by both: of its three candidates one is disputed.
    assert found["cause"]["items"] == 3
    assert pair["cause_kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    # {(2, joy, 1), (2, joy, 2), (3, anger, 3)} against {(2, joy, 2)}.
    assert pair["pair_f1"] == found["pair_f1"] == pytest.approx(100 * 2 * 1 / 4)
    assert found["emotion"]["cohen"] == pair["emotion_kappa"]


def test_one_annotator_has_nobody_to_agree_with() -> None:
    alone = {("train", "1"): [Marking("ann", {1: "joy"}, {1: (1,)})]}
    found = agreement(alone, {("train", "1"): 1})
    assert found["pairs"] == []
    assert found["pair_f1"] is found["emotion"]["fleiss"] is found["cause"]["cohen"] is None
