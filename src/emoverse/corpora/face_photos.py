"""Face photos with an emotion label: a labelled folder, or CK+ crops in a folder a class.

CK+: Lucey et al., "The Extended Cohn-Kanade Dataset", CVPR workshops 2010, in the common 48x48
redistribution (`anger/S010_004_00000017.png`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from emoverse.corpora import tables
from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.tasks import labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VALID_SHARE = 0.15
# A word of the FACS emotion sets that has no canonical emotion of ours.
_EXTRA = {"contempt": "contempt", "contemptuous": "contempt"}
_CKPLUS = re.compile(r"(S[0-9]+)_([0-9]+)_([0-9]+)")
_NUMBERED = re.compile(r"(.+?)_[0-9]+")


@dataclass(frozen=True, slots=True)
class Photo:
    """One face photo.

    Attributes:
        path: the image file.
        emotion: canonical emotion; None for contempt, which has none.
        label: the emotion, or `contempt`.
        subject: who is shown; photos of one subject are all in one split.
        sequence: CK+ sequence the frame is of, else None.
        corpus: `ck+`, or the name of the labelled folder.
        split: `train` or `valid` (15 % of the subjects, by a hash of the subject).
    """

    path: Path
    emotion: str | None
    label: str
    subject: str
    sequence: str | None
    corpus: str
    split: str


def read(path: Path | str) -> tuple[list[Photo], list[Problem]]:
    """Read a folder of labelled face photos.

    Either `labels.csv` (columns image, emotion) beside `images/`, where the subject is the name
    before a trailing `_<number>`; or a folder per emotion, at most one level further down, with
    CK+ names (`S010_004_00000017.png`: subject, sequence, frame) or others.

    Raises:
        EmoVerseError: no folder there, no labels, a column missing, or no photo at all.
    """
    path = tables.existing(path)
    table = path if path.is_file() else path / "labels.csv"
    photos, problems = _labelled(table) if table.is_file() else _classes(path)
    if not photos:
        cause = f" ({problems[0]})" if problems else ""
        raise EmoVerseError(
            f"{path}: no labelled face photo there{cause}; give a folder with labels.csv and "
            "images/, or a folder per emotion."
        )
    return photos, problems


def _labelled(table: Path) -> tuple[list[Photo], list[Problem]]:
    photos: list[Photo] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    folder = table.parent
    images = folder / "images" if (folder / "images").is_dir() else folder
    for row in tables.rows(table, ("image", "emotion"), problems):
        name = row["image"].strip()
        file = images / name
        label = _label(row["emotion"])
        if label is None:
            problems.append(Problem(table, row.line, f"emotion {row['emotion']!r} is unknown"))
        elif not name or not file.is_file():
            problems.append(Problem(table, row.line, f"image {name!r} is not in {images}"))
        elif name in seen:
            problems.append(Problem(table, row.line, f"{name} was already on line {seen[name]}"))
        else:
            seen[name] = row.line
            photos.append(_photo(file, label, folder.resolve().name))
    return photos, problems


def _classes(folder: Path) -> tuple[list[Photo], list[Problem]]:
    photos: list[Photo] = []
    problems: list[Problem] = []
    below = _folders(folder)
    if not any(_label(part.name) for part in below):
        # CK+ comes as CK+48/<class>, so the classes may lie one level down.
        below = [part for parent in below for part in _folders(parent)]
    for part in below:
        label = _label(part.name)
        if label is None:
            problems.append(Problem(part, None, f"folder name {part.name!r} is no emotion"))
            continue
        for file in sorted(part.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."):
                photos.append(_photo(file, label, folder.resolve().name))
    return photos, problems


def _folders(folder: Path) -> list[Path]:
    return sorted(
        part for part in folder.iterdir() if part.is_dir() and not part.name.startswith(".")
    )


def _photo(file: Path, label: str, corpus: str) -> Photo:
    crop = _CKPLUS.fullmatch(file.stem)
    named = _NUMBERED.fullmatch(file.stem)
    subject = crop[1] if crop else named[1] if named else file.stem
    return Photo(
        path=file,
        emotion=labels.emotion(label) if label not in _EXTRA else None,
        label=label,
        subject=subject,
        sequence=f"{crop[1]}_{crop[2]}" if crop else None,
        corpus="ck+" if crop else corpus,
        split="valid" if tables.hashed(subject, VALID_SHARE) else "train",
    )


def _label(word: str) -> str | None:
    word = word.strip().lower()
    return _EXTRA.get(word) or labels.emotion(word)
