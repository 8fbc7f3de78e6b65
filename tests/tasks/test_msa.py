from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels, msa

ITEM = st.tuples(st.floats(-3, 3), st.sampled_from(["positive", "negative", None]))


def test_wording() -> None:
    assert msa.query("I'm fine.") == (
        'The person says: "I\'m fine." <sentiment> Please determine which sentiment label in the '
        "video represents: positive or negative."
    )
    assert msa.query().startswith("<sentiment> Please")
    assert msa.choices() == ("Positive.", "Negative.")


@pytest.mark.parametrize("label", labels.SENTIMENTS)
def test_answers_are_read_back(label: str) -> None:
    assert msa.parse(msa.answer(label)) == label


def test_zeros_count_as_positive_in_one_convention_and_drop_out_of_the_other() -> None:
    scores = msa.score([-1.0, 0.0, 2.0, 0.0], ["negative", "positive", None, "negative"])
    assert scores["acc2_nn"] == 50
    assert (scores["n"], scores["n_np"], scores["acc2_np"]) == (4, 2, 50)
    assert scores["unparseable"] == 1


@given(st.lists(ITEM, min_size=1))
def test_scores_agree_with_scikit_learn(items: list[tuple[float, str | None]]) -> None:
    scores = msa.score(*zip(*items, strict=True))
    for name, kept in (("nn", items), ("np", [item for item in items if item[0] != 0])):
        gold = ["negative" if value < 0 else "positive" for value, _ in kept]
        pred = [guess or "unparseable" for _, guess in kept]
        if kept:
            assert scores[f"acc2_{name}"] == pytest.approx(100 * accuracy_score(gold, pred))
            weighted = f1_score(gold, pred, average="weighted", zero_division=0)
            assert scores[f"f1_{name}"] == pytest.approx(100 * weighted)


def test_gold_labels_leave_the_non_negative_convention_undefined() -> None:
    scores = msa.score(["positive", "neutral", "negative"], ["positive", "positive", "positive"])
    assert scores["acc2_nn"] is None
    assert (scores["n_np"], scores["acc2_np"]) == (2, 50)


@pytest.mark.parametrize("value", [3.5, float("nan"), "fine"])
def test_a_gold_value_out_of_range_is_named(value: float | str) -> None:
    with pytest.raises(EmoVerseError, match=str(value)):
        msa.score([value], ["positive"])


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(EmoVerseError, match="1 gold labels but 0 predictions"):
        msa.score([1.0], [])


SCORES = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=2, max_size=30)


@given(SCORES)
def test_graded_figures_agree_with_the_published_evaluation(
    items: list[tuple[float, float]],
) -> None:
    gold, values = (np.array(column) for column in zip(*items, strict=True))
    scores = msa.score(gold.tolist(), ["positive"] * len(gold), values.tolist())
    for name, bound in (("acc7", 3.0), ("acc5", 2.0)):
        a, b = (np.round(np.clip(column, -bound, bound)) for column in (gold, values))
        assert scores[name] == pytest.approx(100 * np.mean(a == b))
    assert scores["mae"] == pytest.approx(np.abs(gold - values).mean())
    if gold.std() > 1e-3 and values.std() > 1e-3:
        assert scores["corr"] == pytest.approx(np.corrcoef(gold, values)[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("value", "rounded", "whole"),
    [
        (-3, -3, -3), (-2.5, -2, -3), (-2, -2, -2), (-1.5, -2, -2), (-1, -1, -1), (-0.4, 0, -1),
        (0, 0, 0), (0.5, 0, 1), (1, 1, 1), (1.2, 1, 2), (2, 2, 2), (2.1, 2, 3), (3, 3, 3),
    ],
)  # fmt: skip
def test_the_two_binnings_of_acc7(value: float, rounded: int, whole: int) -> None:
    assert (msa.rounded_class(value), msa.interval_class(value)) == (rounded, whole)


def test_a_missing_score_is_wrong_and_has_no_error() -> None:
    scores = msa.score([1.0, 2.0], ["positive", "positive"], [1.0, None])
    assert (scores["acc7"], scores["mae"], scores["n_score"], scores["corr"]) == (50, 0, 1, None)
    assert msa.score(["positive"], ["positive"], [1.0])["mae"] is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.8", 1.8),
        (" -0.4. ", -0.4),
        ("Score: 2", 2),
        ("3.2", None),
        ("Positive.", None),
        ("", None),
    ],
)
def test_an_answer_that_is_a_score_is_read(text: str, value: float | None) -> None:
    assert msa.parse_score(text) == value
