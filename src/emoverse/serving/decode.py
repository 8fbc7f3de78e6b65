"""The decoding process: looks at one clip after another, within limits of memory and time.

It is a program of its own (`python -m emoverse.serving.decode`), run by `emoverse.serving.sandbox`.
A hostile file can at worst end this process. A request is one JSON line on stdin; a reply on
stdout is the header's length (4 bytes, big-endian), the header as JSON, then the blobs it counts.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces, stills, video
from emoverse.faces.landmarks import Detector, detector
from emoverse.faces.spread import jpegs
from emoverse.inference.speech import sound

# Containers that hold their own pictures. Playlists (HLS, DASH, concat...) name other files and
# addresses, which FFmpeg would open.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,ivf,mjpeg,h264,hevc,m4v,dv"
_SAFE = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


def main() -> None:
    """Answer requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up in a reply
    _confine(int(sys.argv[1]))
    eyes = detector(model=Path(sys.argv[2]))
    _send(replies, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_processor(request["cpu"])
        try:
            header, blobs = _answer(request, eyes)
        except EmoVerseError as error:
            header, blobs = {"refused": _renamed(str(error), request)}, []
        except MemoryError:
            header, blobs = {"refused": f"{request['name']} needs too much memory to decode."}, []
        except Exception as error:  # damage that a library did not foresee; the class is enough
            header = {"refused": f"{request['name']} cannot be read; convert it or replace it."}
            header["fault"] = type(error).__name__
            blobs = []
        _send(replies, header, blobs)


def _answer(request: dict[str, Any], eyes: Detector) -> tuple[dict[str, Any], list[bytes]]:
    if request.get("sound"):
        return _heard(request)
    if request.get("length"):
        return {"duration": _check(Path(request["path"]), request).duration}, []
    return _watch(request, eyes)


def _heard(request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    path = Path(request["path"])
    _check(path, request)
    start, end = request["window"]  # the headers may promise less than there is
    pieces = sound(path, piece=10.0, start=start, end=end)
    # It has 16 bits.
    return {}, [(samples * (1 << 15)).astype(np.int16).tobytes() for _, samples in pieces]


def _watch(request: dict[str, Any], eyes: Detector) -> tuple[dict[str, Any], list[bytes]]:
    path = Path(request["path"])
    duration = _check(path, request).duration
    start, end = request["window"] or (0.0, duration)
    if end + (end - start) / 2 > duration:  # a short rest goes with this part
        end = duration
    last = end >= duration
    begun = time.perf_counter()
    until, pixels = None if last else end, request["pixels"]
    track = analyse_faces(path, eyes=eyes, start=start, end=until, max_pixels=pixels)
    blobs = [] if track.peak_image is None else [track.peak_image.tobytes()]
    if track.peak_landmarks is not None:
        blobs.append(np.asarray(track.peak_landmarks, np.float32).tobytes())
    pictures: list[bytes] = []
    if request["frames"]:
        wanted, side = request["frames"], request["side"]
        pictures = list(jpegs(path, wanted, start=start, end=until, side=side, max_pixels=pixels))
    header = {
        "info": asdict(track.info) | {"path": request["name"]},
        "frames": [asdict(frame) for frame in track.frames],
        "people": track.people,
        "peak": None if track.peak is None else asdict(track.peak),
        "image": None if track.peak_image is None else track.peak_image.shape,
        "interval": track.interval,
        "warnings": [_renamed(warning, request) for warning in track.warnings],
        "start": start,
        "end": end,
        "duration": duration,
        "last": last,
        "seconds": time.perf_counter() - begun,
    }
    return header, blobs + pictures


def _check(path: Path, request: dict[str, Any]) -> video.VideoInfo:
    """Refuse what is not a plain clip, or is too large or too long, before it is decoded."""
    size = stills.size_of(path)
    if size is None:
        try:
            with av.open(str(path), options=_SAFE) as container:
                size = max(
                    ((s.width or 0, s.height or 0) for s in container.streams.video), default=None
                )
        except av.error.FFmpegError:
            raise EmoVerseError(
                f"{path} is not a video or is damaged at its start; convert or replace it."
            ) from None
        except ValueError:
            raise EmoVerseError(f"{path} cannot be opened; convert or replace it.") from None
    if size is not None and size[0] * size[1] > request["pixels"]:
        raise EmoVerseError(
            f"{path} has {size[0]} x {size[1]} pixels, more than the {request['pixels']} that this "
            "server takes; make it smaller."
        )
    info = video.probe(path)
    if info.width * info.height > request["pixels"]:
        raise EmoVerseError(f"{path} has too many pixels for this server; make it smaller.")
    if info.duration > request["seconds"]:
        raise EmoVerseError(
            f"{path} is {info.duration:.0f} seconds long, and at most {request['seconds']:.0f} are "
            "taken here; cut it, or send it as a job."
        )
    return info


def _renamed(sentence: str, request: dict[str, Any]) -> str:
    """The client's name for the file in place of the server's."""
    return sentence.replace(request["path"], request["name"])


def _confine(memory: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_FSIZE, 4 << 30),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _allow_processor(seconds: float) -> None:
    """Let this process run so many seconds of processor time from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _send(replies: BinaryIO, header: dict[str, Any], blobs: list[bytes] | None = None) -> None:
    blobs = blobs or []
    text = json.dumps(header | {"blobs": [len(blob) for blob in blobs]}).encode()
    replies.write(struct.pack(">I", len(text)))
    replies.write(text)
    for blob in blobs:
        replies.write(blob)
    replies.flush()


if __name__ == "__main__":
    main()
