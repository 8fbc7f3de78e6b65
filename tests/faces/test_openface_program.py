from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import openface_program, sources
from tests.emt import drawn

from .clips import write

CSV = """frame, face_id, timestamp, confidence, success, x_0, x_1, y_0, y_1, AU06_r, AU12_r, AU12_c
1, 0, 0.000, 0.98, 1, 10, 30, 5, 25, 0.50, 1.25, 1.0
2, 0, 0.033, 0.98, 1, 10, 30, 5, 25, 1.50, 3.25, 1.0
3, 0, 0.067, 0.98, 1, 10, 30, 5, 25, 0.50, 2.25, 1.0
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mp4", count=3)


def program(folder: Path, body: str, name: str = "FaceLandmarkVidMulti") -> Path:
    """An executable that takes OpenFace's arguments."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport sys, time\nfrom pathlib import Path\n"
        "def after(flag):\n    return sys.argv[sys.argv.index(flag) + 1]\n" + body
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


WRITES = f"""
assert Path(after("-f")).is_file() and "-aus" in sys.argv and "-2Dfp" in sys.argv
(Path(after("-out_dir")) / (after("-of") + ".csv")).write_text({CSV!r})
"""


def test_it_is_run_and_read(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, landmarker: Path
) -> None:
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", WRITES)))
    assert [row.intensities["AU12"] for row in openface_program.measure(clip)] == [1.25, 3.25, 2.25]
    found = sources.measure(clip, "openface", emotion="joy")
    assert found.peak is not None and found.peak.frame == 1
    assert found.caption is not None and found.caption.codes == ("AU12", "AU06")


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = program(tmp_path / "bin", WRITES, "FeatureExtraction")
    monkeypatch.delenv("EMOVERSE_OPENFACE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(EmoVerseError, match=r"not installed.* use the source mediapipe"):
        openface_program.find()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert openface_program.find() == single
    several = program(tmp_path / "bin", WRITES)
    assert openface_program.find() == several
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(tmp_path / "bin"))
    assert openface_program.find() == several
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(tmp_path / "none"))
    with pytest.raises(EmoVerseError, match="EMOVERSE_OPENFACE"):
        openface_program.find()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no models', file=sys.stderr); sys.exit(3)", r"exit 3\) no models"),
        ("pass", r"exit 0"),
        ("time.sleep(30)", "longer than 1 seconds"),
    ],
)
def test_its_failures_are_told(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", body)))
    with pytest.raises(EmoVerseError, match=said):
        openface_program.measure(clip, timeout=1.0 if "sleep" in body else 60.0)


def test_a_long_clip_keeps_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landmarker: Path
) -> None:
    """Sampled as a clip is for its peak, rows far from a sampled frame belonged to nobody."""
    count = 700  # seconds
    body = f"""
rows = ["frame, face_id, timestamp, confidence, success, x_0, x_1, y_0, y_1, AU12_r"]
rows += [f"{{n}}, 0, {{n - 1}}, 0.98, 1, 105, 215, 40, 205, 1" for n in range(1, {count + 1})]
(Path(after("-out_dir")) / (after("-of") + ".csv")).write_text("\\n".join(rows))
"""
    monkeypatch.setenv("EMOVERSE_OPENFACE", str(program(tmp_path / "bin", body)))
    clip = write(tmp_path / "long.mp4", [drawn.face(0.5)] * count, fps=1)
    found = sources.measure(clip, "openface")
    assert len(found.frames) == count and found.people == 1
