from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.faces.captions import (
    MOST_PHRASES,
    THRESHOLDS,
    caption,
    describe,
    empty_intersections,
)
from emoverse.faces.records import AUS
from emoverse.tasks import fer
from emoverse.tasks.action_units import EMOTION_AUS

SMILE = {"AU06": 2.0, "AU12": 3.5, "AU25": 4.0, "AU04": 0.4}


def test_equation_3_keeps_what_face_and_emotion_share() -> None:
    found = describe(SMILE, "joy")
    assert found.codes == ("AU12", "AU06")
    assert found.phrases == ("Grinning", "Eyes narrowing")
    assert not found.fallback


@pytest.mark.parametrize("emotion", [None, "neutral", "fear"])
def test_without_common_aus_the_face_is_told(emotion: str | None) -> None:
    found = describe(SMILE, emotion)
    assert found.codes == ("AU25", "AU12", "AU06")
    assert found.fallback


def test_synonyms_and_contempt_are_understood() -> None:
    assert caption(SMILE, "Happy") == caption(SMILE, "joy")
    assert describe({"AU14": 2.0}, "contempt").codes == ("AU14",)


def test_merr_style_names_strength_and_au() -> None:
    face = {"AU12": 3.5, "AU06": 0.5, "AU14": 1.0}
    assert caption(face, "joy", "merr") == (
        "strongly Lip Corner Puller",
        "moderately Dimpler",
        "slightly Cheek Raiser",
    )
    assert caption(face, "joy") == ("Grinning", "Cheek dimple")


def test_empty_intersections_are_counted_apart_from_unknown_emotions() -> None:
    faces = [(SMILE, "joy"), (SMILE, "fear"), (SMILE, None), (SMILE, "neutral"), ({}, "anger")]
    told = [describe(face, emotion) for face, emotion in faces]
    assert [one.empty for one in told] == [False, True, False, False, True]
    assert empty_intersections(told) == 2


def test_the_wide_lists_allow_more() -> None:
    assert describe({"AU10": 2.0}, "disgust").fallback
    assert not describe({"AU10": 2.0}, "disgust", wide=True).fallback


def test_a_still_face_has_no_caption_and_no_fallback() -> None:
    found = describe(dict.fromkeys(AUS, 0.3), "joy")
    assert found.phrases == () and not found.fallback


def test_unknown_words_are_refused() -> None:
    with pytest.raises(EmoVerseError, match="'blue'"):
        caption(SMILE, "blue")
    with pytest.raises(EmoVerseError, match="'long'"):
        caption(SMILE, "joy", "long")  # type: ignore[arg-type]


@given(
    st.dictionaries(st.sampled_from(AUS), st.floats(0, 5)),
    st.sampled_from([None, *EMOTION_AUS]),
    st.sampled_from(["paper", "merr"]),
)
def test_captions_read_back_as_their_aus(
    intensities: dict[str, float], emotion: str | None, style: str
) -> None:
    found = describe(intensities, emotion, style=style)  # type: ignore[arg-type]
    assert len(found.codes) == len(found.phrases) <= MOST_PHRASES
    assert fer.parse(fer.answer(found.phrases)) == found.codes
    values = [intensities[code] for code in found.codes]
    assert values == sorted(values, reverse=True)
    assert all(value >= THRESHOLDS[style] for value in values)  # type: ignore[index]
