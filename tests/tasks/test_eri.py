from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.tasks import eri

QUESTION = "What is the emotional state of the person in the video? Please tell me the reason."


def test_wording() -> None:
    assert eri.query() == QUESTION
    assert eri.query("Oh!") == f"The person says: 'Oh!' <reason> {QUESTION}"
    assert eri.query(caption="Grinning; Eyes widened.") == (
        f"<reason> Facial expression: Grinning; Eyes widened. {QUESTION}"
    )
    assert eri.query("Oh!", "Grinning") == (
        f"The person says: 'Oh!' <reason> Facial expression: Grinning. {QUESTION}"
    )


@given(st.text())
def test_prose_is_read_back_on_one_line(prose: str) -> None:
    read = eri.parse(eri.answer(prose))
    assert read is None or read == eri.answer(prose)
    assert eri.parse(f"{prose} joy") == eri.answer(f"{prose} joy")


def test_answers_without_a_word_are_unparseable() -> None:
    assert eri.parse(" \n") is None
    assert eri.parse("...") is None


def test_a_perfect_reason_scores_full_marks() -> None:
    reason = "She is happy, because she won. Not sad at all."
    scores = eri.score([reason], [reason])
    assert (scores["rouge_l"], scores["token_f1"], scores["label_overlap"]) == (100, 100, 100)
    assert eri.emotions(reason) == ("joy",)


def test_scores_by_hand() -> None:
    # Longest common subsequence "a c" of "a b c" and "c a c"; two words in common.
    scores = eri.score(["a b c", "angry and scared"], ["c a c", None])
    assert scores["rouge_l"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert scores["token_f1"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert (scores["n_label"], scores["label_overlap"], scores["unparseable"]) == (1, 0, 1)
    assert eri.score(["angry and scared"], ["angry"])["label_overlap"] == 50


def test_clues_leave_out_stock_phrases_and_emotion_words() -> None:
    gold = "The person in the video is happy because her voice trembles."
    assert eri.score([gold], ["Her voice trembles."])["clue_overlap"] == 100
    assert eri.score([gold], ["The person in the video is happy."])["clue_overlap"] == 0
    assert eri.score([gold], ["She is elated."])["wheel_overlap"] == 100


def test_a_mean_over_no_sample_is_undefined():
    found = eri.score(["The ball flew."], ["A dog."])
    assert found["label_overlap"] is found["wheel_overlap"] is None and found["n_label"] == 0
    assert eri.score([], [])["rouge_l"] is None
