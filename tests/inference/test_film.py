"""Films from end to end, with a stand-in for the model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.inference import film as films
from emoverse.inference.film import read_film
from emoverse.inference.journal import Journal, journal
from emoverse.inference.timeline import film_result
from emoverse.inference.transcripts import Cue
from emoverse.inference.watching import Piece, Seen

from ..faces.clips import write
from .film_made import CUES, Model, film


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "movie.mp4")


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes in which nobody is seen."""
    return write(tmp_path_factory.mktemp("film") / "wall.mp4", count=600, fps=1, gop=20)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Parts are not looked at; the numbers of those that would be."""
    numbers: list[int] = []

    def nothing(pieces: Sequence[Piece], workers: int) -> Any:
        for piece in pieces:
            numbers.append(piece.number)
            yield Seen(piece, error=None)

    monkeypatch.setattr(films, "watch", nothing)
    return numbers


def _read(
    clip: Path, lines: Path, cues: Sequence[Cue], model: Model, **options: Any
) -> dict[str, Any]:
    with journal(lines, "film", {}) as book:
        read_film(clip, book, model, "stand-in", listen=lambda: cues, workers=0, **options)
        return film_result(book, "stand-in")


def _rows(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_persons_are_known_again_and_answers_have_faces(
    movie: Path, tmp_path: Path, landmarker: Path
) -> None:
    model = Model()
    found = _read(movie, tmp_path / "a.jsonl", CUES, model, silences=True)
    one, two, three, four = found["utterances"]
    assert [row["who"] for row in found["utterances"]] == ["Ann", "Bob", "Ann", None]
    assert one["person"] == three["person"] != two["person"]
    assert four["people"] == [] and four["peak"] is None
    assert [row["answers"]["er"]["label"] for row in found["utterances"]] == [
        "joy",
        "surprise",
        "neutral",
        "sadness",
    ]
    assert set(one["answers"]) == {"msa", "er", "fer", "eri"} and "fer" not in four["answers"]
    assert one["start"] <= one["peak"]["seconds"] <= one["end"]
    # Ann is behind most of what her face is seen to say.
    ann = next(person for person in found["people"] if person["person"] == one["person"])
    assert ann["speaks_as"] == "Ann" and {1, 3} <= set(ann["parts"])
    # The end of the film, where nobody speaks or is seen, is a moment without answers.
    assert found["moments"] and found["moments"][-1]["answers"] == {}
    # The stand-in blames the utterance before.
    assert found["pairs"][:2] == [[1, "joy", 1], [2, "surprise", 1]]
    assert two["causes"] == [1]
    assert list(found["timeline"]) == ["Ann", "Bob", "Someone"]
    assert found["emotions"]["Ann"] == {"joy": 1, "neutral": 1}
    shown = [question.shown for question in model.asked if question.record.task == "er"]
    assert shown[0] is not None and shown[0].face


@pytest.mark.slow
def test_without_names_the_face_that_speaks_gives_one(
    movie: Path, tmp_path: Path, landmarker: Path
) -> None:
    cues = [Cue(cue.start, cue.end, cue.text) for cue in CUES]
    model = Model()
    found = _read(movie, tmp_path / "a.jsonl", cues, model)
    names = [row["who"] for row in found["utterances"]]
    assert names == ["Person 1", "Person 2", "Person 1", None]
    assert "Person 1: Hooray, the prize is ours.\nPerson 2: What?" in model.queries("er")[3]


def test_an_utterance_is_asked_with_the_conversation_before_it(
    wall: Path, tmp_path: Path, unseen: list[int]
) -> None:
    cues = [Cue(2.0 * n, 2.0 * n + 1.5, f"Line {n}.", "Ann") for n in range(30)]
    cues += [Cue(100, 102, "Much later.", "Bob"), Cue(103, 105, "Yes.")]
    model = Model()
    _read(wall, tmp_path / "a.jsonl", cues, model)
    queries = model.queries("er")
    assert "The conversation so far" not in queries[0]
    assert queries[5].startswith("The conversation so far:\nAnn: Line 0.\nAnn: Line 1.\n")
    assert queries[5].count("Ann: Line") == 5 and "Now Ann speaks.\nThe person" in queries[5]
    # As long as in training, then the oldest turns are left out.
    assert queries[29].count("Ann: Line") == 23 and "Line 5." not in queries[29]
    assert "Line 6." in queries[29]
    # A long pause ends the conversation; a speaker whom nobody knows has no name.
    assert "The conversation so far" not in queries[30]
    assert queries[31].startswith("The conversation so far:\nBob: Much later.\nThe person says")


def test_causes_slide_over_a_long_conversation(
    wall: Path, tmp_path: Path, unseen: list[int]
) -> None:
    cues = [Cue(3.0 * n, 3.0 * n + 2, f"Hooray {n}.", "Ann") for n in range(60)]
    model = Model()
    found = _read(wall, tmp_path / "a.jsonl", cues, model)
    assert found["pairs"] == [[1, "joy", 1]] + [[n, "joy", n - 1] for n in range(2, 61)]
    rows = [row for row in _rows(tmp_path / "a.jsonl") if row["kind"] == "causes"]
    assert [len(row["shown"]) for row in rows] == [24, 24, 24, 24, 20]
    # Causes are there before the film is through.
    kinds = [row["kind"] for row in _rows(tmp_path / "a.jsonl")]
    assert kinds.index("causes") < len(kinds) - 40


def test_tasks_that_are_not_wanted_are_not_asked(
    wall: Path, tmp_path: Path, unseen: list[int]
) -> None:
    model = Model()
    found = _read(wall, tmp_path / "a.jsonl", [Cue(1, 3, "Hooray.")], model, tasks=("msa",))
    assert {question.record.task for question in model.asked} == {"msa"}
    assert found["pairs"] == [] and list(found["utterances"][0]["answers"]) == ["msa"]
    with pytest.raises(EmoVerseError, match="ask for er as well"):
        _read(wall, tmp_path / "b.jsonl", [], model, tasks=("ecpe",))


def test_without_words_the_shots_are_parts_and_that_is_told(
    wall: Path, tmp_path: Path, unseen: list[int]
) -> None:
    found = _read(wall, tmp_path / "a.jsonl", [], Model())
    assert len(found["moments"]) == 60 and not found["utterances"]
    assert any("faces alone" in warning for warning in found["warnings"])


def test_a_part_that_cannot_be_looked_at_is_answered_from_its_words(
    wall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pieces: Sequence[Piece], workers: int) -> Any:
        return (Seen(piece, error="wall.mp4: crashed the worker.") for piece in pieces)

    monkeypatch.setattr(films, "watch", broken)
    found = _read(wall, tmp_path / "a.jsonl", [Cue(1, 3, "Hooray.", "Ann")], Model())
    (row,) = found["utterances"]
    assert row["answers"]["er"]["label"] == "joy" and row["who"] == "Ann"
    assert row["warnings"] == ["wall.mp4: crashed the worker."]


def test_a_run_that_goes_on_asks_for_the_rest_only(
    wall: Path, tmp_path: Path, unseen: list[int]
) -> None:
    cues = [Cue(4.0 * n, 4.0 * n + 3, f"Hooray {n}.", "Ann") for n in range(40)]
    whole = tmp_path / "whole.jsonl"
    _read(wall, whole, cues, Model())
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    for kept in (2, 3, 11, 28, 30, len(lines) - 1, len(lines)):
        part = tmp_path / f"{kept}.jsonl"
        torn = lines[kept][: len(lines[kept]) // 2] if kept < len(lines) else ""
        part.write_text("".join(lines[:kept]) + torn, encoding="utf-8")
        unseen.clear()
        model = Model()
        _read(wall, part, [], model)  # what is said is in the journal
        done = [json.loads(line) for line in lines[:kept]]
        answered = {row["number"] for row in done if row["kind"] == "utterance"}
        assert unseen == [n for n in range(1, 41) if n not in answered]
        assert sorted(part.read_text(encoding="utf-8").splitlines()) == sorted(
            whole.read_text(encoding="utf-8").splitlines()
        )


_SLOW_RUN = """
import sys, time
from pathlib import Path
from emoverse.inference import film as films
from emoverse.inference.film import read_film
from emoverse.inference.journal import journal
from emoverse.inference.transcripts import Cue
from emoverse.inference.watching import Seen
sys.path.insert(0, sys.argv[3])
from tests.inference.film_made import Model

