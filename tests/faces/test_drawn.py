"""The drawn face: a face to the face model, whose action units follow the drawing."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces, drawn, video


def test_a_clip_is_three_seconds_of_rest_rise_and_fall(tmp_path: Path) -> None:
    path = drawn.clip(tmp_path / "deep" / "smile.mp4", "smile")
    info = video.probe(path)
    assert (info.width, info.height, info.fps) == (drawn.WIDTH, drawn.HEIGHT, drawn.FPS)
    assert info.duration == pytest.approx(drawn.SECONDS, abs=0.1)
    frames = [frame.image.astype(int) for frame in video.frames(path)]
    moved = [abs(frame - frames[0]).mean() for frame in frames]
    assert moved.index(max(moved)) in range(len(frames) // 4, 3 * len(frames) // 4)
    assert moved[-1] < max(moved) / 3
    assert list(path.parent.iterdir()) == [path]


def test_an_unknown_look_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"'grin'.*smile"):
        drawn.clip(tmp_path / "a.mp4", "grin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("look", "units"),
    [
        ("smile", ("AU12", "AU25")),
        ("surprise", ("AU01", "AU02", "AU05", "AU26")),
        ("frown", ("AU04", "AU15")),
    ],
)
@pytest.mark.usefixtures("landmarker")
def test_action_units_follow_the_drawing(tmp_path: Path, look: str, units: tuple[str, ...]) -> None:
    track = analyse_faces(drawn.clip(tmp_path / "a.mp4", look))
    assert track.people == 1 and not track.warnings
    assert track.peak is not None and 0.8 < track.peak.timestamp < 2.4
    rest = track.frames[0].intensities
    for unit in units:
        assert max(frame.intensities[unit] for frame in track.frames) > rest[unit] + 0.2, unit
