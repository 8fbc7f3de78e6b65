from __future__ import annotations

import numpy as np

from emoverse.faces.face import Face
from emoverse.faces.people import Tracker


def face(x: float, y: float = 0.0, shape: int = 0, size: float = 100.0) -> Face:
    points = np.random.default_rng(shape).random((478, 3)).astype(np.float32) * size
    points[:, :2] += (x, y)
    (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return Face((float(x0), float(y0), float(x1), float(y1)), points, {}, 1.0, (0.0, 0.0, 0.0))


def test_two_people_keep_their_numbers_in_any_order() -> None:
    tracker = Tracker()
    for step in range(10):
        left, right = face(step * 5, shape=1), face(400 - step * 5, shape=2)
        pair = [left, right] if step % 2 == 0 else [right, left]
        assert tracker.update(pair, step / 10) == ([0, 1] if step % 2 == 0 else [1, 0])
    assert tracker.persons() == [0, 1]


def test_a_short_gap_continues_the_track() -> None:
    tracker = Tracker()
    assert tracker.update([face(0)], 0.0) == [0]
    assert tracker.update([], 0.5) == []
    assert tracker.update([face(10)], 1.0) == [0]


def test_a_jump_cut_does_not_multiply_people() -> None:
    tracker = Tracker()
    for step in range(20):
        tracker.update([face(0 if step < 10 else 800, size=100 if step < 10 else 160)], step / 10)
    assert tracker.persons() == [0, 0]


def test_another_face_elsewhere_is_another_person() -> None:
    tracker = Tracker()
    for step in range(20):
        tracker.update([face(0, shape=1) if step < 10 else face(800, shape=2)], step / 10)
    assert tracker.persons() == [0, 1]


def test_faces_seen_together_are_never_one_person() -> None:
    tracker = Tracker()
    for step in range(10):
        tracker.update([face(0), face(800)], step / 10)
    assert tracker.persons() == [0, 1]


def test_sparse_samples_get_a_longer_memory() -> None:
    tracker = Tracker(interval=20.0)
    assert tracker.update([face(0)], 0.0) == [0]
    assert tracker.update([face(5)], 20.0) == [0]
    assert Tracker().persons() == []


def placed(x: float, y: float) -> Face:
    """A face whose eyes lie where eyes lie in a box of 120 x 120."""
    points = face(x, y, size=120).landmarks
    for corners, middle in (((33, 133), 45), ((362, 263), 75)):
        points[list(corners), :2] = (x + middle - 8, y + 45), (x + middle + 8, y + 45)
    return Face((x, y, x + 120, y + 120), points, {}, 1.0, (0.0, 0.0, 0.0))


def drawn(face_: Face, seed: int) -> np.ndarray:
    """A picture of 1000 x 300 pixels with a pattern of its own under the face."""
    image = np.zeros((300, 1000, 3), np.uint8)
    x, y = int(face_.box[0]), int(face_.box[1])
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 1), dtype=np.uint8)
    image[y : y + 120, x : x + 120] = np.kron(coarse, np.ones((20, 20, 3), np.uint8))
    return image


def test_a_cut_to_somebody_else_in_the_same_place_is_told_by_looks() -> None:
    tracker = Tracker()
    one = placed(50, 50)
    tracks = [
        tracker.update([one], step / 10, drawn(one, seed=step // 10 % 2))[0] for step in range(30)
    ]
    persons = tracker.persons()
    assert [persons[track] for track in tracks] == [0] * 10 + [1] * 10 + [0] * 10


def test_the_same_looks_elsewhere_are_the_same_person() -> None:
    tracker = Tracker()
    places = [placed(50, 50), placed(600, 50)]
    for step in range(20):
        one = places[step // 10]
        tracker.update([one], step / 10, drawn(one, seed=3))
    assert tracker.persons() == [0, 0]
