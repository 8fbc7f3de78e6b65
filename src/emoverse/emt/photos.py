"""Records of face photos: an aligned crop, its action units in words, and its emotion."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

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
            except (OSError, UnidentifiedImageError) as error:
                problems.append(Problem(folder / name, None, f"unreadable picture ({error})"))
                continue
            faces = landmarker.detect(image)
            if not faces:
                problems.append(Problem(folder / name, None, "no face was found"))
                continue
            path = f"crops/{name.replace('/', '_')}.png"
            Image.fromarray(crop(image, faces[0].landmarks)).save(out / path)
            yield from photo_records(name, split, path, read(faces[0]), emotion, style)


def _sources(
    folder: Path, problems: list[Problem]
) -> Iterator[tuple[str, Path | IO[bytes], str, str | None]]:
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos, bad = face_photos.read(part)
        problems += bad
        for photo in photos:
            name = f"{photo.corpus}/{photo.label}/{photo.path.stem}"
            yield name, photo.path, photo.split, photo.emotion
    for archive in sorted(folder.glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream and member.name.lower().endswith(face_photos.IMAGE_SUFFIXES):
                    stem = Path(member.name).stem
                    held_out = tables.hashed(stem.rpartition("_")[0], face_photos.VALID_SHARE)
                    split = "valid" if held_out else "train"
                    yield f"{archive.stem}/{stem}", stream, split, None
