"""From a clip to action units over time, persons and the peak frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import peak as peaks
from emoverse.faces import video
from emoverse.faces.action_units import intensities
from emoverse.faces.captions import Caption, describe
from emoverse.faces.landmarks import Detector, Face, detector
from emoverse.faces.people import Tracker
from emoverse.faces.records import AUFrame

MAX_FPS = 10.0
MAX_FRAMES = 600
MAX_SIDE = 640
# The tiles that find small faces are searched in every this many frames, or in all frames as
# long as they find more people than the whole picture does.
_SEARCH_EVERY = 20
# Where no face is seen, every this many frames get a second look.
_RETRY_EVERY = 4
# Pictures kept while the peak is not known yet; those of the weakest candidates go first.
_CANDIDATES = 16


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """The faces of a clip.

    Attributes:
        info: the clip.
        frames: every measured face in order of time, persons numbered from 0 in order of
            appearance; boxes in pixels of `peak_image`'s scale. In a densely sampled clip, what
            was seen only once is not taken for a face.
        people: number of persons.
        peak: the peak frame by Eq 1 and 2, None when no face was found.
        peak_image: uint8 (height, width, 3) RGB, upright, longer side at most `max_side`.
        peak_landmarks: float32 (478, 3) in pixels of `peak_image`.
        caption: Eq 3 at the peak, None when there is no peak.
        interval: seconds between analysed frames, 0 when every frame was.
        warnings: plain sentences about what went wrong or was left out.
    """

    info: video.VideoInfo
    frames: tuple[AUFrame, ...] = ()
    people: int = 0
    peak: AUFrame | None = None
    peak_image: NDArray[np.uint8] | None = None
    peak_landmarks: NDArray[np.float32] | None = None
    caption: Caption | None = None
    interval: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def curves(self) -> Mapping[int, tuple[AUFrame, ...]]:
        """Every person's frames in order of time, persons in order of appearance."""
        people = dict.fromkeys(sorted({frame.person for frame in self.frames}))
        return {p: tuple(frame for frame in self.frames if frame.person == p) for p in people}


def analyse_faces(
    clip: Path | str,
    *,
    max_fps: float = MAX_FPS,
    max_frames: int = MAX_FRAMES,
    max_faces: int = 4,
    max_side: int = MAX_SIDE,
    emotion: str | None = None,
    aus: Collection[str] | None = None,
    min_confidence: float = peaks.MIN_CONFIDENCE,
    model: Path | None = None,
) -> FaceTrack:
    """Measure a clip's faces and find the peak frame.

    AU intensities are proxies from MediaPipe's blendshapes (`emoverse.faces.action_units`).

    Args:
        clip: a video or a still image.
        max_fps: most frames a second that are looked at.
        max_frames: most frames in all; a longer clip is sampled evenly, with a warning.
        max_faces: most faces a frame.
        max_side: frames are shrunk to this longer side in pixels.
        emotion: the labelled emotion, for the caption (Eq 3).
        aus: sum these AUs only when looking for the peak (Eq 1); all by default.
        min_confidence: less certain faces cannot be the peak unless there are no others.
        model: face landmark model, see `landmarks.detector`.

    Returns:
        The track; without any face its `peak` is None and a warning says so.

    Raises:
        EmoVerseError: the clip cannot be read, see `video.probe`, or an argument is out of range.
    """
    if max_frames < 1:
        raise EmoVerseError(f"max_frames must be at least 1, not {max_frames}.")
    describe({}, emotion)  # an unknown emotion is told before the work, not after it
    info = video.probe(clip)
    notes: list[str] = []
    rate = max_fps
    if info.duration * max_fps > max_frames:
        rate = max_frames / info.duration
    interval = 1 / rate if info.duration and rate < info.fps else 0.0
    stream = video.frames(clip, max_fps=rate, max_side=max_side, warnings=notes)
    candidates = _Candidates(aus, min_confidence)
    tracker = Tracker(interval)
    found: list[AUFrame] = []
    analysed = 0
    with detector(max_faces=max_faces, model=model) as eyes:
        search = _Search(eyes)
        for frame in stream:
            analysed += 1
            faces = search.faces(frame.image)
            for face, track in zip(faces, tracker.update(faces, frame.timestamp), strict=True):
                measured = _measured(frame, face, track)
                found.append(measured)
                candidates.offer(measured, frame.image, face)
            if analysed >= 2 * max_frames:  # the file's stated duration was far too short
                notes.append(f"{clip}: only its first {frame.timestamp:.0f} seconds were analysed.")
                break
    if rate < max_fps:
        notes.append(
            f"{clip} is long: {analysed} frames were analysed, one every {1 / rate:.1f} seconds."
        )
    persons = _persons(tracker, found, fleeting=analysed >= 10 and 1 / rate <= 1)
    if not persons:
        fleeting = f"; {len(found)} face-like patterns were seen only once" if found else ""
        notes.append(f"No face was found in {clip}{fleeting}.")
        return FaceTrack(info, interval=interval, warnings=tuple(notes))
    best = candidates.best(persons)
    if not peaks.trusted(best.frame, min_confidence):
        notes.append(
            f"The faces in {clip} are turned away or cut off; the peak frame is uncertain."
        )
    return FaceTrack(
        info=info,
        frames=tuple(
            replace(frame, person=persons[frame.person])
            for frame in found
            if frame.person in persons
        ),
        people=len(set(persons.values())),
        peak=replace(best.frame, person=persons[best.frame.person]),
        peak_image=best.image,
        peak_landmarks=best.face.landmarks,
        caption=describe(best.frame.intensities, emotion),
        interval=interval,
        warnings=tuple(notes),
    )


