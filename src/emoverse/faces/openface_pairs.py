"""Clips with OpenFace's output beside them: which of its rows shows which face of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.faces import au_regressor, openface, video
from emoverse.faces.face import Face, overlap
from emoverse.faces.landmarks import detector
from emoverse.faces.peak import trusted
from emoverse.faces.records import AUS, AUFrame, Box
from emoverse.faces.track import MAX_SIDE

_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_LEAST_OVERLAP = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A clip's n faces that both saw.

    Attributes:
        name: of the clip.
        frames: (n,) 0-based frame indices, rising.
        inputs: (n, f) features as in `au_regressor.features`.
        proxies: (n, 17) raw proxies.
        target: (n, 17) OpenFace's intensities, 0..5.
    """

    name: str
    frames: NDArray[np.int64]
    inputs: NDArray[np.float64]
    proxies: NDArray[np.float64]
    target: NDArray[np.float64]


def read(folder: Path | str, *, model: Path | None = None) -> list[Pairs]:
    """Read every clip of a folder that has a CSV of the same name.

    Args:
        folder: clips and OpenFace CSVs, `clip1.mp4` beside `clip1.csv`.
        model: face landmark model, see `landmarks.detector`.

    Returns:
        One entry a clip, in order of name.

    Raises:
        EmoVerseError: fewer than two clips have a CSV, or one cannot be read.
    """
    clips = [
        path
        for path in sorted(Path(folder).glob("*"))
        if path.suffix.lower() in _VIDEOS and path.with_suffix(".csv").is_file()
    ]
    if len(clips) < 2:
        raise EmoVerseError(
            f"{folder}: needs at least two clips with an OpenFace CSV of the same name beside them."
        )
    with detector(model=model) as eyes:
        found = []
        for clip in clips:
            seen = [
                (frame.index, frame.image.shape[1], eyes.detect(frame.image))
                for frame in video.frames(clip, max_side=MAX_SIDE)
            ]
            found.append(_pairs(clip, seen))
    return found


def match(
    rows: Sequence[AUFrame], faces: Sequence[Face], scale: float = 1.0
) -> list[tuple[AUFrame, Face]]:
    """Join one frame's OpenFace rows to the faces found in the same frame.

    Args:
        rows: of one frame, those that OpenFace calls failed included.
        faces: of that frame.
        scale: pixels of OpenFace's picture per pixel of ours.

    Returns:
        By box overlap, the best first, where the rows have landmarks; without them only a lone
        row is joined to a lone face. Rows that OpenFace does not trust are left out.
    """
    if any(row.box is None for row in rows):
        lone = len(rows) == len(faces) == 1 and trusted(rows[0])
        return [(rows[0], faces[0])] if lone else []
    order = sorted(
        (
            (-overlap(row.box, _scaled(face.box, scale)), i, j)
            for i, row in enumerate(rows)
            for j, face in enumerate(faces)
            if row.box is not None
        ),
    )
    joined: dict[int, int] = {}
    for worth, i, j in order:
        if -worth >= _LEAST_OVERLAP and i not in joined and j not in joined.values():
            joined[i] = j
    return [(rows[i], faces[j]) for i, j in sorted(joined.items()) if trusted(rows[i])]


def _pairs(clip: Path, seen: Sequence[tuple[int, int, list[Face]]]) -> Pairs:
    problems: list[Problem] = []
    by_frame: dict[int, list[AUFrame]] = defaultdict(list)
    for row in openface.read(clip.with_suffix(".csv"), problems=problems):
        by_frame[row.frame].append(row)
    width = video.probe(clip).width
    joined = [
        (index, row, face)
        for index, small, faces in seen
        for row, face in match(by_frame[index], faces, width / small)
    ]
    if not joined:
        raise EmoVerseError(f"{clip}: none of its faces could be joined to a row of its CSV.")
    features = [au_regressor.features(face.blendshapes, face.landmarks) for _, _, face in joined]
    return Pairs(
        clip.stem,
        np.array([index for index, _, _ in joined]),
        np.array([inputs for inputs, _ in features]),
        np.array([proxies for _, proxies in features]),
        np.array([[row.intensities[code] for code in AUS] for _, row, _ in joined]),
    )


def _scaled(box: Box, scale: float) -> Box:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale
