from __future__ import annotations

import math

import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces.records import AUFrame
from emoverse.faces.speaker import activity, speaker


def frame(time: float, person: int, opening: float, confidence: float = 1.0) -> AUFrame:
    return AUFrame(round(time * 10), time, person, confidence, {"AU25": opening, "AU26": 0.0})


def talk(person: int, strength: float, start: float = 0.0, count: int = 40) -> list[AUFrame]:
    times = [start + i / 10 for i in range(count)]
    return [frame(t, person, strength * (1 + math.sin(25 * t))) for t in times]


def test_the_moving_mouth_wins_over_the_open_one() -> None:
    grin = [frame(i / 10, 0, 4.5) for i in range(40)]
    assert speaker(grin + talk(1, 0.8)) == 1


def test_being_seen_briefly_is_not_speaking() -> None:
    assert speaker(talk(0, 0.6) + talk(1, 1.0, count=3)) == 0


def test_more_frames_a_second_are_not_more_speech() -> None:
    dense = [frame(t / 1000, 0, 1 + (t % 2) * 0.1) for t in range(0, 4000, 5)]
    assert activity(dense)[0] < activity(talk(1, 0.8))[1]


def test_a_cut_is_no_movement() -> None:
    assert activity([frame(0, 0, 0), frame(3, 0, 5)]) == {0: 0.0}


def test_ties_and_unreliable_faces() -> None:
    assert speaker([frame(0, 4, 1), frame(0, 2, 1)]) == 2
    with pytest.raises(EmoVerseError, match="speaker is unknown"):
        speaker([frame(0, 0, 1, confidence=0.1)])
