"""Upright RGB frames with their true times, streamed from a video or a still image.

Decoding is FFmpeg's through PyAV. Memory stays bounded whatever the clip's length: frames are
yielded one by one and scaled inside FFmpeg before they become arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import stills, upright
from emoverse.faces.decoding import (
    Clock,
    Tally,
    decoded,
    open_clip,
    runs_on,
    scanned_duration,
    seek_to,
    stated_duration,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# From this sampling interval on (seconds), frames are sought instead of decoding all of them.
SEEK_FROM = 2.0
# Slack when comparing times: Matroska rounds timestamps to whole milliseconds.
_SLACK = 0.002
# Where a part's first frame comes this late or later (seconds), the picture that stood on the
# screen until then counts as well; in footage of usual rates one comes far sooner.
_HELD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        index: 0-based position in the clip; estimated from the time when frames were sought.
        timestamp: seconds from the start of the picture.
        image: uint8 (height, width, 3) RGB, upright, with square pixels.
    """

    index: int
    timestamp: float
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class LazyFrame:
    """A decoded frame that becomes a picture only when one is asked for.

    Attributes:
        index, timestamp: as in `Frame`.
        due: whether it lies on the sampling grid; the others are passed over or looked at when
            something happens between two that are.
        size: bytes that are held as long as it is.
        image: makes the picture, uint8 (height, width, 3) RGB as in `Frame`.
    """

    index: int
    timestamp: float
    due: bool
    size: int
    image: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a clip is, as shown on a screen.

    Attributes:
        path: the file.
        width, height: pixels of the upright picture.
        fps: mean frames a second; 0 for a still image.
        duration: seconds; 0 for a still image.
        frames: number of frames, estimated from the duration when the file does not say.
        rotation: degrees clockwise by which the stored picture is turned for display.
        has_audio: whether there is sound.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration: float
    frames: int
    rotation: int
    has_audio: bool


def probe(path: Path | str) -> VideoInfo:
    """Look at a clip: its first frame is decoded, the rest is read from the headers.

    A clip that goes on well after the end that its headers state is measured.

    Raises:
        EmoVerseError: the file is missing, a folder, empty, not a video, without a picture, or
            none of its frames can be decoded.
    """
    path = _existing(path)
    if (size := stills.size_of(path)) is not None:
        return VideoInfo(path, size[0], size[1], 0.0, 0.0, 1, 0, False)
    container, stream = open_clip(path)
    with container:
        rate = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
        duration = stated_duration(container, stream)
        count = stream.frames
        has_audio = bool(container.streams.audio)
        first = next(decoded(container, stream, Tally()), None)
        if first is None:
            raise _undecodable(path)
        width, height = upright.size(first, stream.sample_aspect_ratio)
        rotation = upright.degrees(upright.turn(first))
        if duration > 0 and runs_on(container, stream, duration):
            duration = rate = 0.0  # the headers are wrong
    if duration <= 0:
        duration, seen = scanned_duration(path)
        count = count or seen
    if not count:
        count = max(1, round(duration * rate))
    if duration <= 0 and rate > 0:
        duration = count / rate
    if rate <= 0 and duration > 0:
        rate = count / duration
    return VideoInfo(path, width, height, rate, duration, count, rotation, has_audio)


def frames(
    path: Path | str,
    *,
    max_fps: float | None = None,
    max_side: int | None = None,
    warnings: list[str] | None = None,
    start: float = 0.0,
    end: float | None = None,
    max_pixels: int | None = None,
) -> Iterator[Frame]:
    """Stream a clip's sampled frames in order: the pictures of the `lazy_frames` that are due.

    Args and errors are those of `lazy_frames`.

    Returns:
        An iterator of frames; it decodes as it goes and may be abandoned at any time.
    """
    found = lazy_frames(
        path,
        max_fps=max_fps,
        max_side=max_side,
        warnings=warnings,
        start=start,
        end=end,
        max_pixels=max_pixels,
    )
    return (Frame(one.index, one.timestamp, one.image()) for one in found if one.due)


