from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces, crop, video
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
