"""A face that was found: its place, points, blendshapes and pose, and the same moved or scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.records import Box

# Faces turned by up to this angle keep full confidence; see `_confidence`.
_FREE_TURN = math.radians(30)


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One detected face, in pixels of the picture given to `landmarks.Detector.detect`.

    Attributes:
        box: (x0, y0, x1, y1), the landmarks' bounding box; may reach beyond the picture.
        landmarks: float32 (478, 3): x, y in pixels, z in the same scale, smaller is nearer.
        blendshapes: ARKit name (`mouthSmileLeft`, ...) to 0..1; 51 of ARKit's 52, MediaPipe
            has no `tongueOut`.
        confidence: 0..1, see `landmarks.detector`.
        pose: head (yaw, pitch, roll) in degrees: yaw > 0 is turned to the picture's right,
            pitch > 0 is looking up, roll > 0 is tilted clockwise as seen in the picture.
    """

    box: Box
    landmarks: NDArray[np.float32]
    blendshapes: dict[str, float]
    confidence: float
    pose: tuple[float, float, float]


def face_of(points: Any, shapes: Any, matrix: NDArray[Any], width: int, height: int) -> Face:
    """One face of a FaceLandmarker's result, in pixels of its picture."""
    landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
    pose = head_pose(matrix)
    return Face(
        box=_bounds(landmarks),
        landmarks=landmarks,
        blendshapes={s.category_name: float(s.score) for s in shapes if s.category_name[0] != "_"},
        confidence=_confidence(landmarks, pose, (height, width)),
        pose=pose,
    )


def moved(face: Face, x: float, y: float, scale: float, size: tuple[int, ...]) -> Face:
    """A face shifted by (x, y) pixels, then scaled, in a picture of `size` (height, width)."""
    landmarks = (face.landmarks + np.array([x, y, 0], np.float32)) * np.float32(scale)
    return replace(
        face,
        box=_bounds(landmarks),
        landmarks=landmarks,
        confidence=_confidence(landmarks, face.pose, size),
    )


def scaled(faces: Sequence[Face], scale: float, size: tuple[int, ...]) -> list[Face]:
    """Faces of a picture in another size of the same picture."""
    return [face if scale == 1 else moved(face, 0.0, 0.0, scale, size) for face in faces]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two (x0, y0, x1, y1) boxes, 0..1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(first) + area(second) - shared)


def area(box: Box) -> float:
    """Square pixels of a (x0, y0, x1, y1) box."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def head_pose(matrix: NDArray[Any]) -> tuple[float, float, float]:
    """Head (yaw, pitch, roll) in degrees from a face-to-camera transformation.

    Args:
        matrix: (4, 4) or (3, 3); camera x to the right, y up, z towards the camera (MediaPipe's
            facial transformation matrix).

    Returns:
        Angles as in `Face.pose`, for rotation = yaw about y, then pitch about x, then roll about z.
    """
    rotation = np.asarray(matrix, dtype=float)[:3, :3]
    yaw = math.atan2(rotation[0, 2], rotation[2, 2])
    pitch = math.atan2(rotation[1, 2], math.hypot(rotation[1, 0], rotation[1, 1]))
    roll = math.atan2(-rotation[1, 0], rotation[1, 1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _confidence(
    landmarks: NDArray[np.float32], pose: tuple[float, float, float], size: tuple[int, ...]
) -> float:
    height, width = size[:2]
    x, y = landmarks[:, 0], landmarks[:, 1]
    inside = float(np.mean((x >= 0) & (x < width) & (y >= 0) & (y < height)))
    facing = math.cos(math.radians(pose[0])) * math.cos(math.radians(pose[1]))
    return inside * min(1.0, max(0.0, facing / math.cos(_FREE_TURN)))


def _bounds(landmarks: NDArray[np.float32]) -> Box:
    (x0, y0), (x1, y1) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)
