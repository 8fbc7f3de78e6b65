"""Upright RGB frames with their true times, streamed from a video or a still image.

Decoding is FFmpeg's through PyAV. Memory stays bounded whatever the clip's length: frames are
yielded one by one and scaled inside FFmpeg before they become arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import stills, upright

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# From this sampling interval on (seconds), frames are sought instead of decoding all of them.
SEEK_FROM = 2.0
# Slack when comparing times: Matroska rounds timestamps to whole milliseconds.
_SLACK = 0.002
# FFmpeg "decodes" plain text into pictures of letters; nobody means that.
_NOT_VIDEO = {"tty"}


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

    Raises:
        EmoVerseError: the file is missing, a folder, empty, not a video, without a picture, or
            none of its frames can be decoded.
    """
    path = _existing(path)
    if (size := stills.size_of(path)) is not None:
        return VideoInfo(path, size[0], size[1], 0.0, 0.0, 1, 0, False)
    container, stream = _open(path)
    with container:
        rate = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
        duration = _duration(container, stream)
        count = stream.frames
        has_audio = bool(container.streams.audio)
        first = next(_decoded(container, stream, _Tally()), None)
        if first is None:
            raise _undecodable(path)
        width, height = upright.size(first, stream.sample_aspect_ratio)
        rotation = upright.degrees(upright.turn(first))
    if duration <= 0:
        duration, seen = _scanned(path)
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
) -> Iterator[Frame]:
    """Stream a clip's frames in order.

    Args:
        path: a video, or a still image, which is a video of one frame.
        max_fps: at most this many frames a second, chosen by their timestamps; below
            1 / `SEEK_FROM` the frames are sought, so that hours of video stay cheap.
        max_side: frames are shrunk until their longer side is at most this many pixels.
        warnings: sentences about damage that was skipped are appended here.

    Returns:
        An iterator of frames; it decodes as it goes and may be abandoned at any time.

    Raises:
        EmoVerseError: at once as in `probe` or for an argument out of range; while iterating
            when no frame at all can be decoded.
    """
    path = _existing(path)
    if max_fps is not None and not (max_fps > 0 and math.isfinite(max_fps)):
        raise EmoVerseError(f"max_fps must be a positive number, not {max_fps}.")
    if max_side is not None and max_side < 1:
        raise EmoVerseError(f"max_side must be at least 1 pixel, not {max_side}.")
    notes = [] if warnings is None else warnings
    if stills.size_of(path) is not None:
        return iter([Frame(0, 0.0, stills.read(path, max_side, notes))])
    container, stream = _open(path)
    step = None if max_fps is None else 1 / max_fps
    return _stream(path, container, stream, step, max_side, notes)


