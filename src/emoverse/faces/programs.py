"""The face track of a clip whose action units another program measures: OpenFace, py-feat."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import openface_program, peak, pyfeat, video
from emoverse.faces.face import Face, overlap
from emoverse.faces.landmarks import Detector
from emoverse.faces.records import AUFrame
from emoverse.faces.sources import Person, measure
from emoverse.faces.track import MAX_SIDE, FaceTrack, PersonPeak
from emoverse.files import sha256_of

PROGRAMS = ("openface", "pyfeat")
_LEAST_OVERLAP = 0.3


def identity(source: str) -> dict[str, Any]:
    """What a program's results depend on beside the clip, for keys and manifests.

    Raises:
        EmoVerseError: there is no such program, or it is not installed or of another version.
    """
    if source == "openface":
        return {"program_sha256": sha256_of(openface_program.find())}
    if source != "pyfeat":
        raise EmoVerseError(f"There is no program {source!r}; use {' or '.join(PROGRAMS)}.")
    pyfeat.find()
    return {"pyfeat": version("py-feat")}


def analyse(
    clip: Path | str,
    source: str,
    eyes: Detector,
    *,
    max_side: int = MAX_SIDE,
    aus: Collection[str] | None = None,
    min_confidence: float = peak.MIN_CONFIDENCE,
    person: Person = "max",
    timeout: float = openface_program.TIMEOUT,
) -> FaceTrack:
    """Measure a whole clip with another program, with its pictures at the peaks.

    Args:
        clip: the video.
        source: one of `PROGRAMS`.
        eyes: an open detector in image mode; it finds the faces of the peak frames again, whose
            landmarks the crops need.
        max_side: pictures are shrunk to this longer side in pixels.
        aus: which AUs Eq 1 sums; all by default.
        min_confidence: less certain faces cannot be the peak.
        person: whose peak counts, as in `sources.measure`.
        timeout: seconds after which OpenFace is stopped.

    Returns:
        The track as `analyse_faces` gives it, without likenesses. Landmarks and portraits are
        left out where no face is found again in the frame; without a certain face there is no
        peak, and a warning says so.

    Raises:
        EmoVerseError: the program is not there, or fails.
    """
    found = measure(
        clip,
        source,
        aus=aus,
        person=person,
        min_confidence=min_confidence,
        eyes=eyes,
        timeout=timeout,
    )
    if found.peak is None:
        return FaceTrack(info=video.probe(clip), warnings=found.warnings)
    peaks = peak.peaks_by_person(found.frames, aus=aus, min_confidence=min_confidence)
    wanted = {found.peak.frame, *(one.frame for one in peaks.values())}
    pictures = _pictures(clip, wanted, max_side)
    scale = next((p.shape[1] / found.picture[0] for p in pictures.values() if found.picture), 1.0)
    frames = tuple(_scaled(frame, scale) for frame in found.frames)
    portraits = []
    for one in peaks.values():
        image = pictures[one.frame]
        if (face := _found_again(_scaled(one, scale), eyes.detect(image))) is not None:
            portraits.append(PersonPeak(_scaled(one, scale), image, face.landmarks))
    best = _scaled(found.peak, scale)
    own = next((p for p in portraits if p.frame == best), None)
    return FaceTrack(
        info=video.probe(clip),
        frames=frames,
        people=found.people,
        peak=best,
        peak_image=pictures[best.frame],
        peak_landmarks=own.landmarks if own else None,
        caption=found.caption,
        portraits=tuple(portraits),
        warnings=found.warnings,
    )


def _pictures(
    clip: Path | str, wanted: Collection[int], max_side: int
) -> Mapping[int, NDArray[np.uint8]]:
    """The pictures of some frames by index.

    Raises:
        EmoVerseError: the clip has fewer frames.
    """
    found = {
        frame.index: frame.image()
        for frame in video.lazy_frames(clip, max_side=max_side)
        if frame.index in wanted
    }
    if missing := sorted(set(wanted) - set(found)):
        raise EmoVerseError(f"{clip}: frame {missing[0]}, which was measured, cannot be decoded.")
    return found


def _found_again(frame: AUFrame, faces: list[Face]) -> Face | None:
    if frame.box is None:
        return faces[0] if len(faces) == 1 else None
    worth = [(overlap(frame.box, face.box), -at) for at, face in enumerate(faces)]
    best, at = max(worth, default=(0.0, 0))
    return faces[-at] if best >= _LEAST_OVERLAP else None


def _scaled(frame: AUFrame, scale: float) -> AUFrame:
    if frame.box is None or scale == 1:
        return frame
    x0, y0, x1, y1 = (edge * scale for edge in frame.box)
    return replace(frame, box=(x0, y0, x1, y1))
