from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis
from emoverse.inference.film_report import write_folder_page
from emoverse.inference.folder import clip_names, folder_result, read_folder
from emoverse.inference.interview import Prediction, Question
from emoverse.inference.journal import journal

from ..faces.clips import write, write_audio
from ..serving.browsing import Scripted
from .film_made import FPS, Model, talking

pytestmark = pytest.mark.slow


@pytest.fixture
def clips(tmp_path: Path, landmarker: Path) -> Path:
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    for name in ("a", "more/b"):
        write(folder / f"{name}.mp4", talking(1), fps=FPS)
    (folder / "a.txt").write_text("Hooray!\n")
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    write_audio(folder / "sound.mp4")
    write(folder / "wall.mp4", count=6)
    return folder


def _read(clips: Path, lines: Path, model: Model) -> list[dict[str, Any]]:
    with journal(lines, "folder", {}) as book:
        assert read_folder(clips, book, model, "stand-in", workers=0) == []
        return folder_result(book, clip_names(clips))


def test_every_clip_gets_a_line_and_bad_ones_say_why(clips: Path, tmp_path: Path) -> None:
    found = _read(clips, tmp_path / "a.jsonl", Model())
    assert [row["clip"] for row in found] == [
        "a.mp4",
        "broken.mp4",
        "more/b.mp4",
        "sound.mp4",
        "wall.mp4",
    ]
    a, broken, b, sound, wall = found
    assert a["analysis"]["answers"]["er"]["label"] == "joy" and a["analysis"]["text"] == "Hooray!"
    assert b["analysis"]["text"] is None and b["analysis"]["people"] == 1
    assert "broken.mp4" in broken["error"] and "no picture" in sound["error"]
    assert "no face" in wall["error"]


def test_a_later_run_reads_what_is_new_or_changed(clips: Path, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    _read(clips, lines, Model())
    model = Model()
    _read(clips, lines, model)
    assert not model.asked
    (clips / "wall.txt").write_text("Alas.")
    write(clips / "c.mp4", talking(1), fps=FPS)
    write(clips / "broken.mp4", talking(1), fps=FPS)
    os.remove(clips / "a.mp4")
    found = {row["clip"]: row for row in _read(clips, lines, model)}
    assert found["wall.mp4"]["analysis"]["answers"]["er"]["label"] == "sadness"
    assert "error" not in found["broken.mp4"] and "c.mp4" in found
    assert len(model.queries("er")) == 3
    assert "a.mp4" not in found  # it is gone


def test_a_clip_replaced_while_it_is_read_is_read_again(tmp_path: Path, landmarker: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write(clips / "a.mp4", talking(1), fps=FPS)
    model = Model()

    def replacing(questions: Sequence[Question]) -> list[Prediction]:
        write(clips / "a.mp4", talking(2), fps=FPS)
        return model(questions)

    with journal(tmp_path / "a.jsonl", "folder", {}) as book:
        read_folder(clips, book, replacing, "stand-in", workers=0)
    (found,) = _read(clips, tmp_path / "a.jsonl", model)
    assert found["analysis"]["duration"] == pytest.approx(2)
    assert len(model.queries("er")) == 2


def test_a_clip_whose_name_is_not_utf_8_is_read(tmp_path: Path, landmarker: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write(clips / "a.mp4", talking(1), fps=FPS)
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        os.rename(clips / "a.mp4", clips / name)
    except OSError:
        pytest.skip("this system's names are all UTF-8")
    lines, model = tmp_path / "a.jsonl", Model()
    (found,) = _read(clips, lines, model)
    assert found["clip"] == name and found["analysis"]["people"] == 1
    asked = len(model.asked)
    assert _read(clips, lines, model) == [found] and len(model.asked) == asked
    with journal(lines, "folder", {}) as book:
        assert "caf\\udce9.mp4" in write_folder_page(clips, book, tmp_path / "a.html").read_text()


def test_a_line_lost_to_a_kill_is_read_again(clips: Path, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    whole = _read(clips, lines, Model())
    lines.write_bytes(lines.read_bytes()[:-40])
    assert _read(clips, lines, Model()) == whole


def test_the_page_shows_every_clip(clips: Path, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    _read(clips, lines, Model())
    with journal(lines, "folder", {}) as book:
        html = write_folder_page(clips, book, tmp_path / "a.html").read_text()
    assert html.count("<article") == 5 and html.count("<img") == 2
    assert "broken.mp4 is not a video" in html and "http" not in html.replace("http-equiv", "")


def test_clips_that_are_gone_are_left_out(clips: Path, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    _read(clips, lines, Model())
    for name in ("broken", "sound", "wall"):
        os.remove(clips / f"{name}.mp4")
    found = _read(clips, lines, Model())
    assert [row["clip"] for row in found] == ["a.mp4", "more/b.mp4"]
    with journal(lines, "folder", {}) as book:
        html = write_folder_page(clips, book, tmp_path / "a.html").read_text()
        assert len({row["clip"] for row in book.rows()}) == 5  # nothing read is thrown away
    assert html.count("<article") == 2 and "broken.mp4" not in html


def test_many_clips_are_read_together_in_order(clips: Path) -> None:
    engine = Scripted()
    wanted = [("a.mp4", "Hooray!"), ("broken.mp4", "Hm."), ("more/b.mp4", None), ("wall.mp4", None)]
    given = [(clips / name, text) for name, text in wanted]
    asked: list[int] = []
    answer = engine.ask
    engine.ask = lambda some, told=None: asked.append(len(some)) or answer(some, told)  # type: ignore[method-assign, func-returns-value]
    first, broken, second, wall = engine.analyze_many(given, workers=0)
    assert isinstance(first, Analysis) and first.text == "Hooray!"
    assert isinstance(second, Analysis) and second.text is None
    assert first.clip == str(clips / "a.mp4") and second.clip == str(clips / "more/b.mp4")
    assert isinstance(broken, EmoVerseError) and "broken.mp4" in str(broken)
    assert isinstance(wall, EmoVerseError) and "no face was found" in str(wall)
    # Three questions of each clip at once, then their reasons.
    assert asked == [6, 2]
    for one in (first, second):
        assert list(one.answers) == ["msa", "er", "fer", "eri"]
        assert one.curves and one.peak is not None
