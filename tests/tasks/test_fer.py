from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from emoverse.tasks import fer
from emoverse.tasks.action_units import ACTION_UNITS

CODES = [unit.code for unit in ACTION_UNITS]
AU_SETS = st.lists(st.tuples(*[st.sets(st.sampled_from(CODES))] * 2), min_size=1)


def test_wording() -> None:
    assert fer.query() == "Detail the facial expressions used in the image."
    assert fer.answer(["Eyes narrowing", "Slightly puzzled"]) == "Eyes narrowing; Slightly puzzled"


@given(st.lists(st.sampled_from(ACTION_UNITS), unique=True), st.booleans())
def test_answers_are_read_back(units: list, by_name: bool) -> None:
    phrases = [f"slightly {unit.name}" if by_name else unit.phrase for unit in units]
    assert fer.parse(fer.answer(phrases)) == tuple(unit.code for unit in units)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert set(fer.parse(text)) <= set(CODES)


@given(AU_SETS)
def test_scores_agree_with_scikit_learn(sets: list[tuple[set[str], set[str]]]) -> None:
    gold, pred = zip(*sets, strict=True)
    scores = fer.score(gold, pred)
    table = MultiLabelBinarizer(classes=CODES).fit([CODES])
    a, b = table.transform(gold), table.transform(pred)
    assert scores["micro"]["f1"] == pytest.approx(
        100 * f1_score(a, b, average="micro", zero_division=0)
    )
    # Two empty sets agree fully, which is what zero_division=1 says.
    assert scores["f1"] == pytest.approx(100 * f1_score(a, b, average="samples", zero_division=1))


def test_scores_by_hand() -> None:
    scores = fer.score([("AU06", "AU12"), ()], [("AU12",), ()])
    assert (scores["precision"], scores["recall"]) == (100, 75)
    assert scores["per_au"]["AU06"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert fer.score([], [])["n"] == 0


def test_captions_are_compared_by_their_words_too() -> None:
    scores = fer.score(
        [("AU12",), ("AU06",)], [("AU12",), ()], [("Grinning", "grinning"), ("a", "")]
    )
    assert (scores["caption_f1"], scores["caption_rouge_l"]) == (50, 50)
    assert scores["unparseable"] == 1
    assert "caption_f1" not in fer.score([("AU12",)], [("AU12",)])
