from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.tasks import labels
from emoverse.tasks.action_units import (
    ACTION_UNITS,
    BY_CODE,
    EMOTION_AUS,
    EMOTION_AUS_WIDE,
    EMOTION_SOURCES,
    OPENFACE_INTENSITIES,
    OPENFACE_PRESENCES,
    codes_in,
    intensity_word,
)

MERR = Path(__file__).parents[2] / "../shared/data/merr"
needs_merr = pytest.mark.skipif(not MERR.exists(), reason="the MERR annotations are not here")


def test_every_phrase_stands_for_one_unit() -> None:
    for unit in ACTION_UNITS:
        for phrase in (unit.code, unit.name, unit.phrase, *unit.synonyms):
            assert codes_in(phrase) == (unit.code,), phrase
            assert codes_in(f"very strongly {phrase.upper()}!") == (unit.code,), phrase


def test_openface_measures_17_intensities_and_18_presences() -> None:
    numbers = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
    assert tuple(f"AU{number:02}" for number in numbers) == OPENFACE_INTENSITIES
    assert set(OPENFACE_PRESENCES) == {*OPENFACE_INTENSITIES, "AU28"}


def test_every_emotion_has_a_list_and_a_source() -> None:
    emotions = {*labels.EMOTIONS, "contempt"}
    assert set(EMOTION_AUS) == set(EMOTION_AUS_WIDE) == set(EMOTION_SOURCES) == emotions
    for emotion in emotions:
        assert set(EMOTION_AUS[emotion]) <= set(EMOTION_AUS_WIDE[emotion]) <= set(BY_CODE)


def test_codes_are_read_in_every_spelling() -> None:
    assert codes_in("au1, AU 12_r; AU99 AU045 AU26") == ("AU01", "AU12", "AU26")
    assert codes_in("Slight frown; smile,Pleasure;\nlips  part") == ("AU15", "AU06", "AU25")


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert set(codes_in(text)) <= set(BY_CODE)
    assert "AU12" in codes_in(f"{text}; Grinning; {text}")


@pytest.mark.parametrize(
    ("intensity", "word"),
    [(0, None), (0.1, None), (0.11, "barely"), (0.2, "slightly"), (0.99, "slightly"),
     (1.0, "moderately"), (2.49, "moderately"), (2.5, "strongly"), (5, "very strongly")],
)  # fmt: skip
def test_intensity_words(intensity: float, word: str | None) -> None:
    assert intensity_word(intensity) == word


@needs_merr
def test_merrs_own_phrases_are_read_as_its_units() -> None:
    entries = json.loads((MERR / "MERR_fine_grained_train.json").read_text(encoding="utf-8"))
    for entry in entries.values():
        for code, phrase in zip(entry["AU_list"], entry["visual_prior_list"], strict=True):
            assert codes_in(phrase) == (code,), phrase


@needs_merr
def test_merrs_intensity_words_are_met() -> None:
    entries = json.loads((MERR / "MELD_annotation_sample.json").read_text(encoding="utf-8"))
    for entry in entries:
        wanted = []
        for code, value in entry["raw_AU_values_at_peak"].items():
            if word := intensity_word(value):
                wanted.append(f"{word} {BY_CODE[code].name}".lower())
        assert [text.lower() for text in entry["visual_expression_description"]] == wanted
