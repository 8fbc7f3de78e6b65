from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.tasks import IDENTIFIERS, TASKS, ecpe, er, eri, fer, labels, msa, task_of

TURNS = (ecpe.Turn(1, "Ann", "Hi <emotion> there.", "neutral"), ecpe.Turn(2, "Bo", "Wow!", "joy"))


@pytest.mark.parametrize(
    ("word", "label"),
    [("Happy.", "joy"), ("ANGRY", "anger"), ("worried", "fear"), ("scared", "fear"),
     ("sad", "sadness"), ("neutral", "neutral"), ("table", None), ("", None)],
)  # fmt: skip
def test_synonyms_lead_to_melds_names(word: str, label: str | None) -> None:
    assert labels.emotion(word) == label


def test_sentiment_words_and_scores() -> None:
    assert labels.sentiment("Positive.") == "positive"
    assert labels.sentiment("neutral") is None
    assert [labels.sentiment_of_score(score) for score in (-0.3, 0, 3.0, math.nan)] == [
        "negative",
        None,
        "positive",
        None,
    ]


@pytest.mark.parametrize(
    ("prose", "label"),
    [
        ("The sentiment is Positive.", "positive"),
        ("positive", "positive"),
        ("not sure", None),
        ("It isn't positive, it is negative.", "negative"),
        ("It isn’t positive but negative.", "negative"),
        ("Neither positive nor negative.", None),
        ("No doubt it is positive.", "positive"),
        ("Negative words, yet the label is positive.", "positive"),
        ("Positive or negative? Hard to say.", "positive"),
        ("positivity postulate", None),
        ("", None),
    ],
)
def test_the_label_a_prose_settles_on(prose: str, label: str | None) -> None:
    assert msa.parse(prose) == label


@given(st.text(), st.sampled_from([" is ", " not ", " label: ", "n't ", ", but "]))
def test_no_text_breaks_a_parser(text: str, glue: str) -> None:
    prose = f"{text}{glue}happy{text} positive"
    assert msa.parse(prose) in (*labels.SENTIMENTS, None)
    assert er.parse(prose) in (*labels.EMOTIONS, None)
    assert labels.emotion(text) in (*labels.EMOTIONS, None)


def test_every_task_is_known_by_its_query() -> None:
    queries = [
        (msa.query("Oh <emotion> no"), "msa"),
        (msa.query(), "msa"),
        (er.query("hello", context=[("Ann", "Hi.")], speaker="Bo"), "er"),
        (fer.query(), "fer"),
        (eri.query(), "eri"),
        (eri.query("hello", "Grinning"), "eri"),
        (ecpe.query(TURNS, 2), "ecpe"),
        *((f"<image>\n{mark} What is it?", task) for task, mark in IDENTIFIERS.items()),
        ("What is the sentiment? " + msa.QUESTION, "msa"),
    ]
    assert [task_of(query) for query, _ in queries] == [task for _, task in queries]
    assert tuple(IDENTIFIERS) == TASKS


def test_a_query_without_a_task_is_refused() -> None:
    with pytest.raises(EmoVerseError, match="shows no task"):
        task_of("How are you?")
