from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from emoverse.faces.squares import around, tiles

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES)
def test_tiles_cover_the_picture(height: int, width: int) -> None:
    found = tiles(height, width)
    side, longest = min(height, width), max(height, width)
    if not found:
        assert longest < 1.2 * side
        return
    assert all(size == side for *_, size in found)
    starts = [left + top for left, top, _ in found]
    assert starts[0] == 0 and starts[-1] == longest - side
    if longest <= 4 * side:
        gaps = [after - before for before, after in itertools.pairwise(starts)]
        assert max(gaps) <= side / 2 + 1, "a face that one tile cuts is whole in the next"


@given(
    SIDES, SIDES, *(st.floats(-500, 4500) for _ in range(2)), *(st.floats(1, 900) for _ in range(2))
)
def test_a_square_around_a_face_lies_in_the_picture(
    height: int, width: int, x: float, y: float, across: float, down: float
) -> None:
    left, top, side = around((x, y, x + across, y + down), height, width, 64)
    assert 1 <= side <= min(height, width)
    assert 0 <= left <= width - side and 0 <= top <= height - side


def test_a_square_leaves_room_around_a_face() -> None:
    assert around((100, 100, 140, 160), 720, 1280, 64) == (45, 55, 150)
    assert around((100, 100, 110, 110), 720, 1280, 64) == (73, 73, 64)
