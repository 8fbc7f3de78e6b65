from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.tasks import emotion_wheel as wheel
from emoverse.tasks import labels


@pytest.mark.parametrize(
    ("word", "petals"),
    [
        ("ecstasy", ("joy",)),
        ("Terror.", ("fear",)),
        ("annoyance", ("anger",)),
        ("love", ("joy", "trust")),
        ("contempt", ("disgust", "anger")),
        ("hopeful", ("anticipation", "joy")),
        ("furious", ("anger",)),
        ("table", ()),
    ],
)
def test_words_have_their_place(word, petals):
    assert wheel.petals(word) == petals


def test_the_rings_and_dyads_are_plutchiks():
    assert len(wheel.PETALS) == 8 and len(wheel.DYADS) == 8
    for petal, ring in wheel.RINGS.items():
        assert ring[1] == petal
        assert all(wheel.petals(word) == (petal,) for word in ring)
    for pair in wheel.DYADS.values():  # primary dyads lie between neighbours
        first, second = (wheel.PETALS.index(petal) for petal in pair)
        assert (first - second) % 8 in (1, 7)


def test_every_known_label_word_keeps_its_label():
    for word, label in labels.EMOTION_WORDS.items():
        if label != "neutral":
            assert wheel.label(word) == label, word


def test_negations_and_words_without_a_label():
    assert wheel.label("She is not elated but heartbroken.") == "sadness"
    assert wheel.label("He trusts nobody, full of trust.") is None
    assert wheel.label("Nothing here.") is None
    assert wheel.petals_in("curious and jealous") == {"anticipation", "anger"}


def test_synonyms_are_one_group_and_strange_words_their_own():
    scores = wheel.score([{"elated", "curious"}, {"zesty"}, set()], [{"happy"}, {"zesty"}, {"sad"}])
    assert (scores["n"], scores["precision"], scores["recall"]) == (2, 100, 75)
    assert scores["average"] == 87.5
    assert scores["off_the_wheel"] == 1


@given(st.text())
def test_any_text_is_read(text):
    assert wheel.label(text) in (*labels.EMOTIONS, None)