@dataclass(slots=True)
class _Tally:
    """Damage met while decoding one clip."""

    damaged: int = 0
    broken_off: bool = False


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise EmoVerseError(f"{path} is a folder; name a video or image file in it.")
    if not path.exists():
        raise EmoVerseError(f"{path}: no such file; check the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise EmoVerseError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    import av

    try:
        container = av.open(str(path), metadata_errors="replace")
    except PermissionError:
        raise EmoVerseError(f"{path} may not be read; check its permissions.") from None
    except av.error.FFmpegError:
        raise EmoVerseError(
            f"{path} is not a video or is damaged at its start; convert or download it again."
        ) from None
    # A song's cover picture is a video stream to FFmpeg.
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if container.format.name in _NOT_VIDEO or not (streams or container.streams.audio):
        container.close()
        raise EmoVerseError(f"{path} is not a video; name a video or image file.")
    if not streams:
        container.close()
        raise EmoVerseError(f"{path} has sound but no picture; name a file with a video track.")
    stream = max(streams, key=lambda s: (s.width or 0) * (s.height or 0))
    stream.thread_type = "AUTO"
    return container, stream


def _is_cover(stream: VideoStream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _duration(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else 0.0


def _scanned(path: Path) -> tuple[float, int]:
    # Browser recordings and raw streams state no duration; reading packets needs no decoding.
    import av

    container, stream = _open(path)
    first, last, count = math.inf, 0.0, 0
    with container:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    count += 1
                if packet.pts is not None and packet.time_base is not None:
                    time = float(packet.pts * packet.time_base)
                    end = time + float((packet.duration or 0) * packet.time_base)
                    first, last = min(first, time), max(last, end)
        except av.error.FFmpegError:
            pass  # what was read so far is the best estimate; decoding reports the damage
    return max(0.0, last - first) if count and first < math.inf else 0.0, count


def _decoded(container: InputContainer, stream: VideoStream, tally: _Tally) -> Iterator[VideoFrame]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            tally.broken_off = True
            return
        try:
            images = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            tally.damaged += 1
            continue
        for image in images:
            if image.is_corrupt:
                tally.damaged += 1
            else:
                yield image


def _stream(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    step: float | None,
    max_side: int | None,
    notes: list[str],
) -> Iterator[Frame]:
    tally = _Tally()
    duration = _duration(container, stream)
    last = -1.0
    with container:
        if step is not None and step >= SEEK_FROM and duration > step:
            chosen = _sought(container, stream, step, duration, tally)
        else:
            chosen = _sampled(container, stream, step, tally)
        for index, time, image in chosen:
            last = time
            yield Frame(index, time, upright.array(image, stream.sample_aspect_ratio, max_side))
    if last < 0:
        raise _undecodable(path)
    if tally.damaged:
        notes.append(f"{path}: {tally.damaged} damaged frames or packets were skipped.")
    missing = duration - last - (step or 0.0)
    if tally.broken_off or missing > max(1.0, 0.1 * duration):
        notes.append(f"{path}: the picture ends after {last:.1f} of {duration:.1f} seconds.")


def _sampled(
    container: InputContainer, stream: VideoStream, step: float | None, tally: _Tally
) -> Iterator[tuple[int, float, VideoFrame]]:
    clock = _Clock(stream)
    due = 0.0
    for index, image in enumerate(_decoded(container, stream, tally)):
        time = clock.time(image)
        if step is None:
            yield index, time, image
        elif time >= due - _SLACK:
            yield index, time, image
            # On a grid, so that irregular frame times do not add up to a drift.
            due = step * (math.floor((time + _SLACK) / step) + 1)


def _sought(
    container: InputContainer, stream: VideoStream, step: float, duration: float, tally: _Tally
) -> Iterator[tuple[int, float, VideoFrame]]:
    clock = _Clock(stream)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    last, due = -math.inf, 0.0
    images: Iterator[VideoFrame] = iter(())
    seek = True
    while due < duration:
        if seek:
            if not _seek(container, stream, due + clock.origin):
                if last == -math.inf:  # nothing can be sought here: decode everything
                    yield from _sampled(container, stream, step, tally)
                else:
                    tally.broken_off = True
                return
            images = _decoded(container, stream, tally)
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
        yield round(last * rate), last, found[1]
        due = step * (math.floor((max(due, last) + _SLACK) / step) + 1)


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    import av

    if stream.time_base is None:
        return False
    try:
        container.seek(round(seconds / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


class _Clock:
    """Times from presentation timestamps, starting at 0 and never running backwards."""

    def __init__(self, stream: VideoStream) -> None:
        start, base = stream.start_time, stream.time_base
        self._start = Fraction(start * base) if start is not None and base is not None else None
        self._frame = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self._last = -self._frame

    @property
    def origin(self) -> float:
        """The file's own time, in seconds, of our 0."""
        return float(self._start or 0)

    def time(self, image: VideoFrame, *, jumped: bool = False) -> float:
        stamp = image.pts if image.pts is not None else image.dts
        if stamp is None or image.time_base is None:
            time = self._last + self._frame
        else:
            exact = stamp * image.time_base
            if self._start is None:
                self._start = Fraction(exact)
            time = max(0.0, float(exact - self._start))
            if time <= self._last and not jumped:
                time = self._last + self._frame
        self._last = time
        return time


def _undecodable(path: Path) -> EmoVerseError:
    return EmoVerseError(
        f"{path}: none of its frames can be decoded; convert it again or replace it."
    )