def watch(pieces, workers):
    for piece in pieces:
        time.sleep(0.05)
        yield Seen(piece)

films.watch = watch
cues = [Cue(4.0 * n, 4.0 * n + 3, f"Hooray {n}.", "Ann") for n in range(40)]
with journal(Path(sys.argv[2]), "film", {}) as book:
    read_film(sys.argv[1], book, Model(), "stand-in", listen=lambda: cues, workers=0)
"""


@pytest.mark.slow
def test_kill_minus_nine_costs_nothing_that_was_answered(
    wall: Path, tmp_path: Path, root: Path
) -> None:
    lines = tmp_path / "film.jsonl"
    command = [sys.executable, "-c", _SLOW_RUN, str(wall), str(lines), str(root)]
    for wanted in (4, 14, 26):
        with subprocess.Popen(command) as run:
            deadline = time.monotonic() + 120
            while not lines.is_file() or lines.read_bytes().count(b"\n") < wanted:
                assert time.monotonic() < deadline and run.poll() is None
                time.sleep(0.01)
            os.kill(run.pid, signal.SIGKILL)
    subprocess.run(command, check=True)
    rows = _rows(lines)
    numbers = [row["number"] for row in rows if row["kind"] == "utterance"]
    assert numbers == list(range(1, 41))
    asked = [row["window"] for row in rows if row["kind"] == "causes"]
    assert asked == [0, 1, 2]
    assert len(film_result(Journal(lines), "m")["pairs"]) == 40


@pytest.mark.slow
def test_four_hours_take_bounded_memory(tmp_path: Path, landmarker: Path, root: Path) -> None:
    clip = write(tmp_path / "film.mp4", count=14_400, fps=1, gop=60)
    script = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from emoverse.inference.film import read_film\n"
        "from emoverse.inference.journal import journal\n"
        "from emoverse.inference.timeline import film_result\n"
        "from emoverse.inference.transcripts import Cue\n"
        "from tests.inference.film_made import Model\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "def read(cues, lines):\n"
        "    with journal(lines, 'film', {}) as book:\n"
        "        read_film(sys.argv[1], book, Model(), 'm', listen=lambda: cues, workers=0)\n"
        "        return len(film_result(book, 'm')['utterances'])\n"
        "cues = [Cue(72.0 * n, 72.0 * n + 4, f'Hooray {n}.') for n in range(200)]\n"
        "read(cues[:10], sys.argv[2] + '.warm')\n"
        "before = peak()\n"
        "print(json.dumps([read(cues, sys.argv[2]), peak() - before]))\n"
    )
    command = [sys.executable, "-c", script, str(clip), str(tmp_path / "film.jsonl"), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = json.loads(done.stdout.splitlines()[-1])
    assert video.probe(clip).duration == pytest.approx(14_400, abs=2)
    assert count == 200
    assert grown < 150
