from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.face import head_pose, overlap
from emoverse.faces.landmarks import detector
from tests.emt import drawn


def test_overlap() -> None:
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 1, 1), (1, 1, 2, 2)) == 0


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, -40), (-25, 15, 35)]
)
def test_head_pose_reads_back_its_angles(yaw: float, pitch: float, roll: float) -> None:
    y, p, r = np.radians([yaw, -pitch, -roll])
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    matrix = np.array(about_y) @ about_x @ about_z
    assert head_pose(matrix) == pytest.approx((yaw, pitch, roll), abs=1e-9)


def test_bad_models_and_arguments(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such face landmark model"):
        detector(model=tmp_path / "none.task")
    with pytest.raises(EmoVerseError, match="max_faces"):
        detector(max_faces=0, model=tmp_path)
    with pytest.raises(EmoVerseError, match="running_mode"):
        detector("live", model=tmp_path)  # type: ignore[arg-type]


def test_a_broken_model_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.task"
    broken.write_bytes(b"not a model")
    with pytest.raises(EmoVerseError, match="not a usable face landmark model"):
        detector(model=broken)


def test_pictures_without_faces(landmarker: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with detector(model=landmarker) as eyes:
        for shape in ((8, 8), (16, 16, 3), (3, 900, 3), (240, 320, 3)):
            assert eyes.detect(np.full(shape, 90, np.uint8)) == []
        with pytest.raises(EmoVerseError, match="uint8"):
            eyes.detect(np.zeros((8, 8, 4), np.uint8))
        with pytest.raises(EmoVerseError, match="uint8"):
            eyes.detect(np.zeros((8, 8, 3), np.float32))  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""
    with pytest.raises(EmoVerseError, match="closed"):
        eyes.detect(np.zeros((8, 8, 3), np.uint8))


def test_video_mode_needs_rising_times(landmarker: Path) -> None:
    blank = np.zeros((64, 64, 3), np.uint8)
    with detector("video", model=landmarker) as eyes:
        assert eyes.detect(blank, 0) == []
        for time in (None, 0):
            with pytest.raises(EmoVerseError, match="rising"):
                eyes.detect(blank, time)


def test_a_real_face(landmarker: Path, shared: Path) -> None:
    with Image.open(shared / "faces" / "single_face.jpg") as opened:
        picture = opened.convert("RGB")
    image = np.asarray(picture)
    with detector(model=landmarker) as eyes:
        (face,) = eyes.detect(image)
        assert face.landmarks.shape == (478, 3)
        assert tuple(face.blendshapes) == BLENDSHAPES
        assert all(0 <= value <= 1 for value in face.blendshapes.values())
        x0, y0, x1, y1 = face.box
        assert 0 <= x0 < x1 <= image.shape[1] and 0 <= y0 < y1 <= image.shape[0]
        assert face.confidence > 0.9
        # Turned clockwise, the head rolls clockwise.
        (turned,) = eyes.detect(np.asarray(picture.rotate(-20)))
        assert turned.pose[2] - face.pose[2] == pytest.approx(20, abs=5)
        # Mirrored, it looks the other way.
        (mirrored,) = eyes.detect(np.ascontiguousarray(image[:, ::-1]))
        assert mirrored.pose[0] == pytest.approx(-face.pose[0], abs=5)
        # A thumbnail of the face alone is enlarged and still found, in its own pixels.
        thumb = picture.crop((int(x0), int(y0), int(x1), int(y1))).resize((48, 48))
        (small,) = eyes.detect(np.asarray(thumb))
        assert 20 < small.box[2] - small.box[0] < 60


def test_more_people_are_found_when_searched_for(landmarker: Path, shared: Path) -> None:
    with Image.open(shared / "faces" / "multi_face.jpg") as opened:
        image = np.asarray(opened.convert("RGB"))
    with detector(model=landmarker) as eyes:
        quick, thorough = eyes.detect(image, thorough=False), eyes.detect(image, thorough=True)
    assert len(quick) < len(thorough) <= 4
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in thorough]
    assert areas == sorted(areas, reverse=True)


def test_a_small_face_is_found_where_it_was_a_moment_ago(landmarker: Path) -> None:
    wide = np.full((720, 2400, 3), 120, np.uint8)
    wide[240:480, 500:820] = drawn.face(0.5)
    moved = np.roll(wide, 12, axis=1)
    with detector(model=landmarker) as eyes:
        (before,) = eyes.detect(wide, thorough=True)
        assert eyes.detect(moved, thorough=False) == [], "too small in the whole picture"
        (now,) = eyes.detect(moved, thorough=False, near=[before])
        assert overlap(now.box, tuple(np.add(before.box, (12, 0, 12, 0)))) > 0.8  # type: ignore[arg-type]
        elsewhere = eyes.detect(np.roll(wide, 900, axis=1), thorough=False, near=[before])
        assert elsewhere == []
        # One that the whole picture shows is not looked for again.
        face = drawn.face(0.5)
        found = eyes.detect(face)
        assert len(eyes.detect(face, thorough=False, near=found)) == len(found) == 1
