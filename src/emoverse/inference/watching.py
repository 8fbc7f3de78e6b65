"""Clips and parts of films are looked at in processes of their own, ahead of the model.

What a part shows travels back in a file. A part that crashes its process, or takes too long, is
told as such, and the others go on (`emoverse.emt.pool`).
"""

from __future__ import annotations

import gc
import io
import json
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoverse.emt import pool
from emoverse.errors import EmoVerseError
from emoverse.faces import AUFrame, FaceTrack, analyse_faces
from emoverse.faces.crop import crop
from emoverse.faces.landmarks import Detector, detector
from emoverse.faces.people import Likeness
from emoverse.faces.spread import jpegs
from emoverse.faces.video import VideoInfo
from emoverse.inference.interview import Watched

# Seconds after which a part is given up; one of usual length takes a few.
TIMEOUT = 600.0
_PORTRAIT_SIDE = 72
_QUALITY = 80
# Pieces that are handed out together; twice as many at most wait on disk for the model.
_TOGETHER = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """What is looked at.

    Attributes:
        number: names it.
        path: the video or picture.
        start, end: seconds; 0 and None for all of it.
        info: what `video.probe` says of the whole video, where it is known.
        person: whose peak counts, as in `analyse_faces`.
        frames: pictures spread over it that are wanted beside its faces.
    """

    number: int
    path: str
    start: float = 0.0
    end: float | None = None
    info: VideoInfo | None = None
    person: str = "max"
    frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was seen.

    Attributes:
        piece: where.
        watched: None when it could not be looked at.
        portraits: a JPEG of every person's face, persons in order; b"" where there is none.
        error: why there is nothing, None otherwise.
    """

    piece: Piece
    watched: Watched | None = None
    portraits: tuple[bytes, ...] = ()
    error: str | None = None


def watch(
    pieces: Iterable[Piece], *, workers: int, timeout: float = TIMEOUT, model: Path | None = None
) -> Iterator[Seen]:
    """Look at pieces, in order.

    Args:
        pieces: drawn a few at a time.
        workers: processes; 0 does the work in this one, when asked for it.
        timeout: seconds for a piece before it is given up; without processes there is no limit.
        model: face landmark model; the package's own by default.

    Returns:
        An iterator of what was seen, in the order of `pieces`. Leaving it early ends the processes
        as soon as one of them is through with its piece.

    Raises:
        EmoVerseError: no process can start, or the face model is missing.
    """
    if workers:
        yield from _elsewhere(pieces, workers, timeout, model)
        return
    with detector(model=model) as eyes:
        for piece in pieces:
            yield _look(piece, eyes)


def processors() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _look(piece: Piece, eyes: Detector) -> Seen:
    start = time.perf_counter()
    try:
        track = analyse_faces(
            piece.path,
            eyes=eyes,
            start=piece.start,
            end=piece.end,
            info=piece.info,
            person=piece.person,
            threads=1,
        )
        frames: tuple[bytes, ...] = ()
        if piece.frames:
            frames = jpegs(piece.path, piece.frames, start=piece.start, end=piece.end)
    except EmoVerseError as error:
        return Seen(piece, error=str(error))
    finally:
        gc.collect()  # frees decoded frames that PyAV tied into cycles
    portraits = [b""] * track.people
    for one in track.portraits:
        portraits[one.frame.person] = jpeg(crop(one.image, one.landmarks, _PORTRAIT_SIDE))
    seconds = time.perf_counter() - start
    watched = Watched(piece.path, replace(track, portraits=()), frames, seconds)
    return Seen(piece, watched, tuple(portraits))


def jpeg(image: np.ndarray) -> bytes:
    """A picture, uint8 (height, width, 3) RGB, as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


# --- processes --------------------------------------------------------------------------------

_Task = tuple[int, Piece]
_Through = queue.Queue[pool.Done[_Task] | BaseException | None]


