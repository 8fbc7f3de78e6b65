from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emoverse.inference.conversation import STRIDE, WINDOW, find_causes, windows
from emoverse.tasks import ecpe

from .film_made import Model


@given(st.integers(1, 400))
def test_every_turn_is_asked_once_with_enough_before_it(count: int) -> None:
    asked = []
    for window in windows(count):
        assert window.stop - window.first <= WINDOW
        assert window.first <= window.asked < window.stop
        for place in range(window.asked, window.stop):
            asked.append(place)
            assert place - window.first >= min(place, WINDOW - STRIDE)
    assert asked == list(range(count))


def _turns(count: int, first: int = 1) -> list[ecpe.Turn]:
    return [ecpe.Turn(first + 2 * n, "Ann", f"Line {n}.", "joy") for n in range(count)]


def test_a_short_conversation_is_one_window() -> None:
    assert len(windows(WINDOW)) == 1
    assert len(windows(WINDOW + 1)) == 2


def test_causes_come_back_in_the_turns_own_numbers() -> None:
    turns = _turns(5, first=101)
    found = find_causes(Model(), turns, asked=3)
    # The stand-in names the utterance before.
    assert found.pairs == ((107, "joy", 105), (109, "joy", 107))
    assert found.probabilities[107] == {105: 0.9, 107: 0.2}


def test_a_window_is_asked_as_in_training() -> None:
    model = Model()
    turns = [ecpe.Turn(7, "Ann", "Hi.", "joy"), ecpe.Turn(9, "Bob", "No.", "neutral")]
    found = find_causes(model, turns, asked=0)
    (query,) = model.queries("ecpe")  # neutral utterances have no cause
    conversation, target = ecpe.parse_query(query)
    assert [turn.index for turn in conversation] == [1, 2] and target == 1
    assert [pair[0] for pair in found.pairs] == [7]


def test_nothing_is_asked_where_all_is_neutral() -> None:
    model = Model()
    assert find_causes(model, [ecpe.Turn(1, "Ann", "Hi.", "neutral")], asked=0).pairs == ()
    assert not model.asked
