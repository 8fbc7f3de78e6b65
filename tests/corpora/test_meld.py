from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from emoverse.corpora import meld
from emoverse.errors import EmoVerseError

BLANK = {
    "Sr No.": 1,
    "Utterance": "Hello there",
    "Speaker": "Ann",
    "Emotion": "neutral",
    "Sentiment": "neutral",
    "Dialogue_ID": 0,
    "Utterance_ID": 0,
    "Season": 1,
    "Episode": 1,
    "StartTime": "00:16:16,059",
    "EndTime": "00:16:21,731",
}


def _row(**changes: Any) -> dict[str, Any]:
    return BLANK | changes


def _write(file: Path, *rows: dict[str, Any], encoding: str = "utf-8") -> Path:
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(BLANK))
        writer.writeheader()
        writer.writerows(rows)
    return file


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"clip")


def test_a_folder_gives_its_splits_with_unique_ids(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        _write(tmp_path / f"{name}_sent_emo.csv", _row())
    utterances, problems = meld.read(tmp_path)
    assert [utterance.id for utterance in utterances] == [
        "train_dia0_utt0",
        "valid_dia0_utt0",
        "test_dia0_utt0",
    ]
    assert problems == []
    only, _ = meld.read(tmp_path, split="dev")
    assert [utterance.split for utterance in only] == ["valid"]


def test_every_field_is_filled(tmp_path: Path) -> None:
    file = _write(tmp_path / "dev_sent_emo.csv", _row(Emotion="joy", Sentiment="positive"))
    (utterance,), _ = meld.read(file)
    assert (utterance.corpus, utterance.dialogue, utterance.speaker) == ("meld", "dia0", "Ann")
    assert (utterance.emotion, utterance.sentiment, utterance.score) == ("joy", "positive", None)
    assert (utterance.start, utterance.end) == (976.059, 981.731)
    assert utterance.causes is None


def test_the_index_is_the_rank_in_the_dialogue(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "train_sent_emo.csv",
        _row(Utterance_ID=9),
        _row(Utterance_ID=2),
        _row(Dialogue_ID=1, Utterance_ID=5),
    )
    utterances, _ = meld.read(file)
    assert [utterance.index for utterance in utterances] == [2, 1, 1]


def test_cp1252_control_characters_are_mended_and_the_rest_kept(tmp_path: Path) -> None:
    text = "\x93We\x92re at Caf\u00e9\x85\x94 \x97 \u2019"
    file = _write(tmp_path / "train_sent_emo.csv", _row(Utterance=text))
    (utterance,), _ = meld.read(file)
    assert utterance.text == "\u201cWe\u2019re at Caf\u00e9\u2026\u201d \u2014 \u2019"


def test_a_cp1252_file_is_read_as_such(tmp_path: Path) -> None:
    file = _write(tmp_path / "train_sent_emo.csv", _row(Utterance="It\u2019s"), encoding="cp1252")
    (utterance,), problems = meld.read(file)
    assert utterance.text == "It\u2019s"
    assert problems == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Emotion": "bliss"}, "Emotion 'bliss' is unknown"),
        ({"Sentiment": "so-so"}, "Sentiment 'so-so' is unknown"),
        ({"Utterance": "  "}, "Utterance is empty"),
        ({"Dialogue_ID": "x"}, "Dialogue_ID 'x' is not a whole number"),
        ({"StartTime": "soon"}, "time 'soon' is not HH:MM:SS,mmm"),
        ({"Utterance_ID": 1}, "was already on line 2"),
    ],
)
def test_a_malformed_row_is_reported_and_skipped(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = _write(
        tmp_path / "train_sent_emo.csv", _row(Utterance_ID=1), _row(**changes), _row(Utterance_ID=2)
    )
    utterances, problems = meld.read(file)
    assert [utterance.id for utterance in utterances] == ["train_dia0_utt1", "train_dia0_utt2"]
    assert [(problem.file, problem.line) for problem in problems] == [(file, 3)]
    assert message in problems[0].message


def test_a_folder_without_the_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"no train_sent_emo\.csv"):
        meld.read(tmp_path)
    with pytest.raises(EmoVerseError, match="no such file or folder"):
        meld.read(tmp_path / "nowhere")


