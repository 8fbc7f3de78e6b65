from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.faces.action_units import PROXIES, intensities
from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.records import AUS


def mesh(gap: float) -> np.ndarray:
    """A face mesh in which only eyes, brows, nose and lips have places; eyes are 1 apart."""
    points = np.zeros((478, 3))
    points[[33, 263]] = (-0.5, 0, 0), (0.5, 0, 0)
    points[[55, 285]] = (-0.1, -0.15, 0), (0.1, -0.15, 0)
    points[[98, 327]] = (-0.15, 0.5, 0), (0.15, 0.5, 0)
    points[[13, 14]] = (0, 0.8, 0), (0, 0.8 + gap, 0)
    return points


def test_every_au_has_a_proxy_made_of_known_shapes() -> None:
    assert tuple(PROXIES) == AUS
    known = {name.removesuffix("Left").removesuffix("Right") for name in BLENDSHAPES}
    for proxies in PROXIES.values():
        for proxy in proxies:
            assert set(proxy.shapes) <= known
            assert 0 <= proxy.rest < 1 and proxy.gain > 0


@given(st.dictionaries(st.sampled_from(BLENDSHAPES), st.floats(0, 1)))
def test_intensities_stay_on_openfaces_scale(shapes: dict[str, float]) -> None:
    for landmarks in (None, mesh(0.1), np.zeros((478, 3))):
        found = intensities(shapes, landmarks)
        assert tuple(found) == AUS
        assert all(0 <= value <= 5 for value in found.values())


def test_a_still_face_shows_nothing() -> None:
    assert set(intensities({}).values()) == {0.0}
    assert set(intensities({}, mesh(0)).values()) == {0.0}


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ("browDown", "AU04"),
        ("mouthSmile", "AU12"),
        ("eyeBlink", "AU45"),
        ("mouthFrown", "AU15"),
        ("eyeWide", "AU05"),
    ],
)
def test_sides_are_averaged_and_grow_the_au(shape: str, code: str) -> None:
    one = intensities({f"{shape}Left": 0.6})[code]
    both = intensities({f"{shape}Left": 0.6, f"{shape}Right": 0.6})[code]
    assert 0 <= one < both or one == both == 5
    assert both == intensities({f"{shape}Left": 0.5, f"{shape}Right": 0.7})[code]
    others = {c: v for c, v in intensities({f"{shape}Left": 0.6}).items() if c != code}
    assert set(others.values()) == {0.0}


def test_lips_apart_is_measured() -> None:
    values = [intensities({}, mesh(gap))["AU25"] for gap in (0, 0.1, 0.2, 0.5)]
    assert values[0] == 0 and values[-1] == 5
    assert values == sorted(values)


def test_lips_do_not_depend_on_the_scale_or_place() -> None:
    near, far = mesh(0.2), mesh(0.2) * 37 + 11
    assert intensities({}, near) == pytest.approx(intensities({}, far))


def test_a_wrinkled_nose_is_measured_unless_smiling() -> None:
    wrinkled = mesh(0)
    wrinkled[[98, 327], 1] -= 0.15
    assert intensities({}, wrinkled)["AU09"] > 2
    smile = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}
    assert intensities(smile, wrinkled)["AU09"] == 0