def _elsewhere(
    pieces: Iterable[Piece], workers: int, timeout: float, model: Path | None
) -> Iterator[Seen]:
    through: _Through = queue.Queue()
    stop = threading.Event()
    room = threading.Semaphore(2 * _TOGETHER)
    # What a killed run leaves here is swept by the system.
    with tempfile.TemporaryDirectory(prefix="emoverse-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        crew = pool.Crew(partial(_worker, folder, model), workers, timeout)
        tasks = enumerate(pieces)
        drive = threading.Thread(
            target=_drive, args=(crew, tasks, room, through, stop), daemon=True
        )
        drive.start()
        try:
            for done in _in_order(through):
                yield _read(folder, done)
                room.release()
        finally:
            stop.set()
            room.release(2 * _TOGETHER)
            # The first piece that is through ends the others. One that takes longer than this
            # is not waited for; its process ends when it is through.
            drive.join(timeout=30)


def _drive(
    crew: pool.Crew[_Task],
    tasks: Iterator[_Task],
    room: threading.Semaphore,
    through: _Through,
    stop: threading.Event,
) -> None:
    """Keep the processes busy, a few tasks at a time and only while there is room on disk."""

    def wanted(_: _Task) -> bool:
        return not stop.is_set()

    try:
        while some := list(islice(takewhile(wanted, tasks), _TOGETHER)):
            for _ in some:
                room.acquire()
            for done in crew.run(takewhile(wanted, some)):
                through.put(done)
                if stop.is_set():
                    return
        through.put(None)
    except BaseException as error:  # the other thread raises it
        through.put(error)
    finally:
        crew.end()


def _in_order(through: _Through) -> Iterator[pool.Done[_Task]]:
    early: dict[int, pool.Done[_Task]] = {}
    following = 0
    while (done := through.get()) is not None:
        if isinstance(done, BaseException):
            raise done
        early[done.task[0]] = done
        while following in early:
            yield early.pop(following)
            following += 1


def _worker(folder: Path, model: Path | None) -> Callable[[_Task], None]:
    eyes = detector(model=model)

    def work(task: _Task) -> None:
        _write(folder / f"{task[0]}.npz", _look(task[1], eyes))

    return work


def _write(file: Path, seen: Seen) -> None:
    told: dict[str, Any] = {"error": seen.error}
    arrays: dict[str, np.ndarray] = {}
    if seen.watched is not None:
        track = seen.watched.track
        told |= {
            "seconds": seen.watched.seconds,
            "info": asdict(track.info) | {"path": str(track.info.path)},
            "frames": [asdict(frame) for frame in track.frames],
            "people": track.people,
            "peak": None if track.peak is None else asdict(track.peak),
            "interval": track.interval,
            "warnings": track.warnings,
            "counts": [one.count for one in track.likenesses],
            "pictures": len(seen.watched.frames),
        }
        for number, picture in enumerate(seen.watched.frames):
            arrays[f"picture{number}"] = np.frombuffer(picture, np.uint8)
        if track.peak_image is not None and track.peak_landmarks is not None:
            arrays |= {"image": track.peak_image, "landmarks": track.peak_landmarks}
        for number, (one, face) in enumerate(zip(track.likenesses, seen.portraits, strict=True)):
            arrays[f"shape{number}"] = one.shape
            arrays[f"face{number}"] = np.frombuffer(face, np.uint8)
            if one.looks is not None:
                arrays[f"looks{number}"] = one.looks
    arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(file, allow_pickle=False, **arrays)


def _read(folder: Path, done: pool.Done[_Task]) -> Seen:
    number, piece = done.task
    if done.failure is not None:
        return Seen(piece, error=f"{piece.path}: {done.failure}; convert it again.")
    file = folder / f"{number}.npz"
    with np.load(file, allow_pickle=False) as arrays:
        held = dict(arrays)
    file.unlink()
    told = json.loads(held["told"].tobytes())
    if told["error"] is not None:
        return Seen(piece, error=told["error"])
    info = VideoInfo(**told["info"] | {"path": Path(told["info"]["path"])})
    likenesses = tuple(
        Likeness(held[f"shape{n}"], held.get(f"looks{n}"), count)
        for n, count in enumerate(told["counts"])
    )
    track = FaceTrack(
        info=info,
        frames=tuple(_frame(row) for row in told["frames"]),
        people=told["people"],
        peak=None if told["peak"] is None else _frame(told["peak"]),
        peak_image=held.get("image"),
        peak_landmarks=held.get("landmarks"),
        likenesses=likenesses,
        interval=told["interval"],
        warnings=tuple(told["warnings"]),
    )
    portraits = tuple(held[f"face{n}"].tobytes() for n in range(len(likenesses)))
    frames = tuple(held[f"picture{n}"].tobytes() for n in range(told["pictures"]))
    return Seen(piece, Watched(piece.path, track, frames, told["seconds"]), portraits)


def _frame(row: dict[str, Any]) -> AUFrame:
    return AUFrame(**row | {"box": None if row["box"] is None else tuple(row["box"])})
