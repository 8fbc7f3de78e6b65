"""`emoverse analyze` of films, folders and cameras; the model is a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emoverse import cli
from emoverse.commands import reading
from emoverse.inference import engine as inference

from ..faces.clips import write
from ..models.tiny import tiny_model
from .film_made import FPS, Model, film, talking, transcript

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[int, str, str]]


class Engine:
    name = "stand-in"
    frames = 0

    def __init__(self) -> None:
        self.ask = Model()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda name: engine)
    monkeypatch.setattr(reading, "model_sha256", lambda name: f"hash of {name}")
    return engine


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    landmarker: Path,
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["analyze", *arguments])
        printed = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, printed.out, printed.err

    return run


def test_a_film_from_the_command_line(engine: Engine, run: Run, tmp_path: Path) -> None:
    film(tmp_path / "movie.mp4")
    transcript(tmp_path / "movie.json")
    command = ["movie.mp4", "--transcript", "movie.json", "--workers", "0"]
    code, out, err = run(*command, "--json", "film.json", "--html", "film.html")
    assert code == 0, err
    assert "Ann" in out and "joy 1" in out
    assert "Reading: 4 of 4" in err and "Wrote movie.emoverse.jsonl" in err
    found = json.loads((tmp_path / "film.json").read_text())
    assert [row["who"] for row in found["utterances"]] == ["Ann", "Bob", "Ann", None]
    assert (tmp_path / "film.html").read_text().count("<article") == 4

    engine.ask.asked.clear()
    code, out, err = run(*command, "--json", "-")
    assert code == 0 and not engine.ask.asked  # all is answered
    assert json.loads(out) == found

    code, out, err = run(*command, "--tasks", "msa,er")
    assert code == 1
    assert "movie.emoverse.jsonl was made with other settings (tasks);" in " ".join(err.split())
    code, out, err = run(*command, "--tasks", "msa,er", "--jsonl", "b.jsonl")
    assert code == 0, err


def test_what_is_a_film(
    engine: Engine, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "long.mp4", count=70, fps=1, gop=10)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    code, _, err = run("long.mp4", "--workers", "0")
    assert code == 1 and "emoverse[asr]" in err and "--speech none" in err
    code, out, err = run("long.mp4", "--workers", "0", "--speech", "none", "--jsonl", "b.jsonl")
    assert code == 0 and "0 utterances" in out
    (tmp_path / "said.txt").write_text("Hooray.")
    code, _, err = run("long.mp4", "--film", "--transcript", "said.txt")
    assert code == 2 and "transcript with times" in " ".join(err.split())


def test_stretches_of_speech_are_read_without_a_speech_model(
    engine: Engine, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "movie.mp4")
    monkeypatch.setattr(reading, "stretches", lambda path: iter([(0.5, 1.5), (2.0, 3.5)]))
    arguments = ("--film", "--speech", "vad", "--workers", "0", "--json", "-")
    code, out, err = run("movie.mp4", *arguments)
    assert code == 0, err
    found = json.loads(out)
    assert [(row["start"], row["end"]) for row in found["moments"]] == [(0.5, 1.5), (2.0, 3.5)]
    assert not found["utterances"]
    assert "the stretches of speech are read by their faces" in " ".join(found["warnings"])


def test_what_is_said_in_clips_is_recognised_when_asked_for(
    engine: Engine, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hears:
        def text(self, clip: Path | str, language: str | None) -> str | None:
            assert language == "en"
            return "Hooray!" if Path(clip).name == "a.mp4" else None

    loaded: list[str] = []

    def load(model: str) -> Hears:
        loaded.append(model)
        return Hears()

    monkeypatch.setattr("emoverse.inference.speech.load_recogniser", load)
    monkeypatch.setattr(
        "emoverse.inference.engine.load_model", lambda name: inference.Engine(tiny_model())
    )
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "abc":
        write(clips / f"{name}.mp4", talking(1), fps=FPS)
    (clips / "c.txt").write_text("It is written.")
    heard = ("--speech", "asr", "--language", "en")
    code, out, err = run("clips", *heard, "--workers", "0", "--json", "-")
    assert code == 0, err
    texts = [row["analysis"]["text"] for row in json.loads(out)]
    assert texts == ["Hooray!", None, "It is written."] and loaded == ["base"]
    code, _, err = run("clips", "--workers", "0")
    assert code == 1 and "other settings (speech)" in " ".join(err.split())
    code, out, err = run("clips/a.mp4", *heard, "--asr-model", "large-v3", "--json", "-")
    assert code == 0, err
    assert json.loads(out)["text"] == "Hooray!" and loaded == ["base", "large-v3"]
    code, out, err = run("clips/a.mp4", "--json", "-")
    assert code == 0 and json.loads(out)["text"] is None and len(loaded) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("clips", "--speech", "vad"),
        ("a.mp4", "--speech", "vad"),
        ("a.mp4", "--speech", "asr", "--text", "Hi."),
        ("clips", "--text", "Hi."),
        ("a.mp4", "b.mp4", "--film"),
        ("--webcam", "0", "a.mp4"),
        ("--webcam", "0", "--html", "a.html"),
        ("--webcam", "0", "--json", "a.json"),
        ("--webcam", "0", "--text", "Hi."),
        ("a.mp4", "--film", "--tasks", "msa,ecpe"),
        ("clips", "--tasks", "ecpe"),
    ],
)
def test_bad_use_is_told(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "clips").mkdir()
    code, _, err = run(*arguments)
    assert code == 2 and "Error" in err


def test_a_folder_from_the_command_line(engine: Engine, run: Run, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write(clips / "a.mp4", talking(1), fps=FPS)
    (clips / "broken.mp4").write_bytes(b"no video" * 100)
    code, out, err = run("clips", "--workers", "1", "--json", "-", "--html", "clips.html")
    assert code == 1
    a, broken = json.loads(out)
    assert a["analysis"]["answers"]["fer"]["label"] == ["AU26"]
    assert "broken.mp4" in broken["error"] and "broken.mp4" in err
    assert "1 clip read, 1 could not be" in err
    assert (tmp_path / "clips.emoverse.jsonl").is_file() and (tmp_path / "clips.html").is_file()
    engine.ask.asked.clear()
    code, out, _ = run("clips", "--workers", "1")
    assert code == 1 and not engine.ask.asked
    told = next(line for line in out.splitlines() if line.startswith("a.mp4"))
    assert "70%" in told
    assert "broken.mp4" in out and "Clip" in out
    (clips / "broken.mp4").unlink()
    assert run("clips", "--workers", "1")[0] == 0


def test_a_folder_without_clips_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    code, _, err = run("clips")
    assert code == 1 and "no clip there" in err
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_camera_from_the_command_line(engine: Engine, run: Run, tmp_path: Path) -> None:
    write(tmp_path / "camera.mp4", talking(5), fps=FPS)
    code, out, err = run("--webcam", "camera.mp4", "--every", "2", "--json", "-")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows and rows[0]["people"] == [1] and set(rows[0]["answers"]) == {"er", "fer"}
    code, out, _ = run("--webcam", "camera.mp4", "--every", "2", "--seconds", "1")
    assert code == 0 and len(out.splitlines()) == 1 and "person 1: neutral 70%" in out
    code, _, err = run("--webcam", "63")
    assert code == 1
    assert "no camera 63" in " ".join(err.split()) or "cannot read cameras" in err
