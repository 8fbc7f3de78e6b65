"""A dataset whose action units OpenFace itself measures; a script stands in for it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from emoverse.emt import clips
from emoverse.emt.build import FaceWork, build
from emoverse.emt.clips import Cut, Settings, read_look
from emoverse.emt.record import load_records
from emoverse.errors import EmoVerseError
from emoverse.faces.landmarks import detector
from tests.faces.test_openface_program import program

from . import drawn

# The drawn face lies within these landmarks; AU12 is highest in OpenFace's frame 8, our 7.
_ROWS = """[
    f"{n}, 0, {(n - 1) / 12:.3f}, 0.98, 1, 105, 215, 40, 205, {4 - abs(n - 8) / 10}, 0"
    for n in range(1, 25)
]"""
_OPENFACE = FaceWork(settings=Settings(source="openface"), workers=1)


def _writing(rows: str) -> str:
    """A program that writes OpenFace's CSV with these rows, an expression."""
    return f"""
header = "frame, face_id, timestamp, confidence, success, x_0, x_1, y_0, y_1, AU12_r, AU26_r"
lines = [header, *{rows}]
(Path(after("-out_dir")) / (after("-of") + ".csv")).write_text("\\n".join(lines) + "\\n")
"""


def test_openface_measures_the_clips_of_a_build(
    tmp_path: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meld, out = drawn.meld(tmp_path / "meld", clips=1), tmp_path / "EMT"
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", _writing(_ROWS))))
    summary = build(out, meld_dir=meld, faces=_OPENFACE, log=lambda _: None)
    assert summary["au_source"] == "openface" and summary["clips"] == {"with a face": 1}
    (caption,) = [r for r in load_records(out / "train.jsonl") if r.task == "fer"]
    assert caption.label == ["AU12"] and caption.meta["peak"]["frame"] == 7
    (peak,) = caption.images
    for path, size in ((peak, (320, 240)), (str(caption.meta["face"]), (192, 192))):
        with Image.open(out / path) as picture:
            assert picture.size == size
    assert "program_sha256" in json.loads((out / "manifest.json").read_text())["faces"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("[]", "No face was found in"),
        ('["1, 0, 0, 0.2, 1, 105, 215, 40, 205, 3, 0"]', "can be trusted (highest confidence 0.20"),
        ('["1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"]', "can be trusted (highest confidence 0.00"),
    ],
)
def test_a_clip_without_a_face_keeps_its_video(
    tmp_path: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch, rows: str, said: str
) -> None:
    meld, out = drawn.meld(tmp_path / "meld", clips=1), tmp_path / "EMT"
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", _writing(rows))))
    summary = build(out, meld_dir=meld, faces=_OPENFACE, log=lambda _: None)
    assert summary["clips"] == {"without a face": 1}
    assert said in (out / "clips.txt").read_text()
    (emotion,) = [r for r in load_records(out / "train.jsonl") if r.task == "er"]
    assert emotion.videos == (str(meld / "train" / "train_splits" / "dia0_utt0.mp4"),)


def test_openface_is_stopped_before_its_worker(
    tmp_path: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "EMT", tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))  # OpenFace's own files, for a while
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", "time.sleep(600)")))
    cut = Cut("slow", str(drawn.clip(tmp_path / "clip.mp4", peak=8)))
    with detector(model=landmarker) as eyes:
        monkeypatch.setattr(clips, "detector", lambda **_: eyes)
        clips.worker(out, _OPENFACE.settings, landmarker, timeout=5.0)(cut)
    assert "took longer than 4 seconds" in str(read_look(out, cut).error)  # 4.5, in fact
    assert not list(left.iterdir())


def test_what_openface_cannot_measure_is_told_before_the_work(
    tmp_path: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", "sys.exit(3)")))
    mosei = drawn.mosei(tmp_path / "mosei", [(0.0, 1.5)])
    with pytest.raises(EmoVerseError, match="mosei has whole videos"):
        build(tmp_path / "EMT", mosei_dir=mosei, faces=_OPENFACE, log=lambda _: None)
    with pytest.raises(EmoVerseError, match="not measured on pictures"):
        build(tmp_path / "EMT", faces_dir=mosei, faces=_OPENFACE, log=lambda _: None)
    meld = drawn.meld(tmp_path / "meld", clips=1)
    summary = build(tmp_path / "EMT", meld_dir=meld, faces=_OPENFACE, log=lambda _: None)
    assert summary["clips"] == {"unreadable": 1}, "a clip that the program fails on"
    assert "exit 3" in (tmp_path / "EMT" / "clips.txt").read_text()
    monkeypatch.delenv("EMOVERSE_OPENFACE")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmoVerseError, match="OpenFace is not installed"):
        build(tmp_path / "EMT", meld_dir=meld, faces=_OPENFACE, log=lambda _: None)
