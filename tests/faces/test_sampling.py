from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from emoverse.faces.sampling import watch
from emoverse.faces.video import Shot


class _Eyes:
    """Sees one face a picture: the picture's own first pixel; counts how often it looks."""

    def __init__(self) -> None:
        self.looks = 0

    def detect(self, image: np.ndarray, *, thorough: Any = None, known: Any = None) -> list[Any]:
        self.looks += known is None
        return [int(image[0, 0, 0])]


def _shots(count: int, step: int, same: bool = False) -> Iterator[Shot]:
    for index in range(count):

        def image(value: int = 0 if same else index) -> np.ndarray:
            return np.full((4, 4, 3), value, np.uint8)

        yield Shot(index, index / 30, index % step == 0, 1_000_000, image)


def _watched(curve: np.ndarray, step: int, **more: Any) -> tuple[list[int], _Eyes]:
    eyes = _Eyes()
    seen = watch(
        _shots(len(curve), step),
        eyes,  # type: ignore[arg-type]
        lambda faces: float(curve[faces[0]]),  # type: ignore[call-overload]
        **more,
    )
    return [frame.index for frame, _, _ in seen], eyes


@pytest.mark.parametrize("peak", [0, 3, 41, 58, 97, 119])
def test_the_peak_between_grid_points_is_looked_at(peak: int) -> None:
    frames = np.arange(120)
    curve = 2 + np.sin(frames / 9) + 3 * np.exp(-(((frames - peak) / 4) ** 2))
    seen, _ = _watched(curve, step=4)
    assert int(np.argmax(curve)) in seen
    assert seen == sorted(set(seen)), "in order of time, none twice"
    assert set(range(0, 120, 4)) <= set(seen)
    assert len(seen) < 90


def test_a_long_clip_is_filled_in_stretch_by_stretch() -> None:
    read = 0

    def shots() -> Iterator[Shot]:
        nonlocal read
        for shot in _shots(240, 4):
            read += 1
            yield shot

    seen = watch(shots(), _Eyes(), lambda faces: 3.0)  # type: ignore[arg-type]
    first = next(seen)
    assert first[0].index == 0 and 120 < read < 140, "a shot holds 1 MB, 128 MB are kept"
    assert [shot.index for shot, _, _ in seen] == list(range(1, 240))


def test_without_refining_the_grid_alone_is_looked_at() -> None:
    seen, eyes = _watched(np.arange(120.0), step=4, refine=False)
    assert seen == list(range(0, 120, 4)) and eyes.looks == 30


def test_no_face_no_second_look_in_between() -> None:
    seen, _ = _watched(np.zeros(120), step=4)
    assert seen == list(range(0, 120, 4))


def test_sparse_grids_are_not_filled_in() -> None:
    seen, _ = _watched(np.full(200, 3.0), step=30)
    assert seen == list(range(0, 200, 30))


def test_a_picture_that_repeats_to_the_bit_is_looked_at_once() -> None:
    eyes = _Eyes()
    seen = watch(_shots(60, 4, same=True), eyes, lambda _: 1.0)  # type: ignore[arg-type]
    assert len(list(seen)) == 60 and eyes.looks == 1