def test_the_public_clip_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        _write(tmp_path / f"{name}_sent_emo.csv", _row())
    raw = tmp_path / "MELD.Raw"
    _touch(
        raw,
        "train/train_splits/dia0_utt0.mp4",
        "dev/dev_splits_complete/dia0_utt0.mp4",
        "test/output_repeated_splits_test/dia0_utt0.mp4",
        "test/output_repeated_splits_test/._dia0_utt0.mp4",
        "test/output_repeated_splits_test/final_videos_testdia0_utt0.mp4",
    )
    utterances, problems = meld.read(tmp_path, clips=raw)
    assert [utterance.clip.parent.name for utterance in utterances if utterance.clip] == [
        "train_splits",
        "dev_splits_complete",
        "output_repeated_splits_test",
    ]
    assert [utterance.clip.name for utterance in utterances if utterance.clip] == [
        "dia0_utt0.mp4"
    ] * 3
    assert problems == []


def test_a_flat_folder_serves_one_split_only(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        _write(tmp_path / f"{name}_sent_emo.csv", _row())
    flat = tmp_path / "flat"
    _touch(flat, "dia0_utt0.mp4")
    (utterance,), _ = meld.read(tmp_path, clips=flat, split="train")
    assert utterance.clip == flat / "dia0_utt0.mp4"
    with pytest.raises(EmoVerseError, match="read one split at a time"):
        meld.read(tmp_path, clips=flat)


def test_a_flat_folder_with_split_prefixes_serves_all(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        _write(tmp_path / f"{name}_sent_emo.csv", _row())
    flat = tmp_path / "flat"
    _touch(flat, "train_dia0_utt0.mp4", "dev_dia0_utt0.mp4")
    utterances, _ = meld.read(tmp_path, clips=flat)
    assert [utterance.clip.name for utterance in utterances if utterance.clip] == [
        "train_dia0_utt0.mp4",
        "dev_dia0_utt0.mp4",
    ]


def test_known_bad_missing_and_empty_clips_are_told_and_the_text_stays(tmp_path: Path) -> None:
    rows = [_row(Dialogue_ID=dialogue, Utterance_ID=3) for dialogue in (125, 126, 127, 128)]
    file = _write(tmp_path / "train_sent_emo.csv", *rows)
    folder = tmp_path / "train_splits"
    _touch(folder, "dia125_utt3.mp4", "dia126_utt3.mp4")
    (folder / "dia127_utt3.mp4").touch()
    utterances, problems = meld.read(file, clips=folder)
    assert [utterance.text for utterance in utterances] == ["Hello there"] * 4
    assert [utterance.clip_problem for utterance in utterances] == [
        "corrupt file (declare-lab/MELD issues 39 and 52)",
        None,
        "empty file",
        "not found in the folder of clips",
    ]
    assert problems == []


def test_bad_clips_are_known_without_a_clip_folder(tmp_path: Path) -> None:
    file = _write(tmp_path / "dev_sent_emo.csv", _row(Dialogue_ID=110, Utterance_ID=7))
    (utterance,), _ = meld.read(file)
    assert utterance.clip_problem is not None
    assert utterance.clip_problem.startswith("missing from the release")


@pytest.mark.parametrize("names", [(), ("other.mp4",), ("dia9_utt9.mp4",)])
def test_a_wrong_clip_folder_is_an_error(tmp_path: Path, names: tuple[str, ...]) -> None:
    file = _write(tmp_path / "train_sent_emo.csv", _row())
    folder = tmp_path / "clips"
    folder.mkdir()
    _touch(folder, *names)
    with pytest.raises(EmoVerseError, match="check"):
        meld.read(file, clips=folder)
