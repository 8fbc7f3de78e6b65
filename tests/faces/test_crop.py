from __future__ import annotations

import math

import numpy as np
import pytest

from emoverse.faces.crop import EYE_DISTANCE, EYE_LINE, SIZE, alignment, crop

EYE_CORNERS = {"left": (33, 133), "right": (362, 263)}


def _face(angle: float, distance: float, size: int = 640) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture with a red dot on the left eye, a green one on the right; landmarks."""
    middle = np.array([size * 0.5, size * 0.45])
    along = np.array([math.cos(angle), math.sin(angle)])
    y, x = np.mgrid[:size, :size] + 0.5
    image = np.full((size, size, 3), 90, np.uint8)
    landmarks = np.zeros((478, 3), np.float32)
    for sign, (name, colour) in zip(
        (-0.5, 0.5), (("left", (255, 0, 0)), ("right", (0, 255, 0))), strict=True
    ):
        centre = middle + sign * distance * along
        outer, inner = EYE_CORNERS[name]
        landmarks[outer, :2] = centre - 0.15 * distance * along
        landmarks[inner, :2] = centre + 0.15 * distance * along
        image[np.hypot(x - centre[0], y - centre[1]) < 0.12 * distance] = colour
    return image, landmarks


def _dot(cut: np.ndarray, channel: int) -> np.ndarray:
    """Centre of the dot of that colour, as shares of the crop's side (x, y)."""
    other = np.delete(cut.astype(int), channel, axis=2).max(axis=2)
    weight = np.clip(cut[..., channel].astype(int) - other - 60, 0, None).astype(float)
    y, x = np.mgrid[: len(cut), : len(cut)] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() / len(cut)


@pytest.mark.parametrize("angle", [0, 20, -35, 90, 180])
@pytest.mark.parametrize("distance", [30, 60, 170])
def test_the_eyes_land_at_their_place_however_the_face_is_turned(
    angle: float, distance: float
) -> None:
    cut = crop(*_face(math.radians(angle), distance))
    assert cut.shape == (SIZE, SIZE, 3)
    assert cut.dtype == np.uint8
    np.testing.assert_allclose(_dot(cut, 0), (0.34, 0.36), atol=0.006)
    np.testing.assert_allclose(_dot(cut, 1), (0.66, 0.36), atol=0.006)


def test_a_margin_keeps_the_middle_and_shows_more_around() -> None:
    image, landmarks = _face(0.3, 60)
    wide = crop(image, landmarks, size=140, margin=0.125)
    left, right = _dot(wide, 0), _dot(wide, 1)
    np.testing.assert_allclose(right - left, (EYE_DISTANCE / 1.25, 0), atol=0.006)
    np.testing.assert_allclose(left[1], (EYE_LINE + 0.125) / 1.25, atol=0.006)


def test_outside_the_picture_is_black() -> None:
    image, landmarks = _face(0, 60, size=100)
    assert (crop(image, landmarks)[-10:] == 0).all()


def test_alignment_maps_the_crops_eye_points_to_the_pictures() -> None:
    _, landmarks = _face(0.5, 80)
    matrix = alignment(landmarks)
    for share, corners in ((0.34, EYE_CORNERS["left"]), (0.66, EYE_CORNERS["right"])):
        place = matrix[:, :2] @ (np.array([share, EYE_LINE]) * SIZE) + matrix[:, 2]
        np.testing.assert_allclose(place, landmarks[list(corners), :2].mean(axis=0), atol=1e-3)


def test_landmarks_without_depth_do_too() -> None:
    image, landmarks = _face(0.1, 60)
    assert (crop(image, landmarks) == crop(image, landmarks[:, :2])).all()
