from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.emt.grounding import grounded


def test_people_lose_gender_age_and_origin() -> None:
    told = grounded("The old woman frowns, and she has narrowed her eyes; it angers her to wait.")
    assert told == "The person frowns, and they have narrowed their eyes; it angers them to wait."
    assert grounded("In the video, a young Asian man smiles as he sees that his wish is met.") == (
        "In the video, a person smiles as they see that their wish is met."
    )


def test_the_place_goes_and_the_display_stays() -> None:
    prose = "A man in a suit sits at a desk, displaying furrowed brows and a jaw that is clenched."
    assert grounded(prose) == "A person displays furrowed brows and a jaw that is clenched."


def test_sentences_about_voice_and_surroundings_go() -> None:
    kept = "The person frowns, which suggests that they are angry about the answer."
    for unseen in ("The room is dark.", "Their tone is harsh.", "They wear a white shirt."):
        assert grounded(f"{kept} {unseen}") == kept
    # What hangs on a sentence that is gone goes with it.
    assert grounded(f"The room is dark. This makes them sad. {kept}") == kept


def test_a_voice_told_in_passing_is_cut_out() -> None:
    told = grounded(
        "The person frowns with a harsh tone, which suggests that they feel real anger."
    )
    assert told == "The person frowns, which suggests that they feel real anger."


def test_what_was_said_stays_to_the_letter() -> None:
    said = '"He took her gun from the room!"'
    told = grounded(f"The man shouts {said} and is angry, because he feels that he was betrayed.")
    assert told is not None and said in told


@pytest.mark.parametrize(
    "prose",
    ["", "He frowns.", "I can't tell what this person feels, since there is no clip to be seen."],
)
def test_what_explains_nothing_is_left_out(prose: str) -> None:
    assert grounded(prose) is None


@given(st.text())
def test_any_text_is_read(prose: str) -> None:
    told = grounded(prose)
    assert told is None or len(told.split()) >= 10
