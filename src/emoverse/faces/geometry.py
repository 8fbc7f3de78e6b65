"""Distances and heights on a face that follow its muscles but not the head's turn or size.

Each names the action units that move it in FACS (Ekman, Friesen & Hager, 2002). Points are those
of MediaPipe's 478-point face mesh; a left and a right one are averaged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Outer eye corners: their distance is the unit.
_EYES = (33, 263)
# Bridge and base of the nose: the face's own vertical.
_NOSE = (168, 2)

# Name: (left, right) pairs of points; one pair for what lies in the middle.
_DISTANCES: dict[str, tuple[tuple[int, int], ...]] = {
    # Brows: 1, 2, 4.
    "inner brow to eye": ((55, 133), (285, 362)),
    "middle brow to eye": ((105, 159), (334, 386)),
    "outer brow to eye": ((70, 33), (300, 263)),
    "inner brow to bridge": ((55, 168), (285, 168)),
    "between inner brows": ((55, 285),),
    "between brows": ((107, 336),),
    "lid to brow": ((159, 52), (386, 282)),
    # Eyes and cheeks: 5, 6, 7, 45.
    "eye opening": ((159, 145), (386, 374)),
    "inner eye opening": ((158, 153), (385, 380)),
    "outer eye opening": ((160, 144), (387, 373)),
    "lower lid to cheek": ((145, 50), (374, 280)),
    "cheek to eye": ((205, 145), (425, 374)),
    # Nose and upper lip: 9, 10.
    "nose wing to eye": ((98, 133), (327, 362)),
    "nose wing to brow": ((98, 55), (327, 285)),
    "between nose wings": ((98, 327),),
    "upper lip to nose": ((0, 2),),
    "upper lip to nose wing": ((37, 98), (267, 327)),
    "lip line to nose": ((2, 13),),
    "nasolabial": ((36, 205), (266, 425)),
    # Mouth: 12, 14, 15, 20, 23, 25.
    "lip gap": ((13, 14),),
    "side lip gap": ((81, 178), (311, 402)),
    "upper lip": ((0, 13),),
    "lower lip": ((14, 17),),
    "mouth width": ((61, 291),),
    "inner mouth width": ((78, 308),),
    "corner to outer eye": ((61, 33), (291, 263)),
    "corner to inner eye": ((61, 133), (291, 362)),
    "corner to nose wing": ((61, 98), (291, 327)),
    "corner to chin": ((61, 152), (291, 152)),
    "corner to jaw": ((61, 172), (291, 397)),
    "corner to cheek": ((61, 205), (291, 425)),
    # Chin and jaw: 17, 26.
    "lower lip to chin": ((17, 152),),
    "nose to chin": ((2, 152),),
    "lower lip to chin fold": ((17, 18),),
    "chin": ((18, 152),),
    "bridge to chin": ((168, 152),),
    "face width": ((234, 454),),
}
# Name: how far the first points lie below (or, in depth, behind) the second ones.
_HEIGHTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "corners below lip line": ((61, 291), (13, 14)),
    "corners below upper lip": ((61, 291), (0,)),
    "corners below lower lip": ((61, 291), (17,)),
    "inner below middle brow": ((55, 285), (105, 334)),
    "outer below middle brow": ((70, 300), (105, 334)),
}
_DEPTHS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "corners behind nose": ((61, 291), (2,)),
    "chin behind nose": ((152,), (2,)),
    "lower lip behind nose": ((17,), (2,)),
    "upper lip behind nose": ((0,), (2,)),
}
MEASURES = (*_DISTANCES, *_HEIGHTS, *_DEPTHS)

_PAIRS = np.array([pairs if len(pairs) == 2 else pairs * 2 for pairs in _DISTANCES.values()])
# One point counts twice, so that every group has two.
_ENDS = np.array(
    [
        [group * (3 - len(group)) for group in groups]
        for groups in (*_HEIGHTS.values(), *_DEPTHS.values())
    ]
)


def measures(landmarks: NDArray[Any]) -> NDArray[np.float64]:
    """Measure a face.

    Args:
        landmarks: (478, 3) face mesh in one scale, x to the right, y down, z away from the camera.

    Returns:
        (46,) in the order of `MEASURES`, in outer eye distances. Places are told along the face's
        own axes, so that turning, moving or enlarging the head changes nothing.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    across = points[_EYES[1]] - points[_EYES[0]]
    unit = max(float(np.linalg.norm(across)), 1e-9)
    across = across / unit
    down = points[_NOSE[1]] - points[_NOSE[0]]
    down = down - (down @ across) * across
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    behind = np.cross(across, down)
    ways = points[_PAIRS[:, :, 0]] - points[_PAIRS[:, :, 1]]
    distances = np.sqrt((ways**2).sum(axis=2)).mean(axis=1)
    ends = points[_ENDS].mean(axis=2)
    offsets = ends[:, 0] - ends[:, 1]
    heights = offsets[: len(_HEIGHTS)] @ down
    depths = offsets[len(_HEIGHTS) :] @ behind
    found: NDArray[np.float64] = np.concatenate([distances, heights, depths]) / unit
    return found
