"""Live from a camera: a rolling window of a few seconds, read again and again.

The camera is FFmpeg's through PyAV (Video4Linux, AVFoundation, DirectShow). It is read in a thread
of its own that keeps only the newest frames, so that what is told is about now, however long the
model takes. Nothing is recorded.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from emoverse.errors import EmoVerseError
from emoverse.faces.landmarks import Detector, detector
from emoverse.faces.spread import SIDE, jpeg
from emoverse.faces.track import MAX_FPS, MAX_SIDE, analyse_frames
from emoverse.faces.upright import array, size, turn
from emoverse.faces.video import LazyFrame, VideoInfo
from emoverse.inference.analysis import Analysis
from emoverse.inference.cast import Cast
from emoverse.inference.interview import Watched, clip_interview
from emoverse.inference.parts import Part
from emoverse.inference.rows import at_once, sightings
from emoverse.inference.together import Ask, together

TASKS = ("er", "fer")
"""What is asked of a camera unless told otherwise: what a face alone can answer."""

# What FFmpeg calls a camera on each system, and how a number becomes its name there.
_INPUTS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("dshow", "video={}"),
}
# Without it, AVFoundation asks for a rate that many cameras do not have.
_OPTIONS = {"avfoundation": {"framerate": "30"}}
# Cameras need a moment before the first frame.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """A window of the camera's picture.

    Attributes:
        start, end: seconds since the camera was opened.
        found: the answers; None when no face was seen.
        people: number of every person, persons of the window in order; the same person keeps
            their number.
        late: seconds from the window's end to the answers.
    """

    start: float
    end: float
    found: Analysis | None
    people: tuple[int | None, ...]
    late: float


def look(
    source: str,
    ask: Ask,
    model: str,
    *,
    every: float = 4.0,
    tasks: Sequence[str] = TASKS,
    pictures: int = 0,
    landmarker: Path | None = None,
) -> Iterator[Glance]:
    """Read a camera until it ends or the caller has enough.

    Args:
        source: a camera's number or name, or a video file that stands in for one and is played
            at its own pace.
        ask: answers questions, `Engine.ask`.
        model: its name.
        every: seconds a window.
        tasks: among msa, er, fer, eri.
        pictures: of a window that the model wants beside its faces, `Reader.frames`.
        landmarker: face landmark model; the package's own by default.

    Yields:
        A glance for every window that the model has time for, the newest first of all.

    Raises:
        EmoVerseError: there is no such camera, it may not be used, or it gives no picture.
    """
    if every <= 0:
        raise EmoVerseError(f"A window must last longer than 0 seconds, not {every}.")
    people = Cast()
    with detector(model=landmarker) as eyes, _open(source, every) as camera:
        for frames in camera.windows():
            yield _glance(frames, camera, eyes, people, ask, model, tasks, pictures)


def _glance(
    frames: list[tuple[float, VideoFrame]],
    camera: _Camera,
    eyes: Detector,
    people: Cast,
    ask: Ask,
    model: str,
    tasks: Sequence[str],
    pictures: int,
) -> Glance:
    start, end = frames[0][0], frames[-1][0]
    turned = turn(frames[0][1])
    width, height = size(frames[0][1], None)
    rate = len(frames) / max(end - start, 1e-3)
    info = VideoInfo(Path(camera.name), width, height, rate, end - start, len(frames), 0, False)
    stream = (
        LazyFrame(n, when - start, True, 0, partial(array, image, turned, None, MAX_SIDE))
        for n, (when, image) in enumerate(frames)
    )
    track = analyse_frames(
        stream, info, eyes, rate=min(rate, MAX_FPS), name=camera.name, refine=False
    )
    numbers = people.recognise(sightings(Part(0, start, end), track), at_once(track))
    found = None
    if track.peak is not None:
        shown = tuple(
            jpeg(array(frames[(2 * n + 1) * len(frames) // (2 * pictures)][1], turned, None, SIDE))
            for n in range(pictures)
        )
        talk = clip_interview(Watched(camera.name, track, shown), None, tasks, model)
        (answer,) = together(ask, [talk])
        found = answer if isinstance(answer, Analysis) else None
    return Glance(start, end, found, tuple(numbers), camera.now() - end)


class _Camera:
    """A camera that is read in a thread; only the frames of the newest window are kept."""

    def __init__(self, container: Any, name: str, every: float, *, paced: bool) -> None:
        self.name = name
        self._container = container
        self._every = every
        self._paced = paced
        self._frames: deque[tuple[float, VideoFrame]] = deque()
        self._changed = threading.Condition()
        self._shown = -1.0
        self._open = True
        self._closing = False
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def now(self) -> float:
        """Seconds since the camera was opened."""
        return time.monotonic() - self._began

    def windows(self) -> Iterator[list[tuple[float, VideoFrame]]]:
        """The newest window, whenever one is asked for and there are new frames enough."""
        while True:
            with self._changed:
                full = self._changed.wait_for(self._ready, timeout=self._every + _PATIENCE)
                frames = self._fresh()
                ended = not self._open
            if not full or (not frames and self._shown < 0):
                raise EmoVerseError(
                    f"The camera {self.name} gives no picture; unplug it and plug it in again, or "
                    "close the program that uses it."
                )
            if len(frames) > 1:
                self._shown = frames[-1][0]
                yield frames
            if ended:
                return

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Let go of the camera."""
        self._closing = True
        self._thread.join(timeout=5)
        self._container.close()

    def _fresh(self) -> list[tuple[float, VideoFrame]]:
        """The frames that were not given out yet."""
        return [frame for frame in self._frames if frame[0] > self._shown]

    def _ready(self) -> bool:
        new = self._fresh()
        full = bool(new) and new[-1][0] - new[0][0] >= self._every - 1.5 / MAX_FPS
        return full or not self._open

    def _read(self) -> None:
        due = 0.0
        try:
            for image in self._container.decode(video=0):
                if self._closing:
                    break
                if self._paced and image.time is not None:
                    time.sleep(max(0.0, float(image.time) - self.now()))
                when = self.now()
                if when < due:  # more frames than are looked at
                    continue
                due = max(due + 1 / MAX_FPS, when)  # a late frame does not put the next ones off
                with self._changed:
                    self._frames.append((when, image))
                    while self._frames[0][0] < when - self._every:
                        self._frames.popleft()
                    self._changed.notify_all()
        except av.error.FFmpegError:
            pass  # unplugged: the stream ends here
        finally:
            with self._changed:
                self._open = False
                self._changed.notify_all()