def lazy_frames(
    path: Path | str,
    *,
    max_fps: float | None = None,
    max_side: int | None = None,
    warnings: list[str] | None = None,
    start: float = 0.0,
    end: float | None = None,
    threads: int = 0,
    max_pixels: int | None = None,
) -> Iterator[LazyFrame]:
    """Stream a clip's frames in order, each turned into a picture only on demand.

    Args:
        path: a video, or a still image, which is a video of one frame.
        max_fps: at most this many frames a second are due, chosen by their timestamps; below
            1 / `SEEK_FROM` the frames are sought, so that hours of video stay cheap, and none
            comes in between.
        max_side: pictures are shrunk until their longer side is at most this many pixels.
        warnings: sentences about damage that was skipped are appended here.
        start: seconds; what lies before is left out, and indices and times count from here. A
            picture from before that is still on the screen for `_HELD` seconds counts as the
            part's first.
        end: seconds in the same clock; None reads to the clip's end.
        threads: decoding threads; 0 takes as many as FFmpeg likes.
        max_pixels: width times height of a frame that is still taken; a stream may change its
            size midway.

    Returns:
        An iterator of frames; it decodes as it goes and may be abandoned at any time.

    Raises:
        EmoVerseError: at once as in `probe` or for an argument out of range; while iterating
            when no frame at all can be decoded, or one has more than `max_pixels`.
    """
    path = _existing(path)
    if max_fps is not None and not (max_fps > 0 and math.isfinite(max_fps)):
        raise EmoVerseError(f"max_fps must be a positive number, not {max_fps}.")
    if max_side is not None and max_side < 1:
        raise EmoVerseError(f"max_side must be at least 1 pixel, not {max_side}.")
    if not (0 <= start < (math.inf if end is None else end)):
        raise EmoVerseError(f"{path}: there is nothing between {start} and {end} seconds.")
    notes = [] if warnings is None else warnings
    if stills.size_of(path) is not None:
        return iter([LazyFrame(0, 0.0, True, 0, lambda: stills.read(path, max_side, notes))])
    container, stream = open_clip(path)
    if threads:
        stream.thread_count = threads
    step = None if max_fps is None else 1 / max_fps
    part = _Part(start, end)
    return _stream(path, container, stream, step, max_side, notes, part, max_pixels or math.inf)


@dataclass(frozen=True, slots=True)
class _Part:
    """From when to when a clip is read, in seconds; None is its end."""

    start: float
    end: float | None

    def of(self, duration: float) -> float:
        """How long the part of a clip of `duration` seconds is."""
        return max(0.0, min(duration, self.end or math.inf) - self.start)


_WHOLE = _Part(0.0, None)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise EmoVerseError(f"{path} is a folder; name a video or image file in it.")
    if not path.exists():
        raise EmoVerseError(f"{path}: no such file; check the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise EmoVerseError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def _stream(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    step: float | None,
    max_side: int | None,
    notes: list[str],
    part: _Part,
    max_pixels: float,
) -> Iterator[LazyFrame]:
    tally = Tally()
    duration = part.of(stated_duration(container, stream))
    last = shown = -1.0
    turned: upright.Turn | None = None
    with container:
        if step is not None and step >= SEEK_FROM and duration > step and not part.start:
            chosen = _sought(container, stream, step, duration, tally)
        else:
            chosen = _sampled(container, stream, step, tally, part)
        for index, time, image, due in chosen:
            if image.width * image.height > max_pixels:
                raise EmoVerseError(
                    f"{path}: a frame has {image.width} x {image.height} pixels, and at most "
                    f"{max_pixels} are taken here; make it smaller."
                )
            last, shown = time, time + _length(image)
            # Once a clip: PyAV ties a frame whose side data was read into a reference cycle, and
            # it stays in memory until the garbage collector happens to come by.
            turned = turned or upright.turn(image)
            picture = partial(upright.array, image, turned, stream.sample_aspect_ratio, max_side)
            held = sum(plane.buffer_size for plane in image.planes)
            yield LazyFrame(index, time, due, held, picture)
    if last < 0:
        raise _undecodable(path, part)
    if tally.damaged:
        notes.append(f"{path}: {tally.damaged} damaged frames or packets were skipped.")
    missing = 0.0 if tally.passed else duration - max(last + (step or 0.0), shown)
    if tally.broken_off or missing > max(1.0, 0.1 * duration):
        notes.append(f"{path}: the picture ends after {last:.1f} of {duration:.1f} seconds.")


