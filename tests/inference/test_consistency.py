from __future__ import annotations

from emoverse.inference.consistency import unlikely_words


def test_words_of_unlikely_emotions_are_unwanted() -> None:
    words = unlikely_words({"joy": 0.85, "surprise": 0.12, "sadness": 0.03}, "Look at that.")
    assert {"sad", "disappointment", "grief"} <= set(words)
    assert not {"happy", "joy", "surprised", "angry", "trust", "calm"} & set(words)
    assert list(words) == sorted(words)


def test_a_word_between_two_emotions_is_unwanted_only_if_both_are_unlikely() -> None:
    assert "contempt" not in unlikely_words({"disgust": 0.4, "anger": 0.05}, None)
    assert "contempt" in unlikely_words({"disgust": 0.04, "anger": 0.05}, None)
    assert "hopeful" not in unlikely_words({"joy": 0.01}, None)  # anticipation is no label


def test_what_was_said_may_be_quoted() -> None:
    unlikely = {"sadness": 0.01}
    assert "sad" in unlikely_words(unlikely, "It is fine.")
    assert "sad" not in unlikely_words(unlikely, "Don't be Sad!")


def test_without_an_emotion_nothing_is_unwanted() -> None:
    assert unlikely_words({}, "Hello.") == ()
