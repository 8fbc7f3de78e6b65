"""Decoded frames as they are meant to be seen: turned, mirrored, with square pixels."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

Turn = tuple[bool, bool, bool]
"""(transpose, then mirror left-right, then mirror top-bottom)."""
_own = threading.local()


def turn(image: VideoFrame) -> Turn:
    """How a frame must be turned for display, from its display matrix.

    Source: FFmpeg's `AV_FRAME_DATA_DISPLAYMATRIX`, nine int32 (a b u; c d v; x y w) with
    x' = a x + c y and y' = b x + d y, y pointing down; angles are taken to the nearest 90 degrees.
    """
    data: Any = image.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    matrix = np.frombuffer(bytes(data), dtype=np.int32, count=9).astype(np.int64)
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def degrees(turned: Turn) -> int:
    """Clockwise rotation in a turn: 0, 90, 180 or 270; mirrors alone count as 0."""
    transpose, across, over = turned
    if transpose:
        return 270 if over else 90
    return 180 if across and over else 0


def size(image: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) in pixels of the upright frame with square pixels."""
    width = max(1, round(image.width * _usable(aspect)))
    return (image.height, width) if turn(image)[0] else (width, image.height)


def array(
    image: VideoFrame, turned: Turn, aspect: Fraction | None, max_side: int | None
) -> NDArray[np.uint8]:
    """The upright frame as uint8 (height, width, 3) RGB.

    Args:
        image: a decoded frame of any pixel format.
        turned: how it must be turned, see `turn`.
        aspect: width of a pixel by its height, None when unknown.
        max_side: shrink until the longer side is at most this many pixels.
    """
    width, height = image.width * _usable(aspect), float(image.height)
    if max_side is not None:
        scale = min(1.0, max_side / max(width, height))
        width, height = width * scale, height * scale
    # Scaled while still YUV and before the turn: a 4K frame never becomes a 4K array.
    small = _scaler().reformat(image, max(1, round(width)), max(1, round(height)), format="rgb24")
    pixels = small.to_ndarray()
    transpose, across, over = turned
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    if across:
        pixels = pixels[:, ::-1]
    if over:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _scaler() -> VideoReformatter:
    # A frame's own scaler has threads of its own, which outlive the frame until a collection:
    # hundreds of them in a clip of a few seconds.
    from av.video.reformatter import VideoReformatter

    if not hasattr(_own, "scaler"):
        _own.scaler = VideoReformatter()
    scaler: VideoReformatter = _own.scaler
    return scaler


def _usable(aspect: Fraction | None) -> float:
    # Broken encoders write nonsense here.
    return float(aspect) if aspect and Fraction(1, 5) < aspect < 5 else 1.0
