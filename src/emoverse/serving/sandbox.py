"""Clips are decoded in processes of their own, which are killed when they take too much.

See `emoverse.serving.decode` for the other side. What comes back is checked like any input: the
process may have been taken over by the file it read.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from emoverse.faces import AUFrame, FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference.interview import Watched
from emoverse.inference.speech import Samples
from emoverse.models import weights
from emoverse.serving.logs import log
from emoverse.serving.metrics import Metrics
from emoverse.serving.problems import Refused
from emoverse.serving.settings import Limits

# A process that has read many files may have been harmed by one of them, or leak.
_CLIPS_A_LIFE = 200
_START_SECONDS = 120.0
_LARGEST_HEADER = 32 << 20
_LARGEST_BLOB = 64 << 20
_LANDMARKS = (478, 3)
# What a decoding process may know of the server's environment: no tokens, no keys.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")

_info = TypeAdapter(VideoInfo)
_frame = TypeAdapter(AUFrame | None)
_frames = TypeAdapter(tuple[AUFrame, ...])


@dataclass(frozen=True, slots=True)
class Piece:
    """A watched clip, or a part of one.

    Attributes:
        watched: what was seen.
        start, end: seconds within the clip that it is from.
        duration: seconds of the clip that it is from.
        last: nothing of that clip follows.
    """

    watched: Watched
    start: float = 0.0
    end: float = 0.0
    duration: float = 0.0
    last: bool = True


@dataclass(slots=True, eq=False)
class _Worker:
    process: asyncio.subprocess.Process
    clips: int = 0


class Sandbox:
    """A pool of decoding processes; start it before use and close it after."""

    def __init__(
        self, count: int, frames: int, limits: Limits, metrics: Metrics, side: int = 448
    ) -> None:
        """Make a pool.

        Args:
            count: processes.
            frames: JPEG pictures wanted of every clip, see `Watched.frames`.
            limits: what a clip may cost.
            metrics: where outcomes are counted.
            side: pixels of their longer side, at most.
        """
        self._side = side
        self._count = count
        self._wanted = frames
        self._limits = limits
        self._metrics = metrics
        self._landmarker = ""
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()
        self._all: set[_Worker] = set()

    async def start(self) -> None:
        """Start the processes; the face model is fetched when it is missing.

        Raises:
            EmoVerseError: the face model is missing and cannot be fetched.
        """
        self._landmarker = str(await asyncio.to_thread(weights.face_landmarker))
        for _ in range(self._count):
            self._idle.put_nowait(None)  # started by its first clip, or by `warm`

    async def warm(self) -> None:
        """Start the processes now, so that the first clips need not wait for them."""
        held = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for worker in await asyncio.gather(*(self._ready(worker) for worker in held)):
            self._idle.put_nowait(worker)

    async def close(self) -> None:
        """Kill every process."""
        for worker in list(self._all):
            await self._kill(worker)

    async def watch(
        self,
        path: Path,
        name: str,
        *,
        seconds: float | None = None,
        window: tuple[float, float] | None = None,
    ) -> Piece:
        """Decode a clip and measure its faces.

        Args:
            path: a file that the client may use, see `emoverse.serving.media`.
            name: what the client calls it.
            seconds: longest clip; the limit for clips by default.
            window: only the part between these two times in seconds; a rest of less than half
                its length goes with it.

        Raises:
            Refused: it cannot be decoded, or not within the limits.
        """
        seconds = self._limits.clip_seconds if seconds is None else seconds
        request = {"frames": self._wanted, "side": self._side, "window": window}
        return _piece(*await self._decoded(path, name, seconds, request), name)

    async def duration(self, path: Path, name: str, *, seconds: float) -> float:
        """How long a clip is, in seconds.

        Args:
            path: see `watch`.
            name: likewise.
            seconds: longest clip.

        Raises:
            Refused: it cannot be read, or is not within the limits.
        """
        header, _ = await self._decoded(path, name, seconds, {"length": True})
        try:
            return float(header["duration"])
        except (KeyError, TypeError, ValueError):
            raise Refused(422, "bad_media", f"{name} cannot be decoded; convert it.") from None

    async def listen(
        self,
        path: Path,
        name: str,
        *,
        seconds: float | None = None,
        window: tuple[float, float] | None = None,
    ) -> Samples:
        """Decode a clip's sound.

        Args:
            path: see `watch`.
            name: likewise.
            seconds: likewise.
            window: only what lies between these two times in seconds.

        Returns:
            Mono samples at 16 kHz, full scale 1; none when the clip has no sound.

        Raises:
            Refused: it cannot be decoded, or not within the limits.
        """
        seconds = self._limits.clip_seconds if seconds is None else seconds
        request = {"sound": True, "window": window or (0.0, seconds)}
        _, blobs = await self._decoded(path, name, seconds, request)
        return np.divide(np.frombuffer(b"".join(blobs), np.int16), 1 << 15, dtype=np.float32)

    async def _decoded(
        self, path: Path, name: str, seconds: float, request: dict[str, Any]
    ) -> tuple[dict[str, Any], list[bytes]]:
        request |= {
            "path": str(path),
            "name": name,
            "pixels": self._limits.pixels,
            "seconds": seconds,
            "cpu": 2 * self._limits.decode_seconds,
        }
        start = time.perf_counter()
        outcome = "killed"
        try:
            header, blobs = await self._asked(request)
            outcome = "refused" if "refused" in header else "done"
            if "fault" in header:
                log("decode_fault", error_class=str(header["fault"])[:80])
            if "refused" in header:
                raise Refused(422, "bad_media", str(header["refused"]))
            return header, blobs
        finally:
            self._metrics.decodes.labels(outcome).inc()
            self._metrics.decode_seconds.observe(time.perf_counter() - start)

    async def _asked(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        worker = await self._idle.get()
        healthy = False
        try:
            worker = await self._ready(worker)
            line = json.dumps(request).encode() + b"\n"
            assert worker.process.stdin is not None
            worker.process.stdin.write(line)
            await worker.process.stdin.drain()
            worker.clips += 1
            found = await asyncio.wait_for(_read(worker.process), self._limits.decode_seconds)
            healthy = worker.clips < _CLIPS_A_LIFE
            return found
        except asyncio.TimeoutError:
            raise Refused(
                422,
                "bad_media",
                f"{request['name']} takes more than {self._limits.decode_seconds:g} seconds to "
                "decode; cut or shrink it.",
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            raise Refused(
                422,
                "bad_media",
                f"{request['name']} cannot be decoded within this server's memory and time; "
                "convert or shrink it.",
            ) from None
        finally:
            # A process that is still busy (time-out, client gone) is not waited for.
            if worker is not None and not healthy:
                await asyncio.shield(self._kill(worker))
                worker = None
            self._idle.put_nowait(worker)

    async def _ready(self, worker: _Worker | None) -> _Worker:
        if worker is not None:
            assert worker.process.stdout is not None
            # Its output may tell of its death before the system does.
            if worker.process.returncode is None and not worker.process.stdout.at_eof():
                return worker
            self._all.discard(worker)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "emoverse.serving.decode",
            str(self._limits.decode_bytes),
            self._landmarker,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C at the terminal is for the server alone
        )
        worker = _Worker(process)
        self._all.add(worker)
        try:
            await asyncio.wait_for(_read(process), _START_SECONDS)
        except BaseException:
            await self._kill(worker)
            raise
        return worker

    async def _kill(self, worker: _Worker) -> None:
        self._all.discard(worker)
        if worker.process.returncode is None:
            worker.process.kill()
        await worker.process.wait()


async def _read(process: asyncio.subprocess.Process) -> tuple[dict[str, Any], list[bytes]]:
    """One reply: header and blobs.

    Raises:
        ValueError: it is not one that a sound process would send.
    """
    assert process.stdout is not None
    (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
    if size > _LARGEST_HEADER:
        raise ValueError("oversized header")
    text = await process.stdout.readexactly(size)
    header = json.loads(text, parse_float=_finite, parse_constant=_finite)
    sizes = header.get("blobs") if isinstance(header, dict) else None
    if not isinstance(sizes, list) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("malformed header")
    if sum(sizes) > _LARGEST_BLOB:
        raise ValueError("oversized reply")
    return header, [await process.stdout.readexactly(n) for n in sizes]


def _finite(text: str) -> float:
    """A number that JSON can carry on.

    Raises:
        ValueError: it is NaN or infinite.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _piece(header: dict[str, Any], blobs: list[bytes], name: str) -> Piece:
    try:
        image = landmarks = None
        if header["image"] is not None:
            height, width, channels = (int(n) for n in header["image"])
            image = np.frombuffer(blobs.pop(0), np.uint8).reshape(height, width, channels)
            landmarks = np.frombuffer(blobs.pop(0), np.float32).reshape(_LANDMARKS)
        seconds = float(header["seconds"])
        track = FaceTrack(
            info=_info.validate_python(header["info"]),
            frames=_frames.validate_python(header["frames"]),
            people=int(header["people"]),
            peak=_frame.validate_python(header["peak"]),
            peak_image=image,
            peak_landmarks=landmarks,
            interval=float(header["interval"]),
            warnings=tuple(str(warning)[:500] for warning in header["warnings"]),
        )
        watched = Watched(name, track, tuple(blobs), seconds)
        start, end, duration = (float(header[name]) for name in ("start", "end", "duration"))
        return Piece(watched, start, end, duration, bool(header["last"]))
    except (KeyError, TypeError, ValueError, IndexError, ValidationError):
        raise Refused(422, "bad_media", f"{name} cannot be decoded; convert it.") from None
