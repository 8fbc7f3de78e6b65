"""Training data of the face ViT: aligned crops with MediaPipe's labels, and emotions if known."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from emoverse.corpora import face_photos, tables
from emoverse.errors import EmoVerseError
from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.crop import alignment, crop
from emoverse.faces.landmarks import detector
from emoverse.faces.video import frames
from emoverse.models.face_vit import EMOTION_CLASSES

STORED = 160
MARGIN = 0.2
UNKNOWN = -1
# Eyebrows, eyes, irises, nose, lips and jaw of MediaPipe's mesh: the points expressions move.
POINTS = tuple(
    int(number)
    for number in [
        "70",
        "63",
        "105",
        "66",
        "107",
        "336",
        "296",
        "334",
        "293",
        "300",
        "33",
        "160",
        "158",
        "133",
        "153",
        "144",
        "362",
        "385",
        "387",
        "263",
        "373",
        "380",
        "468",
        "473",
        "168",
        "6",
        "195",
        "4",
        "98",
        "97",
        "2",
        "326",
        "327",
        "61",
        "40",
        "37",
        "0",
        "267",
        "270",
        "291",
        "321",
        "314",
        "17",
        "84",
        "91",
        "78",
        "81",
        "13",
        "311",
        "308",
        "402",
        "14",
        "178",
        "234",
        "93",
        "132",
        "172",
        "150",
        "152",
        "379",
        "397",
        "361",
        "323",
        "454",
    ]
)


@dataclass(frozen=True, slots=True)
class FaceSet:
    """Crops with their labels, n rows each.

    Attributes:
        crops: (n, 160, 160, 3) uint8, aligned, with a border of 0.2 for augmentation.
        blendshapes: (n, 51) in 0..1, by MediaPipe on the full picture.
        points: (n, p, 2) mesh points as shares of the stored crop's side.
        emotions: (n,) index into `EMOTION_CLASSES`, -1 when unknown.
        held_out: (n,) True for subjects kept for validation.
    """

    crops: np.ndarray
    blendshapes: np.ndarray
    points: np.ndarray
    emotions: np.ndarray
    held_out: np.ndarray

    def save(self, path: Path) -> None:
        """Write as an uncompressed `.npz`."""
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> FaceSet:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__slots__})

    def part(self, rows: np.ndarray) -> FaceSet:
        """The rows where the mask or index array `rows` points."""
        return FaceSet(**{name: getattr(self, name)[rows] for name in self.__slots__})


def prepare(faces: Path, clips: Path | None = None, *, video_fps: float = 3.0) -> FaceSet:
    """Find, align and label every face below a folder.

    Args:
        faces: folder with photo sets (`labels.csv` + images, CK+ class folders) and `.tar`s of
            unlabelled photos.
        clips: folder of videos whose frames add unlabelled faces.
        video_fps: frames a second taken from each video.

    Raises:
        EmoVerseError: no face was found at all.
    """
    rows = []
    with detector(max_faces=1) as landmarker:
        for image, emotion, held_out in _pictures(faces, clips, video_fps):
            for face in landmarker.detect(image)[:1]:
                matrix = alignment(face.landmarks, STORED, MARGIN)
                points = face.landmarks[list(POINTS), :2]
                local = np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T / STORED
                shapes = np.array([face.blendshapes[name] for name in BLENDSHAPES])
                cut = crop(image, face.landmarks, STORED, MARGIN)
                rows.append((cut, shapes, local, emotion, held_out))
    if not rows:
        raise EmoVerseError(f"{faces}: no face was found; check that the folder holds photos.")
    return FaceSet(
        crops=np.stack([row[0] for row in rows]),
        blendshapes=np.stack([row[1] for row in rows]).astype(np.float32),
        points=np.stack([row[2] for row in rows]).astype(np.float32),
        emotions=np.array([row[3] for row in rows]),
        held_out=np.array([row[4] for row in rows]),
    )


def _pictures(
    faces: Path, clips: Path | None, video_fps: float
) -> Iterator[tuple[np.ndarray, int, bool]]:
    for folder in sorted(part for part in faces.iterdir() if part.is_dir()):
        for photo in face_photos.read(folder)[0]:
            emotion = EMOTION_CLASSES.index(photo.label)
            yield _rgb(photo.path), emotion, photo.split != "train"
    for archive in sorted(faces.glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith((".jpg", ".png")):
                    subject = Path(member.name).stem.rpartition("_")[0]
                    held_out = tables.hashed(subject, face_photos.VALID_SHARE)
                    yield _rgb(tar.extractfile(member)), UNKNOWN, held_out
    for clip in sorted(clips.glob("*.mp4")) if clips else ():
        for frame in frames(clip, max_fps=video_fps, max_side=960):
            yield frame.image, UNKNOWN, False


def _rgb(source: object) -> np.ndarray:
    with Image.open(source) as picture:  # type: ignore[arg-type]
        return np.asarray(picture.convert("RGB"))
