from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces, crop, track, video
from emoverse.faces.face import Face
from emoverse.faces.peak import score

from .clips import write


def test_no_face_is_said(tmp_path: Path, landmarker: Path) -> None:
    clip = write(tmp_path / "grey.mp4", count=15)
    found = analyse_faces(clip, model=landmarker)
    assert found.peak is None and found.peak_image is None and found.caption is None
    assert (found.people, found.frames, found.curves) == (0, (), {})
    assert found.warnings == (f"No face was found in {clip}.",)


def test_a_long_clip_is_sampled_and_says_so(tmp_path: Path, landmarker: Path) -> None:
    clip = write(tmp_path / "long.mp4", count=1500, fps=1)
    found = analyse_faces(clip, model=landmarker, max_frames=12)
    assert found.interval == pytest.approx(1500 / 12)
    assert any("is long: 12 frames" in warning for warning in found.warnings)


def test_a_long_clip_of_few_frames_is_read_whole(tmp_path: Path, landmarker: Path) -> None:
    clip = write(tmp_path / "slides.mp4", times=[0, 30_000, 60_000, 90_000])
    found = analyse_faces(clip, model=landmarker)
    assert found.warnings == (f"No face was found in {clip}.",)
    part = analyse_faces(clip, model=landmarker, start=6.0, end=8.0)
    assert part.info.duration == 2.0 and len(part.warnings) == 1


def test_an_animations_further_pictures_are_told_once(tmp_path: Path, landmarker: Path) -> None:
    path = tmp_path / "a.png"
    first, second = (Image.new("RGB", (64, 48), grey) for grey in ("grey", "white"))
    first.save(path, save_all=True, append_images=[second])
    found = analyse_faces(path, model=landmarker)
    assert [warning for warning in found.warnings if "first of its 2" in warning] == [
        f"{path}: only the first of its 2 pictures was used."
    ]


class _Crowd:
    """Sees a lasting face that talks and smiles a little, and three loud patterns once each."""

    def __init__(self) -> None:
        self.frame = -1

    def detect(self, image: np.ndarray, **how: Any) -> list[Face]:
        self.frame += how.get("known") is None
        faces = [self._face(10, 7, {"AU12": 0.1 * self.frame, "AU25": self.frame % 2})]
        for n in range(3):
            seed = 1000 + 3 * self.frame + n
            faces.append(self._face(300 + 150 * (seed % 5), seed, {"AU12": 5.0, "AU04": 5.0}))
        return faces

    def _face(self, x: float, seed: int, aus: dict[str, float]) -> Face:
        points = np.random.default_rng(seed).random((478, 3)).astype(np.float32) * 100
        points[:, 0] += x
        return Face((x, 0, x + 100, 100), points, aus, 1.0, (0, 0, 0))


@pytest.mark.parametrize("person", ["max", "speaker"])
@pytest.mark.parametrize("reread", [True, False])
def test_a_weak_face_among_many_strong_patterns_is_the_peak(
    monkeypatch: pytest.MonkeyPatch, person: str, reread: bool
) -> None:
    monkeypatch.setattr(track, "reader", lambda source: lambda face: face.blendshapes)

    def picture(number: int) -> np.ndarray:
        image = np.random.default_rng(0).integers(0, 256, (200, 1200, 3), np.uint8)
        image[0, 0, 0] = number
        return image

    def frames() -> Iterator[video.LazyFrame]:
        for n in range(30):
            yield video.LazyFrame(n, n / 10, True, 0, partial(picture, n))

    info = video.VideoInfo(Path("crowd"), 1200, 200, 10.0, 3.0, 30, 0, False)
    found = track.analyse_frames(
        frames(),
        info,
        _Crowd(),  # type: ignore[arg-type]
        rate=10.0,
        name="crowd",
        again=frames if reread else None,
        refine=False,
        person=person,
    )
    assert found.people == 1 and found.peak is not None
    assert found.peak.frame == 29 and found.peak.box == (10, 0, 110, 100)
    assert found.peak_image is not None and found.peak_image[0, 0, 0] == 29
    assert [portrait.frame for portrait in found.portraits] == [found.peak]


def test_mistakes_are_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such file"):
        analyse_faces(tmp_path / "none.mp4")
    clip = write(tmp_path / "clip.mp4", count=2)
    with pytest.raises(EmoVerseError, match="'blue'"):
        analyse_faces(clip, emotion="blue")
    with pytest.raises(EmoVerseError, match="max_frames"):
        analyse_faces(clip, max_frames=0)


def test_a_real_clip(landmarker: Path, shared: Path) -> None:
    clip = shared / "video" / "single_face.mp4"
    found = analyse_faces(clip, model=landmarker, max_fps=5, emotion="happy")
    assert found.people == 1 and found.warnings == ()
    peak, image, landmarks = found.peak, found.peak_image, found.peak_landmarks
    assert peak is not None and image is not None and landmarks is not None
    assert score(peak) == max(map(score, found.frames))
    assert list(found.curves) == [0] and peak in found.curves[0]
    assert found.caption is not None and "Grinning" in found.caption.phrases
    assert max(image.shape) <= 640
    assert crop.crop(image, landmarks).shape == (crop.SIZE, crop.SIZE, 3)
    # The kept picture is the peak frame itself.
    frame = next(f for f in video.frames(clip, max_side=640) if f.index == peak.frame)
    assert np.array_equal(frame.image, image)


def test_fleeting_patterns_are_no_faces(landmarker: Path, shared: Path) -> None:
    found = analyse_faces(shared / "video" / "no_face.mp4", model=landmarker)
    assert found.peak is None and found.people == 0


def test_faces_that_come_later_are_found(landmarker: Path, shared: Path) -> None:
    found = analyse_faces(shared / "video" / "noface_face.mov", model=landmarker, max_fps=5)
    assert found.people == 1
    assert found.frames[0].timestamp > 1


def test_a_group_photo(landmarker: Path, shared: Path) -> None:
    found = analyse_faces(shared / "faces" / "multi_face.jpg", model=landmarker)
    assert found.people >= 3
    assert found.peak is not None and found.peak.frame == 0
