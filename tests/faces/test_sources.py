from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import pyfeat, sources

from .clips import write

# Person 0 grins once; person 1 talks.
DIALOGUE = "frame, face_id, timestamp, confidence, success, AU12_r, AU25_r, AU26_r\n" + "".join(
    f"{i + 1}, 0, {i / 10}, 0.9, 1, {4 if i == 7 else 0}, 0, 0\n"
    f"{i + 1}, 1, {i / 10}, 0.9, 1, 0, {1 if i % 2 else 0.2}, 0\n"
    for i in range(20)
)


@pytest.fixture
def dialogue(tmp_path: Path) -> Path:
    path = tmp_path / "dialogue.csv"
    path.write_text(DIALOGUE)
    return path


def test_the_highest_peak_or_the_speaker(dialogue: Path) -> None:
    highest = sources.measure(dialogue).peak
    assert highest is not None and (highest.person, highest.frame) == (0, 7)
    speaking = sources.measure(dialogue, person="speaker").peak
    assert speaking is not None and (speaking.person, speaking.frame) == (1, 1)


def test_eq_1_over_chosen_aus(dialogue: Path) -> None:
    found = sources.measure(dialogue, aus=("AU25",)).peak
    assert found is not None and found.person == 1


def test_merr_style(dialogue: Path) -> None:
    told = sources.measure(dialogue, emotion="joy", style="merr").caption
    assert told is not None and told.phrases == ("strongly Lip Corner Puller",)


def test_unknown_sources(dialogue: Path) -> None:
    with pytest.raises(EmoVerseError, match="'eyes'"):
        sources.measure(dialogue, "eyes")


def test_pyfeat_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feat", None)
    with pytest.raises(EmoVerseError, match=r"emoverse\[pyfeat\]"):
        sources.measure(write(tmp_path / "clip.mp4", count=2), "pyfeat")


def test_another_pyfeat_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("feat")
    old.Detector = object  # type: ignore[attr-defined]  # what py-feat 0.6 has
    monkeypatch.setitem(sys.modules, "feat", old)
    with pytest.raises(EmoVerseError, match="needs version 2 of py-feat"):
        pyfeat.find()


@pytest.mark.slow
def test_pyfeat_itself(shared: Path) -> None:
    pytest.importorskip("feat", reason="needs the extra `pyfeat`")
    (row,) = pyfeat.measure(shared / "faces" / "single_face.jpg", fps=0)
    assert row.box is not None and row.confidence > 0.5
    assert {"AU01", "AU12", "AU45"} <= set(row.intensities)
    assert all(0 <= value <= 5 for value in row.intensities.values())


class Table:
    """What py-feat returns, as far as it is read: one blank row for a frame without a face."""

    def to_dict(self, orient: str) -> list[dict[str, float]]:
        assert orient == "records"
        place = {"FaceRectX": 10.0, "FaceRectY": 5.0, "FaceRectWidth": 20.0}
        aus = {"AU12": 0.5, "AU43": 1.0, "AU11": 1.0}
        face = place | {"FaceRectHeight": 30.0, "FaceScore": 0.99} | aus
        blank = dict.fromkeys(face, math.nan)
        return [face | {"frame": 0}, blank | {"frame": 1}, face | {"frame": 2, "AU12": 0.9}]


def test_pyfeat_on_our_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Detectorv1:
        def detect(
            self, inputs: str, data_type: str = "image", *, progress_bar: bool = True
        ) -> Table:
            assert data_type == "video"
            return Table()

    module = ModuleType("feat")
    module.Detectorv1 = Detectorv1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "feat", module)
    rows = pyfeat.measure(write(tmp_path / "clip.mp4", count=3), fps=30.0)
    assert [(row.frame, row.person) for row in rows] == [(0, 0), (2, 0)]
    assert rows[0].intensities == {"AU12": 2.5, "AU45": 5.0}
    assert rows[0].box == (10, 5, 30, 35) and rows[0].confidence == 0.99
    assert rows[1].timestamp == pytest.approx(2 / 30)
