"""From a clip to action units over time, persons and the peak frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import peak as peaks
from emoverse.faces import video
from emoverse.faces.captions import Caption, describe
from emoverse.faces.face import Face
from emoverse.faces.landmarks import Detector, detector
from emoverse.faces.people import Likeness, Tracker, looks
from emoverse.faces.readers import Reader, reader
from emoverse.faces.records import AUFrame
from emoverse.faces.sampling import Reading, Sight, watch
from emoverse.faces.speaker import speaker

MAX_FPS = 10.0
MAX_FRAMES = 600
# Up to here the detector sees faces as it would in the full picture; 640 already moved the peak
# of every fourth 720p clip.
MAX_SIDE = 1280
# Pictures kept while the peak is not known yet; those of the weakest candidates go first, and one
# that turns out to be the peak's is read again.
_PICTURES = 16


@dataclass(frozen=True, slots=True, eq=False)
class PersonPeak:
    """A person's own peak frame (Eq 1).

    Attributes:
        frame: its action units.
        image: uint8 (height, width, 3) RGB, the whole picture.
        landmarks: float32 (478, 3) in pixels of `image`.
    """

    frame: AUFrame
    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


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
        portraits: every person's own peak, persons in order; in a crowd those of the weakest
            expressions are left out.
        likenesses: what every person looked like, persons in order.
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
    portraits: tuple[PersonPeak, ...] = ()
    likenesses: tuple[Likeness, ...] = ()
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
    eyes: Detector | None = None,
    refine: bool = True,
    start: float = 0.0,
    end: float | None = None,
    threads: int = 0,
    source: str = "mediapipe",
    person: str = "max",
    info: video.VideoInfo | None = None,
    max_pixels: int | None = None,
) -> FaceTrack:
    """Measure a clip's faces and find the peak frame.

    Args:
        clip: a video or a still image.
        max_fps: most frames a second that are looked at everywhere.
        max_frames: most frames in all; a longer clip is sampled evenly, with a warning.
        max_faces: most faces a frame.
        max_side: frames are shrunk to this longer side in pixels.
        emotion: the labelled emotion, for the caption (Eq 3).
        aus: sum these AUs only when looking for the peak (Eq 1); all by default.
        min_confidence: less certain faces cannot be the peak unless there are no others.
        model: face landmark model, see `landmarks.detector`.
        eyes: an open detector in image mode, to spare loading one for every clip; `max_faces`
            and `model` are then the detector's own.
        refine: also look at the frames in between where the peak may be (`sampling.watch`).
        start: seconds; what lies before is left out, and times count from here.
        end: seconds in the same clock; None reads to the clip's end.
        threads: decoding threads; 0 takes as many as FFmpeg likes.
        source: `mediapipe` estimates OpenFace's intensities (`emoverse.faces.au_regressor`),
            `blendshapes` gives the raw proxies (`emoverse.faces.action_units`).
        person: whose peak counts: `max`, that of the person with the highest one (Eq 2), or
            `speaker`, that of the one whose mouth moves most.
        info: what `video.probe` says of the whole clip, to spare asking for every part of it.
        max_pixels: as in `video.lazy_frames`.

    Returns:
        The track; without any face its `peak` is None and a warning says so.

    Raises:
        EmoVerseError: the clip cannot be read, see `video.probe`, or an argument is out of range.
    """
    if max_frames < 1:
        raise EmoVerseError(f"max_frames must be at least 1, not {max_frames}.")
    _check(source, person, emotion)  # told before the work, not after it
    info = _part(info or video.probe(clip), start, end)
    notes: list[str] = []
    rate = max_fps
    if info.duration * max_fps > max_frames:
        rate = max_frames / info.duration
    frames = partial(
        video.lazy_frames,
        clip,
        max_fps=rate,
        max_side=max_side,
        start=start,
        end=end,
        threads=threads,
        max_pixels=max_pixels,
    )
    own = nullcontext(eyes) if eyes else detector(max_faces=max_faces, model=model)
    with own as opened:
        return analyse_frames(
            frames(warnings=notes),
            info,
            opened,
            again=frames,
            rate=rate,
            most=2 * max_frames,
            sparse=rate < min(max_fps, info.fps),
            emotion=emotion,
            aus=aus,
            min_confidence=min_confidence,
            refine=refine,
            source=source,
            person=person,
            name=str(clip),
            notes=notes,
        )


def analyse_frames(
    stream: Iterator[video.LazyFrame],
    info: video.VideoInfo,
    eyes: Detector,
    *,
    rate: float,
    name: str,
    again: Callable[[], Iterator[video.LazyFrame]] | None = None,
    most: int | None = None,
    sparse: bool = False,
    emotion: str | None = None,
    aus: Collection[str] | None = None,
    min_confidence: float = peaks.MIN_CONFIDENCE,
    refine: bool = True,
    source: str = "mediapipe",
    person: str = "max",
    notes: list[str] | None = None,
) -> FaceTrack:
    """Measure the faces of frames from anywhere, as `analyse_faces` does those of a clip.

    Args:
        stream: frames in order of time.
        info: what they are from.
        eyes: an open detector in image mode.
        rate: how many frames a second are due.
        name: what warnings call the source.
        again: reads the same frames anew, so that few pictures need to be kept; without it every
            person's is.
        most: the stream ends after so many due frames, with a warning.
        sparse: warn that frames are far apart.
        emotion: as in `analyse_faces`, like all that follow.
        aus: which AUs are summed.
        min_confidence: from where on a face can be the peak.
        refine: also look between frames that are due.
        source: of the action units.
        person: whose peak counts.
        notes: what the stream itself warns of, now or while it is read.

    Raises:
        EmoVerseError: an argument is out of range, or the stream raises one.
    """
    _check(source, person, emotion)
    notes = [] if notes is None else notes
    interval = 1 / rate if info.duration and rate < info.fps else 0.0
    candidates = _Candidates(aus, min_confidence, again)
    tracker = Tracker(interval)
    found: list[AUFrame] = []
    grid: set[int] = set()
    measure = partial(_measure, read=reader(source), aus=aus, min_confidence=min_confidence)
    for frame, sight, due in watch(stream, eyes, measure, refine=refine):
        if due:
            grid.add(frame.index)
        seen = [reading.looks for reading in sight.readings]
        picture = cache(frame.image)  # of several persons at their best, at most once
        tracks = tracker.update(sight.faces, frame.timestamp, seen=seen)
        for face, reading, track in zip(sight.faces, sight.readings, tracks, strict=True):
            measured = AUFrame(
                frame.index, frame.timestamp, track, face.confidence, reading.intensities, face.box
            )
            found.append(measured)
            candidates.offer(measured, picture, face)
        if most and len(grid) >= most:  # the file's stated duration was far too short
            notes.append(f"{name}: only its first {frame.timestamp:.0f} seconds were analysed.")
            break
    if sparse:
        notes.append(
            f"{name} is long: {len(grid)} frames were analysed, one every {1 / rate:.1f} seconds."
        )
    fleeting = len(grid) >= 10 and 1 / rate <= 1
    # The frames in between show again what the grid showed, so they are no second sighting.
    sightings = [frame for frame in found if frame.frame in grid] if fleeting else found
    persons = _persons(tracker, sightings, fleeting=fleeting)
    if not persons:
        once = f"; {len(found)} face-like patterns were seen only once" if found else ""
        notes.append(f"No face was found in {name}{once}.")
        return FaceTrack(info, interval=interval, warnings=tuple(notes))
    best = candidates.best(persons if person == "max" else _speaking(persons, found))
    if not peaks.trusted(best.frame, min_confidence):
        notes.append(
            f"The faces in {name} are turned away or cut off; the peak frame is uncertain."
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
        portraits=candidates.portraits(persons),
        likenesses=tuple(
            tracker.likeness([track for track, one in persons.items() if one == number])
            for number in sorted(set(persons.values()))
        ),
        interval=interval,
        warnings=tuple(notes),
    )


def _check(source: str, person: str, emotion: str | None) -> None:
    if person not in ("max", "speaker"):
        raise EmoVerseError(f"person must be max or speaker, not {person!r}.")
    reader(source)
    describe({}, emotion)


def _persons(tracker: Tracker, found: list[AUFrame], *, fleeting: bool) -> dict[int, int]:
    """Track number to person; with `fleeting`, without the persons that were seen only once."""
    joined = tracker.persons()
    sightings = Counter(joined[frame.person] for frame in found)
    kept = [person for person in sorted(sightings) if sightings[person] > 1 or not fleeting]
    return {track: kept.index(person) for track, person in enumerate(joined) if person in kept}


def _speaking(persons: Mapping[int, int], found: list[AUFrame]) -> dict[int, int]:
    """The tracks of the speaker."""
    seen = [
        replace(frame, person=persons[frame.person]) for frame in found if frame.person in persons
    ]
    one = speaker(seen, min_confidence=0.0)
    return {track: person for track, person in persons.items() if person == one}


def _part(info: video.VideoInfo, start: float, end: float | None) -> video.VideoInfo:
    if not start and end is None:
        return info
    length = max(0.0, min(info.duration, info.duration if end is None else end) - start)
    return replace(info, duration=length, frames=max(1, round(length * info.fps)))


def _measure(
    image: NDArray[np.uint8],
    faces: list[Face],
    read: Reader,
    aus: Collection[str] | None,
    min_confidence: float,
) -> Sight:
    """The faces of a picture, read, and Eq 1 of the strongest certain one."""
    readings = [Reading(read(face), looks(image, face)) for face in faces]
    sums = (
        sum(value for code, value in reading.intensities.items() if not aus or code in aus)
        for face, reading in zip(faces, readings, strict=True)
        if face.confidence >= min_confidence
    )
    return Sight(faces, max(sums, default=0.0), readings)


@dataclass(slots=True, eq=False)
class _Candidate:
    """A track's strongest frame; its picture is None once it was given up."""

    frame: AUFrame
    face: Face
    image: NDArray[np.uint8] | None


