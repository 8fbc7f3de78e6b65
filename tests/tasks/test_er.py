from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from emoverse.errors import EmoVerseError
from emoverse.tasks import er, labels

EXAMPLES = Path(__file__).parents[2] / "../shared/data/emt_format/meld_er_examples.json"
ITEM = st.tuples(st.sampled_from(labels.EMOTIONS), st.sampled_from([*labels.EMOTIONS, None]))


def test_wording() -> None:
    assert er.query("Hi.") == (
        "The person says: 'Hi.' <emotion> Please determine which emotion label in the video "
        "represents: anger, sadness, surprise, disgust, joy, neutral or fear."
    )
    assert er.query("Hi.", wording="mosei").endswith(
        "represents: anger, sad, surprise, disgust, happy, neutral or fear."
    )
    assert "Happy." in er.choices("mosei")
    assert "Joy." in er.choices()


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the authors' example records are not here")
def test_the_authors_records_are_met_to_the_character() -> None:
    for record in json.loads(EXAMPLES.read_text(encoding="utf-8")):
        says = record["query"].removeprefix("The person says: '").partition("' <emotion>")[0]
        assert er.query(says) == record["query"]
        emotion = er.parse(record["response"])
        assert emotion and er.answer(emotion) == record["response"]


def test_context_goes_in_front() -> None:
    context = [("Ann", "Guess what!"), ("Bo", "What?")]
    query = er.query("We won!", speaker="Ann", context=context)
    assert query == (
        "The conversation so far:\nAnn: Guess what!\nBo: What?\nNow Ann speaks.\n"
        + er.query("We won!")
    )


@pytest.mark.parametrize("wording", ["meld", "mosei"])
@pytest.mark.parametrize("emotion", labels.EMOTIONS)
def test_answers_are_read_back(emotion: str, wording: str) -> None:
    assert er.parse(er.answer(emotion, wording)) == emotion


@given(st.lists(ITEM, min_size=1))
def test_scores_agree_with_scikit_learn(items: list[tuple[str, str | None]]) -> None:
    gold, pred = (list(column) for column in zip(*items, strict=True))
    scores = er.score(gold, pred)
    guesses = [guess or "unparseable" for guess in pred]
    assert scores["accuracy"] == pytest.approx(100 * accuracy_score(gold, guesses))
    for average in ("weighted", "macro"):
        wanted = f1_score(gold, guesses, labels=sorted(set(gold)), average=average, zero_division=0)
        assert scores[f"{average}_f1"] == pytest.approx(100 * wanted)
    assert sum(sum(row.values()) for row in scores["confusion"].values()) == len(items)
    assert scores["unparseable"] == pred.count(None)


def test_the_confusion_matrix_keeps_unparseable_answers() -> None:
    scores = er.score(["joy", "joy", "fear"], ["joy", None, "anger"])
    assert scores["confusion"]["joy"] == {
        **dict.fromkeys(labels.EMOTIONS, 0),
        "joy": 1,
        "unparseable": 1,
    }
    assert scores["confusion"]["fear"]["anger"] == 1
    assert scores["per_class"]["joy"] == pytest.approx(
        {"precision": 100, "recall": 50, "f1": 200 / 3, "support": 2}
    )


def test_a_label_from_elsewhere_is_named() -> None:
    with pytest.raises(EmoVerseError, match="'happy' is not an emotion label"):
        er.score(["happy"], ["joy"])


def test_no_data_scores_zero() -> None:
    assert er.score([], [])["weighted_f1"] == 0
