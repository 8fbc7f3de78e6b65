from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoverse.emt.pool import Crew, Done
from emoverse.faces import video
from emoverse.inference.watching import Piece, Seen, watch

from ..faces.clips import write
from .film_made import FPS, film, talking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory, landmarker: Path) -> list[Piece]:
    folder = tmp_path_factory.mktemp("clips")
    clip = film(folder / "film.mp4")
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    info = video.probe(clip)
    return [
        Piece(10, str(clip), 0.5, 2.5, info, "speaker"),
        Piece(11, str(broken)),
        Piece(12, str(write(folder / "one.mp4", talking(1), fps=FPS))),
        Piece(15, str(clip), 12.5, 14.0, info),
    ]


@pytest.fixture(scope="module")
def here(pieces: list[Piece]) -> list[Seen]:
    return list(watch(pieces, workers=0))


def test_what_is_seen_comes_in_order_and_a_broken_clip_is_told(
    pieces: list[Piece], here: list[Seen]
) -> None:
    assert [seen.piece for seen in here] == pieces
    assert [seen.error is None for seen in here] == [True, False, True, True]
    assert "broken.mp4" in str(here[1].error)
    first, wall = here[0].watched, here[3].watched
    assert first is not None and first.face and first.track.info.duration == pytest.approx(2)
    assert here[0].portraits[0].startswith(b"\xff\xd8")
    assert wall is not None and not wall.face and here[3].portraits == ()


def test_other_processes_see_the_same(pieces: list[Piece], here: list[Seen]) -> None:
    there = list(watch(pieces, workers=2))
    for one, other in zip(here, there, strict=True):
        assert (one.piece, one.error, one.portraits) == (other.piece, other.error, other.portraits)
        if one.watched is None or other.watched is None:
            assert one.watched is other.watched
            continue
        mine, theirs = one.watched.track, other.watched.track
        assert mine.frames == theirs.frames and mine.peak == theirs.peak
        assert mine.warnings == theirs.warnings and mine.info == theirs.info
        if mine.peak_image is not None and theirs.peak_image is not None:
            np.testing.assert_array_equal(mine.peak_image, theirs.peak_image)
        for first, second in zip(mine.likenesses, theirs.likenesses, strict=True):
            np.testing.assert_array_equal(first.shape, second.shape)


def test_few_are_seen_ahead_and_leaving_early_ends_the_processes(pieces: list[Piece]) -> None:
    drawn = 0

    def many() -> object:
        nonlocal drawn
        for number in range(200):
            drawn += 1
            yield Piece(number, pieces[2].path)

    seen = watch(many(), workers=1)  # type: ignore[arg-type]
    assert next(seen).piece.number == 0
    assert next(seen).piece.number == 1
    seen.close()  # type: ignore[attr-defined]
    assert drawn <= 50


def test_leaving_after_the_first_piece_ends_the_processes(
    pieces: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0
    run = Crew.run

    def counting(self: Crew[Any], tasks: Iterable[Any]) -> Iterator[Done[Any]]:
        nonlocal looked_at
        for done in run(self, tasks):
            looked_at += 1
            yield done

    monkeypatch.setattr(Crew, "run", counting)
    before = multiprocessing.active_children()
    seen = watch([replace(pieces[0], number=number) for number in range(12)], workers=1)
    assert next(seen).piece.number == 0
    seen.close()  # type: ignore[attr-defined]
    assert looked_at < 12  # the others are not waited for
    assert set(multiprocessing.active_children()) <= set(before)