@contextmanager
def _open(source: str, every: float) -> Iterator[_Camera]:
    if Path(source).is_file():
        container, name, paced = _opened(source, None, source), source, True
    else:
        kind, pattern = next(
            (value for system, value in _INPUTS.items() if sys.platform.startswith(system)),
            ("v4l2", "/dev/video{}"),
        )
        name = pattern.format(source) if source.isdigit() or sys.platform == "win32" else source
        container, paced = _opened(name, kind, source), False
    if not container.streams.video:
        container.close()
        raise EmoVerseError(f"{source} gives no picture; name a camera or a video.")
    camera = _Camera(container, name, every, paced=paced)
    camera.start()
    try:
        yield camera
    finally:
        camera.close()


def _opened(name: str, kind: str | None, source: str) -> Any:
    try:
        return av.open(name, format=kind, options=_OPTIONS.get(kind or "", {}))
    except ValueError:
        raise EmoVerseError(
            f"This build of PyAV cannot read cameras (it lacks {kind}); install another one with "
            "`pip install --force-reinstall av`."
        ) from None
    except PermissionError:
        raise EmoVerseError(
            f"The camera {name} may not be used; allow it in the system's settings (on Linux, add "
            "yourself to the group `video`)."
        ) from None
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise EmoVerseError(
            f"There is no camera {source} ({name}: {reason}); plug one in, or name another with "
            "--webcam."
        ) from None
