"""FFmpeg through PyAV: opening a clip, decoding round damage, seeking, and honest times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from emoverse.errors import EmoVerseError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# FFmpeg "decodes" plain text into pictures of letters; nobody means that.
_NOT_VIDEO = {"tty"}
# Headers that state a duration too short by less than this (seconds), or by a tenth, are honest.
_FAR = 1.0


@dataclass(slots=True)
class Tally:
    """What was met while decoding one clip.

    Attributes:
        damaged: frames and packets that were skipped.
        broken_off: the file could not be read to its end.
        passed: there was a frame at or after the end that was asked for.
    """

    damaged: int = 0
    broken_off: bool = False
    passed: bool = False


def open_clip(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a clip at its largest moving picture.

    Raises:
        EmoVerseError: not a video, damaged at its start, not readable, or without a picture.
    """
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


def stated_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds the headers promise, 0 when they are silent."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else 0.0


def runs_on(container: InputContainer, stream: VideoStream, duration: float) -> bool:
    """Whether there is a picture well after the end that the headers state.

    Only the packets near that end are read; the container stands elsewhere afterwards.
    """
    import av

    clock = Clock(stream)
    if not clock.known or not seek_to(container, stream, clock.origin + duration):
        return False
    least = clock.origin + duration + max(_FAR, 0.1 * duration)
    try:
        for packet in container.demux(stream):
            if packet.pts is None or packet.time_base is None:
                continue
            if float(packet.pts * packet.time_base) > least:
                return True
    except av.error.FFmpegError:
        pass  # damage near the end, which decoding reports
    return False


def scanned_duration(path: Path) -> tuple[float, int]:
    """(seconds, frames) counted from the packets."""
    # Browser recordings and raw streams state no duration; reading packets needs no decoding.
    import av

    container, stream = open_clip(path)
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


def decoded(container: InputContainer, stream: VideoStream, tally: Tally) -> Iterator[VideoFrame]:
    """Decode on past damage, counting it."""
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


def seek_to(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    """Go to the key frame before `seconds`, the file's own time; False where that cannot be."""
    import av

    if stream.time_base is None:
        return False
    try:
        container.seek(round(seconds / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


class Clock:
    """Times from presentation timestamps, starting at 0 and never running backwards."""

    def __init__(self, stream: VideoStream) -> None:
        start, base = stream.start_time, stream.time_base
        self._start = Fraction(start * base) if start is not None and base is not None else None
        self._frame = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self._last = -self._frame

    @property
    def known(self) -> bool:
        """Whether the file itself says at which time it starts."""
        return self._start is not None

    @property
    def origin(self) -> float:
        """The file's own time, in seconds, of our 0."""
        return float(self._start or 0)

    def time(self, image: VideoFrame, *, jumped: bool = False) -> float:
        """Seconds of the next frame; after a jump it may lie before the last one."""
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
