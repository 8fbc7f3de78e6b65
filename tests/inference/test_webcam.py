from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import webcam

from ..faces.clips import write, write_audio
from .film_made import FPS, Model, nobody, talking


@pytest.mark.slow
def test_a_stand_in_camera_is_read_window_by_window(tmp_path: Path, landmarker: Path) -> None:
    clip = write(tmp_path / "camera.mp4", [*talking(4.5), *nobody(3)], fps=FPS)
    model = Model()
    began = time.monotonic()
    glances = list(webcam.look(str(clip), model, "stand-in", every=1.5))
    took = time.monotonic() - began
    assert took > 6  # at its own pace
    assert len(glances) >= 3
    assert all(1 <= glance.end - glance.start <= 2 for glance in glances[:-1])
    assert all(one.end <= two.start for one, two in itertools.pairwise(glances))
    first, last = glances[0], glances[-1]
    assert first.found is not None and first.people == (1,)
    assert list(first.found.answers) == ["er", "fer"]
    assert last.found is None and last.people == ()
    faces = [glance for glance in glances if glance.found]
    # A window in which the face goes may hold too little of it to know it by.
    assert all(glance.people == (1,) for glance in faces if glance.end <= 4.5)
    assert len(model.queries("er")) == len(faces)


@pytest.mark.slow
def test_a_slow_model_sees_the_newest_frames(tmp_path: Path, landmarker: Path) -> None:
    clip = write(tmp_path / "camera.mp4", talking(7), fps=FPS)
    model = Model()

    def slow(questions: object) -> object:
        time.sleep(2.5)
        return model(questions)  # type: ignore[arg-type]

    glances = list(webcam.look(str(clip), slow, "m", every=1.0))  # type: ignore[arg-type]
    assert len(glances) <= 4
    one, two = glances[:2]
    assert two.start - one.end > 1  # what was missed is not caught up on
    assert all(glance.end - glance.start <= 1.2 for glance in glances)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have other names here")
def test_a_missing_camera_is_told_in_one_sentence(landmarker: Path) -> None:
    with pytest.raises(EmoVerseError) as caught:
        next(webcam.look("63", Model(), "m"))
    sentence = str(caught.value)
    assert "no camera 63 (/dev/video63" in sentence and "--webcam" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_a_build_without_cameras_is_told(
    monkeypatch: pytest.MonkeyPatch, landmarker: Path, system: str
) -> None:
    if sys.platform == system:
        pytest.skip("cameras can be read here")
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(EmoVerseError, match="cannot read cameras"):
        next(webcam.look("0", Model(), "m"))


@pytest.mark.parametrize(
    ("system", "source", "asked"),
    [
        ("linux", "1", ("/dev/video1", "v4l2", {})),
        ("linux", "/dev/camera", ("/dev/camera", "v4l2", {})),
        ("darwin", "0", ("0:none", "avfoundation", {"framerate": "30"})),
        ("win32", "HD Webcam", ("video=HD Webcam", "dshow", {})),
    ],
)
def test_a_camera_is_opened_as_its_system_names_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    landmarker: Path,
    system: str,
    source: str,
    asked: tuple[str, str, dict[str, str]],
) -> None:
    stand_in = write(tmp_path / "a.mp4", talking(1), fps=FPS)
    real, seen = av.open, []

    def opened(name: str, format: str, options: dict[str, str]) -> Any:
        seen.append((name, format, options))
        return real(str(stand_in))

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(webcam.av, "open", opened)
    with contextlib.suppress(EmoVerseError):  # a file is over before a window is full
        next(webcam.look(source, Model(), "m"), None)
    assert seen == [asked]


def test_a_source_without_a_picture_is_told(tmp_path: Path, landmarker: Path) -> None:
    with pytest.raises(EmoVerseError, match="gives no picture"):
        next(webcam.look(str(write_audio(tmp_path / "sound.mp4")), Model(), "m"))
    with pytest.raises(EmoVerseError, match="longer than 0"):
        next(webcam.look("0", Model(), "m", every=0))
