from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import openface_pairs
from emoverse.faces.face import Face
from emoverse.faces.records import AUFrame


def face(x: float) -> Face:
    points = np.zeros((478, 3), np.float32)
    return Face((x, 0, x + 100, 100), points, {}, 1.0, (0, 0, 0))


def row(x: float | None, confidence: float = 0.9) -> AUFrame:
    return AUFrame(0, 0.0, 0, confidence, {}, None if x is None else (x, 0, x + 100, 100))


def test_rows_with_landmarks_go_to_the_face_they_overlap() -> None:
    left, right = face(0), face(300)
    joined = openface_pairs.match([row(310), row(5), row(900)], [left, right])
    assert [(r.box and r.box[0], f) for r, f in joined] == [(310, right), (5, left)]


def test_boxes_of_a_larger_picture_are_scaled() -> None:
    joined = openface_pairs.match([replace(row(0), box=(600, 0, 800, 200))], [face(300)], 2.0)
    assert len(joined) == 1


def test_without_landmarks_only_lone_faces_are_joined() -> None:
    assert len(openface_pairs.match([row(None)], [face(0)])) == 1
    assert openface_pairs.match([row(None), row(None)], [face(0)]) == []
    assert openface_pairs.match([row(None)], [face(0), face(300)]) == []


def test_rows_that_openface_distrusts_teach_nothing() -> None:
    assert openface_pairs.match([row(None, 0.2)], [face(0)]) == []
    assert openface_pairs.match([row(0, 0.2)], [face(0)]) == []


def test_a_folder_without_pairs_is_said(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="at least two clips"):
        openface_pairs.read(tmp_path)
