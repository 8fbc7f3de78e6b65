from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.inference.cause_form import CauseForm, features, log_odds, logit
from emoverse.tasks import labels
from emoverse.tasks.ecpe import Turn

TURNS = st.lists(
    st.tuples(
        st.sampled_from("ABC"), st.text("xy ", max_size=40), st.sampled_from(labels.EMOTIONS)
    ),
    min_size=1,
    max_size=12,
).map(lambda told: tuple(Turn(n, *one) for n, one in enumerate(told, 1)))


@given(TURNS, st.data())
def test_every_candidate_has_one_feature_of_each_kind(
    turns: tuple[Turn, ...], data: st.DataObject
) -> None:
    target = data.draw(st.integers(1, len(turns)))
    named = features(turns, target)
    assert list(named) == list(range(1, target + 1))
    assert len({len(names) for names in named.values()}) == 1
    assert all(len(set(names)) == len(names) for names in named.values())


def test_what_is_said_does_not_matter_but_how_much() -> None:
    turns = (Turn(1, "A", "I won it all", "joy"), Turn(2, "B", "You did not", "surprise"))
    other = (replace(turns[0], text="We lost our way"), turns[1])
    longer = (replace(turns[0], text="We lost our way in the dark of the night"), turns[1])
    assert features(turns, 2) == features(other, 2) != features(longer, 2)
    renamed = tuple(replace(turn, speaker=turn.speaker + "na") for turn in turns)
    assert features(turns, 2) == features(renamed, 2)


def test_words_and_form_are_joined_in_log_odds() -> None:
    turns = (Turn(1, "A", "x", "joy"), Turn(2, "B", "y", "joy"))
    weights = {name: 1.0 for name in features(turns, 2)[1][:2]}
    form = CauseForm(weights, words=0.5, form=0.25, bias=-0.3)
    joined = form.joined({1: 0.2, 2: 0.9}, turns, 2)
    assert logit(joined[1]) == pytest.approx(0.5 * logit(0.2) + 0.25 * 2 - 0.3)
    assert logit(joined[2]) == pytest.approx(
        0.5 * logit(0.9) + 0.25 * log_odds(weights, turns, 2)[2] - 0.3
    )
    sure = form.joined({1: 0.0, 2: 1.0}, turns, 2)
    assert 0 < sure[1] < sure[2] < 1
