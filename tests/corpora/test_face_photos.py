from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.corpora import face_photos
from emoverse.errors import EmoVerseError


def _labelled(folder: Path, *rows: str, images: tuple[str, ...]) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in images:
        (folder / "images" / name).touch()
    (folder / "labels.csv").write_text("\n".join(("image,emotion", *rows)) + "\n")
    return folder


def test_a_labelled_folder_gives_subjects_and_emotions(tmp_path: Path) -> None:
    folder = _labelled(
        tmp_path / "set",
        "Ann_Lee_0001.jpg,happiness",
        "Ann_Lee_12.jpg,contempt",
        images=("Ann_Lee_0001.jpg", "Ann_Lee_12.jpg"),
    )
    (first, second), problems = face_photos.read(folder)
    assert problems == []
    assert (first.emotion, first.label, first.corpus) == ("joy", "joy", "set")
    assert (second.emotion, second.label) == (None, "contempt")
    assert first.subject == second.subject == "Ann_Lee"
    assert first.split == second.split
    assert face_photos.read(folder / "labels.csv")[0] == [first, second]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.jpg,bliss", "emotion 'bliss' is unknown"),
        ("c.jpg,anger", "image 'c.jpg' is not in"),
        ("a.jpg,anger", "a.jpg was already on line 2"),
    ],
)
def test_a_malformed_row_is_reported_and_skipped(tmp_path: Path, row: str, message: str) -> None:
    folder = _labelled(tmp_path / "set", "a.jpg,fear", row, images=("a.jpg", "b.jpg"))
    photos, problems = face_photos.read(folder)
    assert [photo.path.name for photo in photos] == ["a.jpg"]
    assert [(problem.line, message in problem.message) for problem in problems] == [(3, True)]


@pytest.mark.parametrize("root", ["", "CK+48"])
def test_ckplus_names_give_subject_and_sequence(tmp_path: Path, root: str) -> None:
    for name in ("anger/S010_004_00000017.png", "contempt/S138_008_00000007.png", "anger/x.txt"):
        file = tmp_path / root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (first, second), problems = face_photos.read(tmp_path)
    assert problems == []
    assert (first.subject, first.sequence, first.corpus) == ("S010", "S010_004", "ck+")
    assert (first.emotion, second.emotion, second.label) == ("anger", None, "contempt")


def test_a_folder_that_names_no_emotion_is_reported(tmp_path: Path) -> None:
    for name in ("fear/a.png", "misc/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    photos, problems = face_photos.read(tmp_path)
    assert [photo.path.name for photo in photos] == ["a.png"]
    assert "'misc' is no emotion" in problems[0].message


def test_subjects_never_cross_splits(tmp_path: Path) -> None:
    (tmp_path / "fear").mkdir()
    (tmp_path / "joy").mkdir()
    for subject in range(120):
        (tmp_path / "fear" / f"S{subject:03}_001_00000001.png").touch()
        (tmp_path / "joy" / f"S{subject:03}_002_00000009.png").touch()
    photos, _ = face_photos.read(tmp_path)
    splits = {
        name: {photo.subject for photo in photos if photo.split == name}
        for name in ("train", "valid")
    }
    assert not splits["train"] & splits["valid"]
    assert 6 <= len(splits["valid"]) <= 32


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no labelled face photo"):
        face_photos.read(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(EmoVerseError, match="column image, emotion missing"):
        face_photos.read(tmp_path)
