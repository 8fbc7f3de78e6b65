from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.inference.transcripts import Cue, dump_transcript, joined, read_transcript


def test_subrip_with_a_broken_sentence_two_speakers_and_markup(tmp_path: Path) -> None:
    file = tmp_path / "film.srt"
    file.write_text(
        "1\n00:00:01,000 --> 00:00:02,500\nI never <i>thought</i>\n\n"
        "2\n00:00:02,600 --> 00:00:04,000\nyou would come.\n\n"
        "3\n00:01:00,000 --> 00:01:04,000\n- Why?\n- Because I had to.\n\n"
        "4\n00:01:05,000 --> 00:01:06,000\nANA: Oh, no!\n"
    )
    cues = read_transcript(file)
    assert cues[0] == Cue(1.0, 4.0, "I never thought you would come.")
    assert [cue.text for cue in cues[1:]] == ["Why?", "Because I had to.", "Oh, no!"]
    assert cues[1].start == 60 and cues[1].end == cues[2].start and cues[2].end == 64
    assert cues[1].end - cues[1].start < cues[2].end - cues[2].start
    assert cues[3].speaker == "ANA"


def test_webvtt_names_its_voices(tmp_path: Path) -> None:
    file = tmp_path / "talk.vtt"
    file.write_text(
        "WEBVTT\n\nNOTE made by hand\n\n"
        "00:01.000 --> 00:02.000\n<v Ana>Look at <b>this</b>!</v>\n\n"
        "00:02.000 --> 00:03.000\n<v.loud Ben>Oh: really?\n"
    )
    assert read_transcript(file) == (
        Cue(1.0, 2.0, "Look at this!", "Ana"),
        Cue(2.0, 3.0, "Oh: really?", "Ben"),
    )


def test_a_recogniser_s_json(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    rows = [
        {"start": 5, "end": 6.5, "text": " second\n line "},
        {"start": 0.5, "end": 2, "text": "first", "speaker": "A"},
        {"start": 7, "end": 8, "text": "  "},
    ]
    for content in (rows, {"segments": rows}, {"turns": rows}):
        file.write_text(json.dumps(content))
        assert read_transcript(file) == (
            Cue(0.5, 2, "first", "A"),
            Cue(5, 6.5, "second line"),
        )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "Hello.", "when it is spoken"),
        ("a.srt", "nothing here", "no utterance"),
        ("a.vtt", "", "a.vtt"),
        ("a.json", "[1]", "segment 1"),
        ("a.json", '[{"text": "x", "start": 2, "end": 1}]', "from 2.0 to 1.0"),
        ("a.json", '[{"text": "x", "start": "soon", "end": 1}]', "numbers of seconds"),
        ("a.json", '[{"text": "x", "start": 0, "end": Infinity}]', "mend the times"),
        ("a.json", '{"words": []}', "segments"),
        ("a.json", "[]", "no utterance"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path: Path, name: str, content: str, says: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(EmoVerseError, match=says) as caught:
        read_transcript(file)
    assert name in str(caught.value) and "\n" not in str(caught.value)


words = st.lists(st.sampled_from(["yes", "no.", "why?", "and"]), min_size=1, max_size=4)
cue_lists = st.lists(
    st.builds(
        lambda start, length, said, speaker: Cue(start, start + length, " ".join(said), speaker),
        st.floats(0, 100),
        st.floats(0.1, 20),
        words,
        st.sampled_from([None, "A", "B"]),
    ),
    min_size=1,
    max_size=12,
)


@given(cue_lists)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, cues: list[Cue]):
    file = tmp_path_factory.mktemp("cues") / "cues.json"
    file.write_text(dump_transcript(cues))
    assert sorted(read_transcript(file), key=repr) == sorted(cues, key=repr)


@given(cue_lists)
def test_joining_keeps_every_word_and_all_times(cues: list[Cue]) -> None:
    whole = joined(cues)
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.end))
    assert " ".join(c.text for c in whole) == " ".join(c.text for c in ordered)
    assert {c.start for c in whole} <= {c.start for c in cues}
    assert {c.end for c in whole} <= {c.end for c in cues}
    assert len(joined(whole)) == len(whole)
