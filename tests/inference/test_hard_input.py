"""Every kind of awkward clip gets a sensible answer or one clear sentence.

The model is random and small: what is tested is everything between the file and the answers. The
faces are the demo clip's.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.inference.engine import Engine
from emoverse.models import weights

from ..faces.clips import write, write_audio
from ..models.tiny import tiny_model

pytestmark = pytest.mark.slow

TEXT = "I was not expecting that."
_LANDMARKER = weights.cache_dir() / weights.FACE_LANDMARKER.file


@pytest.fixture(scope="module")
def engine() -> Engine:
    if not _LANDMARKER.is_file():
        pytest.skip("needs the face landmark model; run `emoverse pull compact`")
    return Engine(tiny_model())


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A frame of the demo clip, cut to the woman's head and shoulders, 320 x 320."""
    if not weights.pulled():
        pytest.skip("needs the demo clip; run `emoverse pull compact`")
    frame = next(video.frames(weights.demo_clip(), max_side=960)).image
    side = min(frame.shape[:2])
    square = Image.fromarray(frame[:side, -side:])
    return np.asarray(square.resize((320, 320)))


def _refusal(engine: Engine, clip: Path, text: str | None = TEXT) -> str:
    with pytest.raises(EmoVerseError) as caught:
        engine.analyze(clip, text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert clip.name in sentence
    return sentence


def test_missing_file_folder_empty_and_corrupt_files(engine: Engine, tmp_path: Path) -> None:
    assert "no such file" in _refusal(engine, tmp_path / "gone.mp4").lower()
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    _refusal(engine, folder)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "empty" in _refusal(engine, empty)
    corrupt = tmp_path / "corrupt.mp4"
    corrupt.write_bytes(np.random.default_rng(0).bytes(5000))
    _refusal(engine, corrupt)
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(write(tmp_path / "whole.mp4").read_bytes()[64:])
    _refusal(engine, headless)


def test_sound_alone(engine: Engine, tmp_path: Path) -> None:
    assert "no picture" in _refusal(engine, write_audio(tmp_path / "sound.mp4"))


def test_no_face_is_answered_from_the_text_and_refused_without_it(
    engine: Engine, tmp_path: Path
) -> None:
    clip = write(tmp_path / "grey.mp4", count=10)
    found = engine.analyze(clip, TEXT)
    assert set(found.answers) == {"msa", "er"} and found.peak is None
    assert any("No face" in warning for warning in found.warnings)
    assert "give what is said" in _refusal(engine, clip, None)
    assert "give what is said" in _refusal(engine, clip, " \n")


def test_one_face_without_text(engine: Engine, portrait: np.ndarray, tmp_path: Path) -> None:
    found = engine.analyze(write(tmp_path / "one.mp4", [portrait] * 10))
    assert found.people == 1 and found.peak is not None
    assert set(found.answers) == {"msa", "er", "fer", "eri"}
    assert any("No text" in warning for warning in found.warnings)


def test_several_faces_are_told_apart(engine: Engine, portrait: np.ndarray, tmp_path: Path) -> None:
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    found = engine.analyze(write(tmp_path / "two.mp4", [pair] * 10), TEXT)
    assert found.people == 2
    assert {curve.person for curve in found.curves} == {0, 1}


@pytest.mark.parametrize("side", [16, 4000])
def test_tiny_and_huge_frames(
    engine: Engine, portrait: np.ndarray, tmp_path: Path, side: int
) -> None:
    picture = np.asarray(Image.fromarray(portrait).resize((side, side)))
    found = engine.analyze(write(tmp_path / "clip.mp4", [picture] * 3), TEXT)
    assert found.people <= 1 and (side == 16 or found.people == 1)
    assert found.answers["msa"].label is not None
    if found.peak:
        x0, y0, x1, y1 = found.peak.box
        shown = Image.open(io.BytesIO(found.peak.jpeg))
        assert 0 <= x0 < x1 <= shown.width and 0 <= y0 < y1 <= shown.height


def test_variable_frame_rate(engine: Engine, portrait: np.ndarray, tmp_path: Path) -> None:
    times = [0, 40, 90, 300, 1000, 1033, 1066, 2000]
    frames = [portrait] * len(times)
    found = engine.analyze(write(tmp_path / "vfr.mkv", frames, times=times), TEXT)
    (curve,) = found.curves
    assert set(curve.timestamps) <= {time / 1000 for time in times}


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_phone_is_set_upright(
    engine: Engine, portrait: np.ndarray, tmp_path: Path, turn: int
) -> None:
    stored = np.ascontiguousarray(np.rot90(portrait, -turn // 90))
    clip = write(tmp_path / "phone.mp4", [stored] * 4, rotation=(turn, False, False))
    assert engine.analyze(clip, TEXT).people == 1


def test_four_hours_take_bounded_memory_and_are_sampled(tmp_path: Path) -> None:
    if not _LANDMARKER.is_file():
        pytest.skip("needs the face landmark model; run `emoverse pull compact`")
    clip = write(tmp_path / "film.mp4", count=14_400, fps=1, gop=60)
    # What is measured is the growth while the clip is read, in a process of its own.
    script = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from emoverse.faces import analyse_faces\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "analyse_faces(Path(sys.argv[1]), max_frames=2)\n"
        "before = peak()\n"
        "track = analyse_faces(Path(sys.argv[1]))\n"
        "print(json.dumps([peak() - before, track.info.duration, list(track.warnings)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(clip)], capture_output=True, text=True, check=True
    )
    grown, duration, warnings = json.loads(done.stdout.splitlines()[-1])
    assert duration == pytest.approx(14_400, abs=2)
    assert grown < 300
    assert any("is long" in warning for warning in warnings)
