"""The aligned face crop that the face ViT sees, in training and in use alike."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = 96
# Where the eye centres land, as shares of the crop's side: the jaw still fits when it drops.
EYE_LINE = 0.36
EYE_DISTANCE = 0.32
# MediaPipe face mesh: outer and inner corners of each eye, as seen in the picture.
_LEFT_EYE = (33, 133)
_RIGHT_EYE = (362, 263)


def alignment(landmarks: np.ndarray, size: int = SIZE, margin: float = 0.0) -> np.ndarray:
    """Similarity transform from crop pixels to picture pixels.

    Args:
        landmarks: (478, 2 or 3) MediaPipe face mesh in picture pixels.
        size: side of the crop in pixels.
        margin: extra border as a share of the crop's side on every side.

    Returns:
        (2, 3) matrix `m` with `picture_xy = m[:, :2] @ crop_xy + m[:, 2]`.
    """
    left = landmarks[_LEFT_EYE, :2].mean(axis=0)
    right = landmarks[_RIGHT_EYE, :2].mean(axis=0)
    across = right - left
    span = 1 + 2 * margin
    # One crop pixel right is this vector in the picture; one down is its quarter turn.
    step = across / (EYE_DISTANCE / span * size)
    down = np.array([-step[1], step[0]])
    middle = (left + right) / 2
    eyes = np.array([0.5, (EYE_LINE + margin) / span]) * size
    origin = middle - step * eyes[0] - down * eyes[1]
    return np.stack([step, down, origin], axis=1)


def crop(
    image: np.ndarray, landmarks: np.ndarray, size: int = SIZE, margin: float = 0.0
) -> np.ndarray:
    """Cut the face out of a picture, eyes level and at a fixed place.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (478, 2 or 3) in pixels of `image`.
        size: side of the crop in pixels.
        margin: extra border as a share of the crop's side.

    Returns:
        (size, size, 3) uint8 RGB; black where the crop leaves the picture.
    """
    matrix = alignment(landmarks, size, margin)
    scale = float(np.hypot(*matrix[:, 0]))
    picture = Image.fromarray(image)
    if scale > 2:  # bilinear alone would alias: shrink first, by whole halvings
        factor = int(scale)
        picture = picture.reduce(factor)
        matrix = matrix / factor
    a, b, c = matrix[0]
    d, e, f = matrix[1]
    cut = picture.transform(
        (size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
    return np.asarray(cut)
