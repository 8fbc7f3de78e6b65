"""Squares of a picture that are searched for faces that the whole picture does not show."""

from __future__ import annotations

import math

Square = tuple[int, int, int]
"""(left, top, side) in pixels."""

# Side of the square that is searched around a face, in face sides.
_ROOM = 2.5


def tiles(height: int, width: int) -> list[Square]:
    """Overlapping squares along the longer side of a picture; none where it is nearly square."""
    side, longest = min(height, width), max(height, width)
    if longest < 1.2 * side:
        return []
    count = min(7, math.ceil(2 * (longest / side - 1)) + 1)
    starts = [round(i * (longest - side) / (count - 1)) for i in range(count)]
    return [(start, 0, side) if width > height else (0, start, side) for start in starts]


def around(
    box: tuple[float, float, float, float], height: int, width: int, smallest: int
) -> Square:
    """A square around a face, inside the picture, with room for the face to have moved.

    Args:
        box: (x0, y0, x1, y1) of the face, in pixels.
        height: of the picture.
        width: of the picture.
        smallest: the square's least side, unless the picture's own is less.
    """
    wanted = _ROOM * max(box[2] - box[0], box[3] - box[1])
    side = max(1, min(height, width, round(max(wanted, smallest))))
    left = round((box[0] + box[2] - side) / 2)
    top = round((box[1] + box[3] - side) / 2)
    return min(max(0, left), width - side), min(max(0, top), height - side), side
