"""Records of face photos: an aligned crop, its action units in words, and its emotion."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from emoverse.corpora import face_photos, tables
from emoverse.corpora.records import Problem
from emoverse.emt.assemble import photo_records
from emoverse.emt.record import Record
from emoverse.faces.captions import Style
from emoverse.faces.crop import crop
from emoverse.faces.landmarks import detector
from emoverse.faces.readers import reader


def records(
    folder: Path, out: Path, au_source: str, problems: list[Problem], style: Style = "paper"
) -> Iterator[Record]:
    """FER and ER records of the photo sets in a folder.

    Args:
        folder: a sub-folder a set as `face_photos.read` takes it; `.tar`s hold unlabelled photos.
        out: the dataset's folder; crops go to `crops/` in it.
        au_source: of the action units, as for clips (`readers.reader`).
        problems: photos that were left out are added.
        style: of the captions.

    Raises:
        EmoVerseError: there is no such source.
    """
    read = reader(au_source)
    (out / "crops").mkdir(parents=True, exist_ok=True)
    with detector(max_faces=1) as landmarker:
        for name, source, split, emotion in _sources(folder, problems):
            try:
                with Image.open(source) as picture:
                    image = np.asarray(picture.convert("RGB"))
            except (OSError, tarfile.TarError) as error:
                problems.append(Problem(folder / name, None, f"unreadable picture ({error})"))
                continue
            faces = landmarker.detect(image)
            if not faces:
                problems.append(Problem(folder / name, None, "no face was found"))
                continue
            path = f"crops/{_file(name)}"
            Image.fromarray(crop(image, faces[0].landmarks)).save(out / path)
            yield from photo_records(name, split, path, read(faces[0]), emotion, style)


def sets(folder: Path) -> list[Path]:
    """The sets in a folder: its sub-folders, then its `.tar`s."""
    return [*sorted(at for at in folder.iterdir() if at.is_dir()), *sorted(folder.glob("*.tar"))]


def _sources(
    folder: Path, problems: list[Problem]
) -> Iterator[tuple[str, Path | IO[bytes], str, str | None]]:
    """Name, file, split and emotion of every photo; no two have the same name."""
    taken: set[str] = set()
    for part in sets(folder):
        if part.is_dir():
            photos, bad = face_photos.read(part)
            problems += bad
            for photo in photos:
                name = _unique(f"{photo.corpus}/{photo.label}/{photo.path.stem}", taken)
                yield name, photo.path, photo.split, photo.emotion
            continue
        try:
            with tarfile.open(part) as tar:
                for stem, stream in _members(tar):
                    held_out = tables.hashed(stem.rpartition("_")[0], face_photos.VALID_SHARE)
                    split = "valid" if held_out else "train"
                    yield _unique(f"{part.stem}/{stem}", taken), stream, split, None
        except (OSError, EOFError, tarfile.TarError) as error:
            problems.append(Problem(part, None, f"unreadable archive ({error})"))


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in tar:
        stream = tar.extractfile(member) if member.isfile() else None
        if stream and member.name.lower().endswith(face_photos.IMAGE_SUFFIXES):
            yield Path(member.name).stem, stream


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it when the crop of another photo is called so."""
    own, number = name, 1
    while _file(own) in taken:
        number += 1
        own = f"{name}-{number}"
    taken.add(_file(own))
    return own


def _file(name: str) -> str:
    return f"{name.replace('/', '_')}.png"
