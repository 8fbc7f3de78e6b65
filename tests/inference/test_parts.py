from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.inference.parts import parts_of
from emoverse.inference.transcripts import Cue

_CUES = st.lists(
    st.tuples(st.floats(0, 300), st.floats(0.05, 20), st.sampled_from([None, "Ann", "Bob"])),
    max_size=25,
).map(lambda rows: [Cue(start, start + length, "Hi.", who) for start, length, who in rows])
_CUTS = st.lists(st.floats(0, 300), max_size=15, unique=True).map(sorted)


@given(_CUES, _CUTS, st.floats(20, 300), st.booleans())
def test_parts_lie_in_the_film_in_order_and_every_utterance_is_one(
    cues: list[Cue], cuts: list[float], duration: float, silences: bool
) -> None:
    inside = [cue for cue in cues if cue.start < duration]
    if cues and not inside:
        with pytest.raises(EmoVerseError, match="this video"):
            parts_of(cues, cuts, duration)
        return
    parts, warnings = parts_of(cues, cuts, duration, silences=silences)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert all(0 <= part.start < part.end <= duration for part in parts)
    assert all(one.start <= two.start for one, two in pairwise(parts))
    assert len([part for part in parts if part.text]) == len(inside)
    assert bool(warnings) == (len(inside) < len(cues))
    assert all(part.end - part.start >= 0.99 for part in parts if part.text)
    assert all((part.conversation > 0) == bool(part.text) for part in parts)


@given(_CUES, _CUTS, st.floats(20, 300))
def test_silent_parts_are_short_and_nobody_speaks_in_them(
    cues: list[Cue], cuts: list[float], duration: float
) -> None:
    cues = [cue for cue in cues if cue.start < duration]
    parts, _ = parts_of(cues, cuts, duration, silences=True)
    spoken = [part for part in parts if part.text]
    silent = [part for part in parts if not part.text]
    assert all(part.end - part.start <= 10.001 for part in silent)
    for part in silent:
        assert not any(
            one.start < part.end - 1e-6 and part.start + 1e-6 < one.end for one in spoken
        )
    if not cues:
        assert silent


def test_a_placed_utterance_may_begin_before_an_earlier_one() -> None:
    # The first begins with the shot, the second is widened to a second.
    cues = [Cue(10.0, 14.0, "Hello."), Cue(10.2, 10.4, "Oh.")]
    parts, _ = parts_of(cues, [10.35], 20, silences=True)
    spoken = [(part.start, part.end) for part in parts if part.text]
    assert spoken == [pytest.approx((9.8, 10.8)), (10.35, 14.0)]
    assert max(part.end for part in parts if part.start < 9.8 and not part.text) < 9.81


def test_an_edge_just_beyond_a_cut_moves_to_it() -> None:
    (part,), _ = parts_of([Cue(10.0, 13.2, "Hello.")], [10.3, 11.5, 13.0], 60)
    assert (part.start, part.end) == (10.3, 13.0)
    # A cut farther inside belongs to the utterance.
    (part,), _ = parts_of([Cue(10.0, 14.0, "Hello.")], [12.0, 13.5], 60)
    assert (part.start, part.end) == (10.0, 14.0)


def test_a_long_pause_ends_a_conversation() -> None:
    cues = [Cue(0, 2, "a"), Cue(3, 5, "b"), Cue(14.9, 16, "c"), Cue(26.1, 28, "d")]
    parts, _ = parts_of(cues, (), 60)
    assert [part.conversation for part in parts] == [1, 1, 1, 2]


def test_speech_without_words_is_a_part_of_no_conversation() -> None:
    cues = [Cue(1, 3, "Hi."), Cue(4, 6, ""), Cue(7, 9, "Well.")]
    parts, warnings = parts_of(cues, (), 20)
    assert [(p.start, p.end, p.text, p.conversation) for p in parts] == [
        (1, 3, "Hi.", 1),
        (4, 6, None, 0),
        (7, 9, "Well.", 1),
    ]
    assert not warnings


def test_silences_are_cut_at_shots() -> None:
    parts, _ = parts_of([Cue(10, 12, "Hi.")], [4.0, 7.5, 30.0], 31.5, silences=True)
    edges = [(round(part.start, 2), round(part.end, 2)) for part in parts]
    assert edges == [(0, 4), (4, 7.5), (7.5, 10), (10, 12), (12, 21), (21, 30), (30, 31.5)]


def test_another_films_transcript_is_told() -> None:
    with pytest.raises(EmoVerseError, match="give the transcript of this video"):
        parts_of([Cue(100, 102, "Hi.")], (), 60)
    parts, warnings = parts_of([Cue(1, 2, "Hi."), Cue(100, 102, "Ho.")], (), 60)
    assert len(parts) == 1 and "1 utterance of the transcript lies after" in warnings[0]