def _persons(tracker: Tracker, found: list[AUFrame], *, fleeting: bool) -> dict[int, int]:
    """Track number to person; with `fleeting`, without the persons that were seen only once."""
    joined = tracker.persons()
    sightings = Counter(joined[frame.person] for frame in found)
    kept = [person for person in sorted(sightings) if sightings[person] > 1 or not fleeting]
    return {track: kept.index(person) for track, person in enumerate(joined) if person in kept}


class _Search:
    """Finds the faces of successive frames at little more than one detection a frame."""

    def __init__(self, eyes: Detector) -> None:
        self._eyes = eyes
        self._seen = 0
        self._crowded = False
        self._last = False

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        number = self._seen
        self._seen += 1
        if number % _SEARCH_EVERY == 0:
            whole = self._eyes.detect(image, thorough=False)
            found = self._eyes.detect(image, thorough=True)
            self._crowded = len(found) > len(whole)
        else:
            found = self._eyes.detect(image, thorough=self._crowded)
            if not found and not self._crowded and (self._last or number % _RETRY_EVERY == 0):
                found = self._eyes.detect(image)
        self._last = bool(found)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    frame: AUFrame
    image: NDArray[np.uint8]
    face: Face


@dataclass(slots=True)
class _Candidates:
    """The strongest frame of every track so far, with its picture; their number is bounded."""

    aus: Collection[str] | None
    min_confidence: float
    by_track: dict[int, _Candidate] = field(default_factory=dict)

    def offer(self, frame: AUFrame, image: NDArray[np.uint8], face: Face) -> None:
        known = self.by_track.get(frame.person)
        # A tie stays with the earlier frame.
        if known is None or self._key(frame) > self._key(known.frame):
            self.by_track[frame.person] = _Candidate(frame, image, face)
        if len(self.by_track) > _CANDIDATES:
            weakest = min(self.by_track, key=lambda track: self._key(self.by_track[track].frame))
            del self.by_track[weakest]

    def best(self, tracks: Collection[int]) -> _Candidate:
        chosen = [c for track, c in self.by_track.items() if track in tracks]
        chosen = chosen or list(self.by_track.values())
        frames = [candidate.frame for candidate in chosen]
        if any(peaks.trusted(frame, self.min_confidence) for frame in frames):
            peak = peaks.peak(frames, aus=self.aus, min_confidence=self.min_confidence)
        else:
            peak = peaks.peak(frames, aus=self.aus, min_confidence=0.0)
        return next(candidate for candidate in chosen if candidate.frame is peak)

    def _key(self, frame: AUFrame) -> tuple[bool, float]:
        return peaks.trusted(frame, self.min_confidence), peaks.score(frame, self.aus)


def _measured(frame: video.Frame, face: Face, track: int) -> AUFrame:
    return AUFrame(
        frame=frame.index,
        timestamp=frame.timestamp,
        person=track,
        confidence=face.confidence,
        intensities=intensities(face.blendshapes, face.landmarks),
        box=face.box,
    )
