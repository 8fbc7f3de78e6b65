from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.corpora import folder
from emoverse.errors import EmoVerseError


def _clips(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"clip")


def test_clips_come_in_natural_order_with_their_sidecars(tmp_path: Path) -> None:
    _clips(tmp_path, "clip10.mp4", "clip2.mov", "day 1/a.mp4", "._clip2.mov", "notes.md")
    (tmp_path / "clip2.txt").write_text(" Hello\nthere \n")
    utterances, problems = folder.read(tmp_path)
    assert [(u.id, u.index, u.dialogue, u.text) for u in utterances] == [
        ("clip2", 1, tmp_path.name, "Hello there"),
        ("clip10", 2, tmp_path.name, ""),
        ("day 1/a", 1, "day 1", ""),
    ]
    assert {(u.corpus, u.split, u.clip_problem) for u in utterances} == {("folder", "test", None)}
    assert problems == []


def test_the_table_wins_and_gives_the_order(tmp_path: Path) -> None:
    _clips(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "a.txt").write_text("from the sidecar")
    (tmp_path / "transcripts.csv").write_text(
        'clip,text,speaker,emotion\nb.mp4,"Well, no.",Ben,happy\na,from the table,,\n'
    )
    utterances, problems = folder.read(tmp_path, split="dev")
    assert [(u.id, u.index, u.text, u.speaker, u.emotion) for u in utterances] == [
        ("b", 1, "Well, no.", "Ben", "joy"),
        ("a", 2, "from the table", None, None),
        ("c", 3, "", None, None),
    ]
    assert {utterance.split for utterance in utterances} == {"valid"}
    assert problems == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.mp4,text,", "clip 'x.mp4' is not in"),
        ("a.mp4,text,bliss", "emotion 'bliss' is unknown"),
        ("b.mp4,text,", "b.mp4 was already on line 2"),
    ],
)
def test_a_malformed_row_is_reported_and_the_clip_stays(
    tmp_path: Path, row: str, message: str
) -> None:
    _clips(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "transcripts.csv").write_text(f"clip,text,emotion\nb,first,\n{row}\n")
    utterances, problems = folder.read(tmp_path)
    assert [(utterance.id, utterance.text) for utterance in utterances] == [
        ("b", "first"),
        ("a", ""),
    ]
    assert [(problem.line, message in problem.message) for problem in problems] == [(3, True)]


def test_names_that_differ_in_suffix_only_stay_apart(tmp_path: Path) -> None:
    _clips(tmp_path, "a.mov", "a.mp4")
    assert [utterance.id for utterance in folder.read(tmp_path)[0]] == ["a", "a.mp4"]


def test_one_clip_takes_its_transcript_along(tmp_path: Path) -> None:
    _clips(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "transcripts.csv").write_text("clip,text\na.mp4,one\nb.mp4,two\n")
    (utterance,), problems = folder.read(tmp_path / "b.mp4")
    assert (utterance.id, utterance.text, utterance.clip) == ("b", "two", tmp_path / "b.mp4")
    assert problems == []


def test_an_empty_clip_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert folder.read(tmp_path)[0][0].clip_problem == "empty file"


def test_an_unreadable_sidecar_is_reported(tmp_path: Path) -> None:
    _clips(tmp_path, "a.mp4")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    (utterance,), problems = folder.read(tmp_path)
    assert utterance.text == ""
    assert "not UTF-8" in problems[0].message


def test_errors_name_the_mend(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no clip there"):
        folder.read(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(EmoVerseError, match="not a video file"):
        folder.read(tmp_path / "a.txt")
    _clips(tmp_path, "a.mp4")
    (tmp_path / "transcripts.csv").write_text("clip\na\n")
    with pytest.raises(EmoVerseError, match="column text missing"):
        folder.read(tmp_path)