def _sampled(
    container: InputContainer,
    stream: VideoStream,
    step: float | None,
    tally: Tally,
    part: _Part,
) -> Iterator[tuple[int, float, VideoFrame, bool]]:
    clock = Clock(stream)
    # Without a start time the clock takes the first frame it sees for 0, so nothing is skipped.
    jumped = (
        part.start > 0 and clock.known and seek_to(container, stream, clock.origin + part.start)
    )
    length = math.inf if part.end is None else part.end - part.start
    due, index = 0.0, 0
    held: VideoFrame | None = None
    ends, damaged = 0.0, 0
    for image in decoded(container, stream, tally):
        time = clock.time(image, jumped=jumped) - part.start
        jumped = False
        if time < -_SLACK:
            held, ends, damaged = image, time + _length(image), tally.damaged
            continue
        tally.passed = time >= length - _SLACK
        # After damage nobody knows what was on the screen.
        if held and damaged == tally.damaged and (tally.passed or time >= _HELD):
            yield 0, 0.0, held, True
            index, due = 1, step or 0.0
        held = None
        if tally.passed:
            return
        time = max(0.0, time)
        on_grid = step is None or time >= due - _SLACK
        yield index, time, image, on_grid
        index += 1
        if step is not None and on_grid:
            # On a grid, so that irregular frame times do not add up to a drift.
            due = step * (math.floor((time + _SLACK) / step) + 1)
    if held and ends > _SLACK and damaged == tally.damaged and not tally.broken_off:
        yield 0, 0.0, held, True


def _length(image: VideoFrame) -> float:
    """Seconds that the file says a frame is shown; 0 when it does not."""
    return float((image.duration or 0) * (image.time_base or 0))


def _sought(
    container: InputContainer, stream: VideoStream, step: float, duration: float, tally: Tally
) -> Iterator[tuple[int, float, VideoFrame, bool]]:
    clock = Clock(stream)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    last, due = -math.inf, 0.0
    images: Iterator[VideoFrame] = iter(())
    seek = True
    while due < duration:
        if seek:
            if not seek_to(container, stream, due + clock.origin):
                if last == -math.inf:  # nothing can be sought here: decode everything
                    yield from _sampled(container, stream, step, tally, _WHOLE)
                else:
                    tally.broken_off = True
                return
            images = decoded(container, stream, tally)
        found = None
        landed = seek
        for image in images:
            time = clock.time(image, jumped=landed)
            if landed:
                # Key frames rarer than samples: go on decoding from here until the next one.
                seek, landed = time > last, False
            elif image.key_frame:
                seek = True
            # The key frame before the wanted time will do when it is near enough.
            if time > last and time >= due - (step / 2 if image.key_frame else _SLACK):
                found = time, image
                break
        if found is None:
            return
        last = found[0]
        yield round(last * rate), last, found[1], True
        due = step * (math.floor((max(due, last) + _SLACK) / step) + 1)


def _undecodable(path: Path, part: _Part = _WHOLE) -> EmoVerseError:
    if part != _WHOLE:
        until = "the end" if part.end is None else f"{part.end:.2f} s"
        return EmoVerseError(
            f"{path}: no frame can be decoded between {part.start:.2f} s and {until}; check the "
            "times, or convert the video again."
        )
    return EmoVerseError(
        f"{path}: none of its frames can be decoded; convert it again or replace it."
    )
