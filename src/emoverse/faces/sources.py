"""Every source of action units behind one function and one table."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.faces import openface, openface_people, openface_program, peak, pyfeat, speaker, video
from emoverse.faces.captions import Caption, Style, describe
from emoverse.faces.landmarks import Detector
from emoverse.faces.records import AUFrame
from emoverse.faces.track import MAX_FRAMES, analyse_faces

SOURCES = ("mediapipe", "blendshapes", "openface", "pyfeat")
Person = Literal["max", "speaker"]
# `openface_people.by_tracks` remembers a slot's person for half a second.
_LEAST_FPS = 5.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A clip's action units, whatever measured them.

    Attributes:
        frames: every measured face.
        people: number of persons.
        picture: (width, height) in pixels that the boxes are measured in, None when unknown.
        peak: by Eq 1 and 2; None without a face that can be trusted, and a warning says so.
        caption: Eq 3 at the peak.
        warnings: plain sentences.
    """

    frames: tuple[AUFrame, ...]
    people: int
    picture: tuple[int, int] | None
    peak: AUFrame | None
    caption: Caption | None
    warnings: tuple[str, ...]


def measure(
    clip: Path | str,
    source: str = "mediapipe",
    *,
    emotion: str | None = None,
    style: Style = "paper",
    aus: Collection[str] | None = None,
    person: Person = "max",
    min_confidence: float = peak.MIN_CONFIDENCE,
    eyes: Detector | None = None,
    timeout: float = openface_program.TIMEOUT,
) -> Measurement:
    """Measure a clip, or read OpenFace's CSV of one (`.csv` or `.txt`, whatever the source).

    Args:
        clip: a video, a still image, or OpenFace's output.
        source: one of `SOURCES`.
        emotion: the labelled emotion, for the caption (Eq 3).
        style: of the caption.
        aus: AU codes that Eq 1 sums; all by default.
        person: `max`, the person with the highest peak (Eq 2), or `speaker`.
        min_confidence: less certain faces cannot be the peak.
        eyes: an open detector in image mode, to spare loading one.
        timeout: seconds after which OpenFace is stopped.

    Raises:
        EmoVerseError: the file or the source cannot be used.
    """
    if source not in SOURCES:
        raise EmoVerseError(f"There is no AU source {source!r}; use {', '.join(SOURCES)}.")
    describe({}, emotion, style=style)
    problems: list[Problem] = []
    picture: tuple[int, int] | None = None
    if is_table(clip):
        rows = openface_people.by_boxes(openface.read(clip, problems=problems))
    elif source == "openface":
        rows = openface_program.measure(clip, timeout=timeout, problems=problems)
        info = video.probe(clip)
        picture = info.width, info.height
        # Every frame, and of a long clip enough that a slot's person is never seen too long ago.
        most = max(MAX_FRAMES, math.ceil(_LEAST_FPS * info.duration))
        seen = analyse_faces(
            clip, max_fps=float("1e6"), max_frames=most, refine=False, eyes=eyes, info=info
        )
        image = seen.peak_image
        if image is None:
            rows = openface_people.by_boxes(rows)
        else:
            rows = openface_people.by_tracks(rows, seen.frames, info.width / image.shape[1])
    elif source == "pyfeat":
        info = video.probe(clip)
        rows, picture = pyfeat.measure(clip, fps=info.fps), (info.width, info.height)
    else:
        return _mediapipe(clip, source, emotion, style, aus, person, min_confidence, eyes)
    chosen = [row for row in rows if peak.trusted(row, min_confidence)]
    notes = [*map(str, problems)]
    if not chosen:
        notes.append(_no_peak(rows, clip, min_confidence))
    elif person == "speaker":
        one = speaker.speaker(chosen, min_confidence=min_confidence)
        chosen = [row for row in chosen if row.person == one]
    highest = peak.peak(chosen, aus=aus, min_confidence=min_confidence) if chosen else None
    return Measurement(
        tuple(rows),
        len({row.person for row in rows}),
        picture,
        highest,
        describe(highest.intensities, emotion, style=style) if highest else None,
        tuple(notes),
    )


def _no_peak(rows: Sequence[AUFrame], clip: Path | str, min_confidence: float) -> str:
    if not rows:
        return f"No face was found in {clip}."
    best = max(row.confidence for row in rows)
    return (
        f"None of {len(rows)} measured faces in {clip} can be trusted (highest confidence "
        f"{best:.2f}, needed {min_confidence:.2f}), so there is no peak."
    )


def is_table(clip: Path | str) -> bool:
    """Whether this is OpenFace's output, by its name."""
    return str(clip).lower().endswith((".csv", ".txt"))


def _mediapipe(
    clip: Path | str,
    source: str,
    emotion: str | None,
    style: Style,
    aus: Collection[str] | None,
    person: Person,
    min_confidence: float,
    eyes: Detector | None,
) -> Measurement:
    track = analyse_faces(
        clip, source=source, aus=aus, person=person, min_confidence=min_confidence, eyes=eyes
    )
    image = track.peak_image
    return Measurement(
        track.frames,
        track.people,
        None if image is None else (image.shape[1], image.shape[0]),
        track.peak,
        describe(track.peak.intensities, emotion, style=style) if track.peak else None,
        track.warnings,
    )
