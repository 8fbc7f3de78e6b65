"""The picture of Eq 1."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emoverse.cli import app
from emoverse.errors import EmoVerseError
from emoverse.faces import drawn
from emoverse.faces.captions import describe
from emoverse.faces.curve import curve, peak_image
from emoverse.faces.peak import peak
from emoverse.faces.records import AUFrame

SVG = "{http://www.w3.org/2000/svg}"


def _frame(number: int, person: int, smile: float, confidence: float = 1.0) -> AUFrame:
    return AUFrame(number, number / 10, person, confidence, {"AU12": smile, "AU25": 0.5})


def _drawn(frames: list[AUFrame], **how: object) -> ET.Element:
    chosen = peak(frames)
    return ET.fromstring(curve(frames, chosen, describe(chosen.intensities), **how))  # type: ignore[arg-type]


def test_a_line_a_person_broken_where_nobody_was_seen() -> None:
    first = [_frame(n, 0, n / 10) for n in (0, 1, 2, 20, 21)]
    second = [_frame(n, 1, 3.0) for n in (5, 6)]
    found = _drawn([*first, *second])
    lines = [one.get("points", "").split() for one in found.iter(f"{SVG}polyline")]
    by_person = [points for points in lines[1:-1]]  # between the axes and the peak's line
    assert sorted(map(len, by_person)) == [2, 2, 3]
    assert {"person 0", "person 1"} <= {one.text for one in found.iter(f"{SVG}text")}


def test_the_peak_is_marked_where_the_curve_is_highest() -> None:
    found = _drawn([_frame(n, 0, [0.0, 1.0, 4.0, 2.0][n]) for n in range(4)])
    dots = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in found.iter(f"{SVG}circle")]
    assert dots[-1] == min(dots[:-1], key=lambda dot: dot[1])
    assert "frame 2, 0.20 s, S = 4.50" in {one.text for one in found.iter(f"{SVG}text")}
    assert any("Grinning" in (one.text or "") for one in found.iter(f"{SVG}text"))


def test_uncertain_faces_are_hollow() -> None:
    found = _drawn([_frame(0, 0, 1.0), _frame(1, 0, 5.0, confidence=0.4)])
    assert [one.get("fill") for one in found.iter(f"{SVG}circle")][1] == "#ffffff"


def test_the_picture_is_inside() -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    found = next(_drawn([_frame(0, 0, 1.0)], image=image).iter(f"{SVG}image"))
    data = base64.b64decode(re.sub("^data:image/jpeg;base64,", "", found.get("href", "")))
    assert Image.open(io.BytesIO(data)).size == (80, 60)


def test_the_peak_is_read_from_the_clip_again(tmp_path: Path) -> None:
    clip = drawn.clip(tmp_path / "c.mp4", "smile")
    frame = _frame(20, 0, 1.0)
    assert peak_image(clip, frame).shape == (drawn.HEIGHT, drawn.WIDTH, 3)
    with pytest.raises(EmoVerseError, match="no frame 999"):
        peak_image(clip, _frame(999, 0, 1.0))


def test_faces_draws_it(tmp_path: Path, landmarker: Path) -> None:
    clip = drawn.clip(tmp_path / "c.mp4", "surprise")
    out = tmp_path / "curve.svg"
    done = CliRunner().invoke(app, ["faces", str(clip), "--curve", str(out)])
    assert done.exit_code == 0, done.output
    found = ET.fromstring(out.read_text(encoding="utf-8"))
    assert len(list(found.iter(f"{SVG}image"))) == 1


def test_without_a_face_the_command_says_that_nothing_was_drawn(tmp_path: Path) -> None:
    clip, out = tmp_path / "nobody.csv", tmp_path / "curve.svg"
    clip.write_text("frame, timestamp, confidence, success, AU12_r\n1, 0, 0, 0, 0\n")
    done = CliRunner().invoke(app, ["faces", str(clip), "--curve", str(out)])
    assert done.exit_code == 0 and not out.exists()
    assert f"{out} was not drawn" in done.stderr
