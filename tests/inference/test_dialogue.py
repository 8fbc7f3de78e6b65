"""A conversation's emotions and causes."""

from __future__ import annotations

import pytest

from emoverse.inference.conversation import CONTEXT, WINDOW
from emoverse.inference.dialogue import dialogue_interview
from emoverse.inference.together import together
from emoverse.tasks import ecpe

from .film_made import Model


def _found(count: int, asked: int = 0, **given: str) -> tuple[Model, list[tuple[int, str, int]]]:
    turns = [{"speaker": "Ann", "text": f"Hooray {n}."} | given for n in range(1, count + 1)]
    model = Model()
    (analysis,) = together(model, [dialogue_interview(turns, lambda _: None, "m", asked=asked)])
    assert analysis.answers["ecpe"].text == ecpe.answer([ecpe.Pair(*p) for p in analysis.pairs])
    return model, list(analysis.pairs)


@pytest.mark.parametrize("count", [1, WINDOW, WINDOW + 1, 60])
def test_a_long_conversation_is_asked_about_in_windows(count: int) -> None:
    model, pairs = _found(count, emotion="joy")
    # The stand-in names the utterance before.
    assert pairs == [(n, "joy", max(1, n - 1)) for n in range(1, count + 1)]
    queries = model.queries("ecpe")
    assert len(queries) == count
    assert max(len(ecpe.parse_query(query)[0]) for query in queries) == min(count, WINDOW)


def test_an_emotion_is_asked_for_with_as_many_turns_as_in_training() -> None:
    model, pairs = _found(40)
    assert max(query.count("Ann: Hooray") for query in model.queries("er")) == CONTEXT
    assert [pair[0] for pair in pairs] == list(range(1, 41))


def test_causes_may_be_asked_for_from_a_turn_on() -> None:
    model, pairs = _found(30, asked=20, emotion="joy")
    assert [pair[0] for pair in pairs] == list(range(21, 31))
    assert len(model.queries("ecpe")) == 10
