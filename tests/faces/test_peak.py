from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.faces.peak import MIN_CONFIDENCE, peak, peaks_by_person, score
from emoverse.faces.records import AUS, AUFrame

intensity = st.integers(0, 500).map(lambda value: value / 100)
au_frames = st.builds(
    AUFrame,
    frame=st.integers(0, 30),
    timestamp=st.floats(0, 10),
    person=st.integers(0, 3),
    confidence=st.sampled_from([0.0, 0.5, MIN_CONFIDENCE, 1.0]),
    intensities=st.fixed_dictionaries({code: intensity for code in AUS[:4]}),
    success=st.booleans(),
)


def face(frame: int, person: int = 0, confidence: float = 1.0, **aus: float) -> AUFrame:
    return AUFrame(frame, frame / 10, person, confidence, aus)


@given(st.lists(au_frames, min_size=1), st.randoms(use_true_random=False))
def test_the_peak_is_the_highest_sum_in_any_order(
    frames: list[AUFrame], chance: random.Random
) -> None:
    usable = [f for f in frames if f.success and f.confidence >= MIN_CONFIDENCE]
    if not usable:
        with pytest.raises(EmoVerseError, match="reliable"):
            peak(frames)
        return
    found = peak(frames)
    assert found in usable
    assert score(found) == max(score(f) for f in usable)
    assert found.frame == min(f.frame for f in usable if score(f) == score(found))
    shuffled = frames[:]
    chance.shuffle(shuffled)
    again = peak(shuffled)
    assert (again.frame, again.person, score(again)) == (found.frame, found.person, score(found))


@given(st.lists(au_frames, min_size=1))
def test_equation_2_takes_the_best_of_the_persons_peaks(frames: list[AUFrame]) -> None:
    by_person = peaks_by_person(frames)
    if by_person:
        assert score(peak(frames)) == max(map(score, by_person.values()))
    for person, best in by_person.items():
        assert best.person == person
        assert score(best) == max(
            score(f)
            for f in frames
            if f.person == person and f.success and f.confidence >= MIN_CONFIDENCE
        )


def test_ties_go_to_the_earliest_frame_then_the_lowest_person() -> None:
    frames = [face(5, 0, AU12=2.0), face(3, 1, AU06=2.0), face(3, 0, AU12=2.0)]
    assert (peak(frames).frame, peak(frames).person) == (3, 0)


def test_the_sum_may_run_over_an_emotions_aus() -> None:
    frames = [face(0, AU45=5.0, AU12=0.5), face(1, AU12=2.0)]
    assert peak(frames).frame == 0
    assert peak(frames, aus=("AU06", "AU12")).frame == 1


def test_uncertain_frames_cannot_be_the_peak() -> None:
    frames = [face(0, confidence=0.2, AU12=5.0), face(1, AU12=1.0)]
    assert peak(frames).frame == 1
    assert peak(frames, min_confidence=0.1).frame == 0


def test_no_frame_no_peak() -> None:
    with pytest.raises(EmoVerseError, match="no face was measured"):
        peak([])
