from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from emoverse.faces.face import Face
from emoverse.faces.sampling import Sight, watch
from emoverse.faces.video import LazyFrame


class _Eyes:
    """Sees one face a picture: the picture's own first pixel; counts how often it looks."""

    def __init__(self) -> None:
        self.looks = 0

    def detect(self, image: np.ndarray, **how: Any) -> list[Any]:
        self.looks += how.get("known") is None
        return [_Value(int(image[0, 0, 0]))]


class _Value(int):
    """A frame's number that stands for its face."""

    box = (0.0, 0.0, 9.0, 9.0)


def _frames(count: int, step: int, same: bool = False) -> Iterator[LazyFrame]:
    for index in range(count):

        def image(value: int = 0 if same else index) -> np.ndarray:
            return np.full((4, 4, 3), value, np.uint8)

        yield LazyFrame(index, index / 30, index % step == 0, 1_000_000, image)


def _measure(curve: Sequence[float] | np.ndarray) -> Any:
    return lambda image, faces: Sight(faces, max((curve[face] for face in faces), default=0.0), [])


def _watched(curve: np.ndarray, step: int, **more: Any) -> tuple[list[int], _Eyes]:
    eyes = _Eyes()
    seen = watch(_frames(len(curve), step), eyes, _measure(curve), **more)  # type: ignore[arg-type]
    return [frame.index for frame, _, _ in seen], eyes


@pytest.mark.parametrize("peak", [0, 3, 41, 58, 97, 119])
@pytest.mark.parametrize("step", [4, 6])
def test_the_peak_between_grid_points_is_looked_at(peak: int, step: int) -> None:
    frames = np.arange(120)
    curve = 2 + np.sin(frames / 9) + 3 * np.exp(-(((frames - peak) / 4) ** 2))
    seen, _ = _watched(curve, step=step)
    assert int(np.argmax(curve)) in seen
    assert seen == sorted(set(seen)), "in order of time, none twice"
    assert set(range(0, 120, step)) <= set(seen)
    assert len(seen) < 70


def test_gaps_are_halved_where_the_peak_may_be() -> None:
    """A tent on a flat clip: its sides are looked into, the flat gaps are not."""
    frames = np.arange(240)
    curve = 1 + 5 * np.maximum(0, 1 - abs(frames - 100) / 20)
    seen, _ = _watched(curve, step=10)
    between = [index for index in seen if index % 10]
    assert 100 in seen and between and all(80 <= index <= 120 for index in between)


def test_a_long_clip_is_filled_in_stretch_by_stretch() -> None:
    read = 0

    def frames() -> Iterator[LazyFrame]:
        nonlocal read
        for frame in _frames(240, 4):
            read += 1
            yield frame

    seen = watch(frames(), _Eyes(), _measure([3.0] * 240))  # type: ignore[arg-type]
    first = next(seen)
    assert first[0].index == 0 and 120 < read < 140, "a frame holds 1 MB, 128 MB are kept"
    assert [frame.index for frame, _, _ in seen] == list(range(1, 240))


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
    seen = watch(_frames(60, 4, same=True), eyes, _measure([1.0]))  # type: ignore[arg-type]
    assert len(list(seen)) == 60 and eyes.looks == 1


class _Crowd:
    """Two faces, of which the whole picture shows the first only; tells how it was asked."""

    def __init__(self, second: range, first: range = range(10_000)) -> None:
        self.spans = (first, second)
        self.asked: list[tuple[int, bool, int]] = []

    def detect(
        self, image: np.ndarray, *, thorough: Any = None, known: Any = None, near: Any = ()
    ) -> list[Face]:
        index = int(image[0, 0, 0])
        self.asked.append((index, bool(thorough), len(near)))
        first, second = (
            [_face(100 * at)] if index in span else [] for at, span in enumerate(self.spans)
        )
        there = any(face.box[0] == 100 for face in near)
        return first + (second if thorough or there else [])


def _face(left: float) -> Face:
    box = (left, 0.0, left + 50, 50.0)
    return Face(box, np.zeros((478, 3), np.float32), {}, 1.0, (0.0, 0.0, 0.0))


def _film(count: int, cuts: Sequence[int] = ()) -> Iterator[LazyFrame]:
    """Pictures that tell their number, and change altogether at cuts."""
    for index in range(count):

        def image(index: int = index) -> np.ndarray:
            picture = np.full((8, 8, 3), 120 * (sum(cut <= index for cut in cuts) % 2), np.uint8)
            picture[0, 0, 0] = index
            return picture

        yield LazyFrame(index, index / 5, True, 1, image)


def _faces_seen(crowd: _Crowd, count: int, cuts: Sequence[int] = ()) -> list[int]:
    measure = lambda image, faces: Sight(faces, float(bool(faces)), [])  # noqa: E731
    seen = watch(_film(count, cuts), crowd, measure, refine=False)  # type: ignore[arg-type]
    return [len(sight.faces) for _, sight, _ in seen]


def test_a_face_that_only_tiles_show_is_followed_without_searching_them_again() -> None:
    crowd = _Crowd(range(100))
    assert _faces_seen(crowd, 39) == [2] * 39
    assert [index for index, thorough, _ in crowd.asked if thorough] == [0]


def test_tiles_are_searched_again_now_and_then_and_at_cuts() -> None:
    crowd = _Crowd(range(20, 200))
    counts = _faces_seen(crowd, 60)
    searched = [index for index, thorough, _ in crowd.asked if thorough]
    assert searched == [0, 40] and counts == [1] * 40 + [2] * 20
    crowd = _Crowd(range(20, 200))
    counts = _faces_seen(crowd, 60, cuts=(25,))
    assert [index for index, thorough, _ in crowd.asked if thorough] == [0, 25]
    assert counts == [1] * 25 + [2] * 35


def test_a_lost_face_is_looked_for_in_its_place_for_a_while() -> None:
    crowd = _Crowd(second=range(5))
    assert _faces_seen(crowd, 30) == [2] * 5 + [1] * 25
    wanted = [near for _, _, near in crowd.asked]
    assert wanted[6] == 2 and wanted[-1] == 1


def test_where_nobody_is_seen_tiles_are_searched_more_often() -> None:
    crowd = _Crowd(second=range(0), first=range(0))
    assert _faces_seen(crowd, 30) == [0] * 30
    assert [index for index, thorough, _ in crowd.asked if thorough] == [0, 8, 16, 24]