@dataclass(slots=True)
class _Candidates:
    """The strongest frame of every track so far; the number of their pictures is bounded."""

    aus: Collection[str] | None
    min_confidence: float
    again: Callable[[], Iterator[video.LazyFrame]] | None
    by_track: dict[int, _Candidate] = field(default_factory=dict)
    pictured: set[int] = field(default_factory=set)

    def offer(self, frame: AUFrame, picture: Callable[[], NDArray[np.uint8]], face: Face) -> None:
        known = self.by_track.get(frame.person)
        # A tie stays with the earlier frame.
        if known is None or self._key(frame) > self._key(known.frame):
            self.by_track[frame.person] = _Candidate(frame, face, picture())
            self.pictured.add(frame.person)
        if self.again and len(self.pictured) > _PICTURES:
            weakest = min(self.pictured, key=lambda track: self._key(self.by_track[track].frame))
            self.by_track[weakest].image = None
            self.pictured.remove(weakest)

    def best(self, tracks: Collection[int]) -> _Candidate:
        chosen = [candidate for track, candidate in self.by_track.items() if track in tracks]
        frames = [candidate.frame for candidate in chosen]
        if any(peaks.trusted(frame, self.min_confidence) for frame in frames):
            peak = peaks.peak(frames, aus=self.aus, min_confidence=self.min_confidence)
        else:
            peak = peaks.peak(frames, aus=self.aus, min_confidence=0.0)
        best = next(candidate for candidate in chosen if candidate.frame is peak)
        if best.image is None and self.again:
            best.image = next(f.image() for f in self.again() if f.index == peak.frame)
        return best

    def portraits(self, persons: Mapping[int, int]) -> tuple[PersonPeak, ...]:
        by_person: dict[int, PersonPeak] = {}
        for track, person in persons.items():
            one, known = self.by_track[track], by_person.get(person)
            if one.image is None or (known and self._key(one.frame) <= self._key(known.frame)):
                continue
            frame = replace(one.frame, person=person)
            by_person[person] = PersonPeak(frame, one.image, one.face.landmarks)
        return tuple(by_person[person] for person in sorted(by_person))

    def _key(self, frame: AUFrame) -> tuple[bool, float]:
        return peaks.trusted(frame, self.min_confidence), peaks.score(frame, self.aus)
