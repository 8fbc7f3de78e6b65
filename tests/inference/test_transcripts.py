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


def _read(file: Path, content: str) -> list[tuple[str | None, str]]:
    file.write_text(content, encoding="utf-8")
    return [(cue.speaker, cue.text) for cue in read_transcript(file)]


def _srt(*texts: str) -> str:
    """Subtitles that follow one another at once."""
    return "".join(
        f"{n}\n00:00:{2 * n:02},000 --> 00:00:{2 * n + 2:02},000\n{text}\n\n"
        for n, text in enumerate(texts)
    )


def _vtt(*cues: tuple[str, str, str]) -> str:
    return "WEBVTT\n\n" + "".join(
        f"00:0{start} --> 00:0{end}\n{text}\n\n" for start, end, text in cues
    )


def test_two_people_in_one_subtitle_stay_two(tmp_path: Path) -> None:
    said = _read(tmp_path / "a.srt", _srt("Tell me", "- You did what\n- I never", "came home."))
    assert said == [(None, "Tell me"), (None, "You did what"), (None, "I never came home.")]


@pytest.mark.parametrize(
    "name", ["Élodie", "narrator", "李雷", "Ana (on the phone)", "Dr. Müller", "Speaker 1"]
)
def test_a_voice_is_named_as_it_stands(tmp_path: Path, name: str) -> None:
    assert _read(tmp_path / "a.vtt", _vtt(("1.000", "2.000", f"<v {name}>So: yes.</v>"))) == [
        (name, "So: yes.")
    ]


def test_the_marks_of_voices_are_not_taken_from_a_file(tmp_path: Path) -> None:
    said = _read(tmp_path / "a.vtt", _vtt(("1.000", "2.000", "Oh \ufdd0no <v Ana>Yes\ufdd1.")))
    assert said == [(None, "Oh no"), ("Ana", "Yes.")]


def test_voices_part_a_cue(tmp_path: Path) -> None:
    text = "- <v Tom &amp; Jo>Hello\nyou two</v>\n- <v Ben>Hi\n"
    assert _read(tmp_path / "a.vtt", _vtt(("1.000", "3.000", text))) == [
        ("Tom & Jo", "Hello you two"),
        ("Ben", "Hi"),
    ]


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("ANA: Yes.", "ANA"),
        ("MR. SMITH: Yes.", "MR. SMITH"),
        ("Ana Maria: Yes.", "Ana Maria"),
        ("Élodie O'Neil: Yes.", "Élodie O'Neil"),
        ("[the man]: Yes.", "the man"),
        ("So here's the thing: I love you.", None),
        ("The last rule is: never talk.", None),
        ("I saw it at 9: 30 and left.", None),
        ("Speaker 1: Yes.", "Speaker 1"),
        ("SPEAKER_00: Yes.", "SPEAKER_00"),
        ("Agent 47: Yes.", "Agent 47"),
        ("One Two Three Four: Yes.", None),
    ],
)
def test_what_is_taken_for_a_name(tmp_path: Path, text: str, speaker: str | None) -> None:
    said = text if speaker is None else "Yes."
    assert _read(tmp_path / "a.srt", _srt(text)) == [(speaker, said)]


def test_webvtt_s_entities_are_read(tmp_path: Path) -> None:
    text = "Tom &amp; Jerry &lt;3&nbsp;you."
    assert _read(tmp_path / "a.vtt", _vtt(("1.000", "2.000", text))) == [
        (None, "Tom & Jerry <3 you.")
    ]


def test_what_stands_between_webvtt_s_cues_is_not_said(tmp_path: Path) -> None:
    content = (
        "WEBVTT\n\nSTYLE\n::cue { color: red }\n\nNOTE\nby hand\n\n"
        "2f1c-9/10-0\n00:01.000 --> 00:02.000\nHello.\n\nNOTE he lies\nhere\n\n"
        "2f1c-9/11-0\n00:03.000 --> 00:04.000\nNOTE it.\n\n"
        "00:05.000 --> 00:06.000\n- Yes.\n- No.\n"
    )
    assert [text for _, text in _read(tmp_path / "a.vtt", content)] == [
        "Hello.",
        "NOTE it.",
        "Yes.",
        "No.",
    ]


def test_drawings_are_not_said(tmp_path: Path) -> None:
    head = (
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
    )
    line = "Dialogue: 0,0:00:0{}.00,0:00:0{}.00,Default,Ana,0,0,0,,{}"
    drawing = line.format(1, 3, r"{\p1}m 0 0 l 100 0 100 100{\p0}")
    content = "\n".join([head, drawing, line.format(2, 4, r"Hello\Nthere")])
    assert _read(tmp_path / "a.ass", f"[Script Info]\nScriptType: v4.00+\n\n{content}\n") == [
        ("Ana", "Hello there")
    ]


def test_sentences_end_in_other_scripts_too(tmp_path: Path) -> None:
    texts = ["我爱你。", "你说什么？", "走！", "ماذا تقول؟", "मैं जाता हूँ।", "「走」", "好"]
    assert [text for _, text in _read(tmp_path / "a.srt", _srt(*texts))] == texts


def test_captions_that_roll_up_are_said_once(tmp_path: Path) -> None:
    written = "hello<00:00:00.500><c> my</c><00:00:01.000><c> friend.</c>"
    content = _vtt(
        ("0.000", "2.000", f" \n{written}"),
        ("2.000", "2.010", "hello my friend.\n "),
        ("2.010", "4.000", "hello my friend.\nhow<00:00:02.500><c> are</c> you?"),
        ("4.000", "4.010", "how are you?\n "),
        ("4.010", "5.000", "how are you? I"),
        ("5.000", "6.000", "how are you? I am well."),
    )
    assert [text for _, text in _read(tmp_path / "a.vtt", content)] == [
        "hello my friend.",
        "how are you?",
        "I am well.",
    ]


def test_somebody_who_says_the_same_again_is_heard(tmp_path: Path) -> None:
    content = _vtt(
        ("1.000", "2.000", "No."), ("2.000", "3.000", "No."), ("4.000", "5.000", "No. Never.")
    )
    assert [text for _, text in _read(tmp_path / "a.vtt", content)] == ["No.", "No.", "No. Never."]


def test_a_recogniser_s_speaker_0_and_segments_without_length(tmp_path: Path) -> None:
    rows = [
        {"start": 0, "end": 1, "text": "a", "speaker": 0},
        {"start": 1, "end": 2, "text": "b", "speaker": 1},
        {"start": 2, "end": 2, "text": "c"},
        {"start": 2, "end": 3, "text": "d", "speaker": ""},
    ]
    assert _read(tmp_path / "a.json", json.dumps(rows)) == [("0", "a"), ("1", "b"), (None, "d")]


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
        ("a.json", '[{"text": "x", "start": 1, "end": 1}]', "no utterance"),
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
