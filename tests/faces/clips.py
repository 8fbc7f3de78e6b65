"""Small synthetic clips for the tests."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def quadrants(width: int, height: int) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = 255
    return image


def corners(image: np.ndarray) -> str:
    """The colours of the four quarters' centres as letters: rgbw, top left to bottom right."""
    height, width = image.shape[:2]
    letters = ""
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        pixel = image[y * height // 4, x * width // 4].astype(int)
        bright = tuple(bool(value > 128) for value in pixel)
        letters += {
            (True, False, False): "r",
            (False, True, False): "g",
            (False, False, True): "b",
            (True, True, True): "w",
        }.get(bright, "?")
    return letters


def write(
    path: Path,
    images: list[np.ndarray] | None = None,
    *,
    count: int = 30,
    fps: int = 30,
    size: tuple[int, int] = (64, 48),
    times: list[int] | None = None,
    codec: str = "libx264",
    gop: int = 12,
    rotation: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    audio: float = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip; without images, grey frames that brighten with their index.

    `times` are presentation times in milliseconds, one a frame; `rotation` goes to PyAV's
    `set_display_rotation`; `audio` is how many seconds of a tone go with it.
    """
    if images is None:
        width, height = size
        count = len(times) if times else count
        images = [np.full((height, width, 3), 20 + i % 200, np.uint8) for i in range(count)]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        if times:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[i] if times else i
            frame.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            for packet in _tone(sound, audio):
                container.mux(packet)
    return path


def state_duration(path: Path, seconds: float) -> Path:
    """An MP4 whose headers are made to state another duration."""
    data = bytearray(path.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4  # version and flags, two times, then scale and duration
        (scale,) = struct.unpack(">I", data[at + 12 : at + 16])
        data[at + 16 : at + 20] = struct.pack(">I", round(seconds * scale))
    at = data.index(b"tkhd") + 4
    data[at + 20 : at + 24] = struct.pack(">I", round(seconds * 1000))
    path.write_bytes(data)
    return path


def write_audio(path: Path) -> Path:
    """Write a sound file without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for packet in _tone(stream):
            container.mux(packet)
    return path


def _tone(stream: av.AudioStream, seconds: float = 1) -> list[av.Packet]:
    packets = []
    for start in range(0, round(16000 * seconds), 1024):
        wave = np.sin(np.arange(start, start + 1024) * 0.1).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
