from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emoverse.faces.geometry import MEASURES, measures


@given(
    angles=st.tuples(*[st.floats(-1.2, 1.2)] * 3),
    size=st.floats(0.1, 500),
    place=st.floats(-1000, 1000),
)
def test_turning_moving_and_enlarging_the_head_change_nothing(
    angles: tuple[float, float, float], size: float, place: float
) -> None:
    points = np.random.default_rng(0).normal(size=(478, 3))
    turned = points
    for axis, angle in enumerate(angles):
        one, two = [(1, 2), (0, 2), (0, 1)][axis]
        rotation = np.eye(3)
        rotation[[one, two], [one, two]] = np.cos(angle)
        rotation[one, two], rotation[two, one] = -np.sin(angle), np.sin(angle)
        turned = turned @ rotation
    np.testing.assert_allclose(measures(turned * size + place), measures(points), atol=1e-6)


def test_a_mouth_that_opens_is_told_in_eye_distances() -> None:
    points = np.random.default_rng(0).normal(size=(478, 3))
    points[[33, 263]] = (0, 0, 0), (2, 0, 0)
    points[[13, 14]] = (1, 1, 0), (1, 2, 0)
    assert dict(zip(MEASURES, measures(points), strict=True))["lip gap"] == 0.5


def test_a_face_of_one_point_does_no_harm() -> None:
    assert np.isfinite(measures(np.zeros((478, 3)))).all()
