"""The command line: what it accepts, prints and answers to the shell. The model is a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import emoverse
from emoverse import cli
from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis, Answer

from .faces.clips import write

COMMANDS = sorted(typer.main.get_command(cli.app).commands)
Run = Callable[..., tuple[int, str, str]]


class Engine:
    """Answers joy to every clip but those called `bad...`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, tuple[str, ...]]] = []

    def analyze(self, clip: str, text: str | None = None, tasks: Sequence[str] = ()) -> Analysis:
        self.asked.append((clip, text, tuple(tasks)))
        if clip.startswith("bad"):
            raise EmoVerseError(f"{clip}: no such file; check the path.")
        answer = Answer("er", "…", "Joy.", "joy", {"joy": 0.75, "neutral": 0.25})
        return Analysis(clip, "stand-in", text=text, answers={"er": answer})

    def analyze_dialogue(self, path: Path) -> Analysis:
        turns = ({"index": 1, "speaker": "A", "text": "Hi [there]!", "emotion": "joy"},)
        return Analysis(None, "stand-in", turns=turns, pairs=((1, "joy", 1),))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    stand_in(monkeypatch, "emoverse.inference.engine", load_model=lambda name: engine)
    return engine


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        printed = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, printed.out, printed.err

    return run


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_weights_and_face_import_without_torch() -> None:
    script = "import sys, emoverse, emoverse.models.weights; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "emoverse", command, "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: emoverse ")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    heavy = {
        "torch",
        "transformers",
        "peft",
        "mediapipe",
        "av",
        "numpy",
        "sklearn",
        "jinja2",
        "rich",
    }
    assert not loaded & heavy


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"emoverse {emoverse.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("analyze",),
        ("analyze", "a.mp4", "--dialogue", "d.json"),
        ("analyze", "a.mp4", "--tasks", "msa,mood"),
        ("analyze", "a.mp4", "--tasks", ","),
        ("analyze", "a.mp4", "--tasks", "ecpe"),
        ("analyze", "a.mp4", "--text", "Hi.", "--transcript", "hi.txt"),
        ("analyze", "--dialogue", "d.json", "--text", "Hi."),
        ("analyze", "a.mp4", "--nonsense"),
        ("faces",),
        ("train", "recipe.yaml", "--set", "epochs"),
        ("train", "recipe.yaml", "--set", "=2"),
        ("eval", "compact"),
        ("eval", "compact", "e.jsonl", "--protocol", "official"),
        ("eval", "compact", "e.jsonl", "--limit", "0"),
        ("score", "--task", "mood", "--gold", "g", "--pred", "p"),
        ("score", "--run", "r", "--gold", "g"),
        ("score", "--run", "r", "--judge-url", "http://localhost:1/v1"),
        ("score", "--task", "eri", "--gold", "g", "--pred", "p", "--similarity", "compact"),
        ("compare", "a"),
        ("score", "--task", "msa", "--gold", "g", "--pred", "p", "--protocol", "semeval"),
        ("score", "--task", "msa", "--gold", "g"),
        ("pull",),
    ],
)
def test_bad_use_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, _ = run(*arguments)
    assert code == 2


def test_analyze_asks_the_chosen_tasks(run: Run, engine: Engine) -> None:
    code, out, err = run("analyze", "a.mp4", "--text", "Well [done].", "--tasks", "ER, msa,er")
    assert code == 0
    assert engine.asked == [("a.mp4", "Well [done].", ("er", "msa"))]
    assert "Joy" in out
    assert "Well [done]." in out
    assert "Reading a.mp4 ..." in err


def test_transcript_is_read(run: Run, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("One line,\n\nand another.\n", encoding="utf-8")
    assert run("analyze", "a.mp4", "--transcript", str(tmp_path / "said.txt"))[0] == 0
    assert engine.asked[0][1] == "One line, and another."
    code, _, err = run("analyze", "a.mp4", "--transcript", str(tmp_path / "absent.txt"))
    assert code == 1
    assert "absent.txt" in err


SRT = """1
00:00:00,000 --> 00:00:00,900
<i>It came today.</i>

2
00:00:03,000 --> 00:00:04,000
Nobody hears this.
"""


def test_times_of_a_transcript_are_not_said(run: Run, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "said.srt").write_text(SRT, encoding="utf-8")
    write(tmp_path / "a.mp4", count=8, fps=8)
    arguments = ("analyze", str(tmp_path / "a.mp4"), "--clip", "--transcript")
    assert run(*arguments, str(tmp_path / "said.srt"))[0] == 0
    assert engine.asked[0][1] == "It came today."
    late = SRT.replace("00:00:00,000", "00:00:02,000").replace("00,900", "02,900")
    (tmp_path / "late.srt").write_text(late, encoding="utf-8")
    code, _, err = run(*arguments, str(tmp_path / "late.srt"))
    assert code == 1 and "begins after" in err and len(engine.asked) == 1


@pytest.mark.parametrize("words", [("--transcript", "said.srt"), ("--text", "Hi.")])
def test_words_are_one_clip_s(run: Run, engine: Engine, words: tuple[str, ...]) -> None:
    code, _, err = run("analyze", "a.mp4", "b.mp4", *words)
    assert code == 2 and "one clip" in err and not engine.asked


def test_clips_and_a_dialogue_are_one_too_many(run: Run) -> None:
    assert "give only one of" in run("analyze", "a.mp4", "--dialogue", "d.json")[2]
    assert "name one or more" in run("analyze")[2]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("a.mp4", "--silences"), "--silences"),
        (("a.mp4", "--every", "4"), "--every"),
        (("a.mp4", "--language", "de"), "--language"),
        (("a.mp4", "b.mp4", "--workers", "2"), "--workers"),
        (("--dialogue", "d.json", "--tasks", "er"), "--tasks"),
        (("--webcam", "0", "--person", "speaker"), "--person"),
        (("long.mp4", "--film", "--seconds", "3"), "--seconds"),
        (("long.mp4", "--film", "--speech", "vad", "--language", "de"), "--language"),
        (("long.mp4", "--transcript", "a.srt", "--speech", "asr"), "--speech"),
    ],
)
def test_options_that_would_do_nothing_are_told(
    run: Run, engine: Engine, arguments: tuple[str, ...], flag: str
) -> None:
    code, _, err = run("analyze", *arguments)
    assert code == 2 and f"{flag} is for" in err and not engine.asked


def test_a_table_has_been_measured(run: Run) -> None:
    code, _, err = run("faces", "clip.csv", "--source", "mediapipe")
    assert code == 2 and "--source is for videos" in err


def test_one_bad_clip_leaves_the_others(run: Run, engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "all.json"
    page = tmp_path / "all.html"
    code, _, err = run(
        "analyze", "a.mp4", "bad.mp4", "c.mp4", "--json", str(target), "--html", str(page)
    )
    assert code == 1
    assert "bad.mp4: no such file; check the path." in err
    assert "Traceback" not in err
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert [row["clip"] for row in rows] == ["a.mp4", "bad.mp4", "c.mp4"]
    assert [("error" in row) for row in rows] == [False, True, False]
    assert rows[0]["answers"]["er"]["label"] == "joy"
    html = page.read_text(encoding="utf-8")
    assert "a.mp4" in html
    assert "c.mp4" in html


def test_one_clip_that_fails_writes_nothing(run: Run, engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "one.json"
    assert run("analyze", "bad.mp4", "--json", str(target))[0] == 1
    assert not target.exists()


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_a_folder_is_no_target(run: Run, engine: Engine, tmp_path: Path, flag: str) -> None:
    (tmp_path / "adir").mkdir()
    code, _, err = run("analyze", "a.mp4", flag, str(tmp_path / "adir"))
    assert code == 1 and not engine.asked
    assert "adir is a folder" in " ".join(err.split())


def test_what_is_written_is_told(run: Run, engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "one.json"
    code, _, err = run("analyze", "a.mp4", "--json", str(target))
    assert code == 0 and f"Wrote {target}" in err
    (tmp_path / "clip.csv").write_text(CSV, encoding="utf-8")
    table, curve = str(tmp_path / "clip.csv"), tmp_path / "curve.svg"
    code, _, err = run("faces", table, "--curve", str(curve))
    assert code == 0 and f"Wrote {curve}" in err
    code, _, err = run("faces", table, "--curve", str(tmp_path / "curve.png"))
    assert code == 2 and "SVG" in err and not (tmp_path / "curve.png").exists()


def test_json_on_stdout_stands_alone(run: Run, engine: Engine) -> None:
    code, out, _ = run("analyze", "a.mp4", "--json", "-")
    assert code == 0
    assert json.loads(out)["clip"] == "a.mp4"


def test_dialogue(run: Run, engine: Engine) -> None:
    code, out, _ = run("analyze", "--dialogue", "d.json")
    assert code == 0
    assert "Hi [there]!" in out
    assert json.loads(run("analyze", "--dialogue", "d.json", "--json", "-")[1])["pairs"]


def test_unwritable_target_is_one_sentence(run: Run, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    code, _, err = run("analyze", "a.mp4", "--json", str(tmp_path / "file" / "x.json"))
    assert code == 1 and not engine.asked
    assert "file" in err
    assert "Traceback" not in err


CSV = """frame, face_id, timestamp, confidence, success, AU06_r, AU12_r, AU12_c
1, 0, 0.0, 0.98, 1, 0.0, 0.5, 0
2, 0, 0.04, 0.98, 1, 1.5, 3.5, 1
2, 1, 0.04, 0.90, 1, 0.0, 1.25, 1
3, 0, 0.08, 0.98, 1, oops, 5.0, 1
"""


def test_faces_of_openface_output(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text(CSV, encoding="utf-8")
    code, out, _ = run("faces", str(path), "--emotion", "joy")
    assert code == 0
    assert "Peak at 0.04 s (frame 1, person 0)" in out
    assert "clip.csv:5" in "".join(out.split("\n"))
    value = json.loads(run("faces", str(path), "--json", "-")[1])
    assert value["people"] == 2
    assert [frame["person"] for frame in value["frames"]] == [0, 0, 1]
    assert value["peak"]["intensities"]["AU12"] == 3.5
    assert value["caption"]["codes"][0] == "AU12"


def test_faces_told_one_sentence(run: Run, tmp_path: Path) -> None:
    code, _, err = run("faces", str(tmp_path / "absent.csv"))
    assert (code, err.count("\n")) == (1, 2)  # the waiting line, then the sentence
    assert "absent.csv" in err
    assert run("faces", str(tmp_path / "absent.csv"), "--emotion", "hangry")[0] == 1


def test_train_passes_everything_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    stand_in(monkeypatch, "emoverse.training", train=lambda *a, **k: calls.append((a, k)))
    assert run("train", "r.yaml", "--set", "a.b=1", "--set", "c=x=y", "--resume")[0] == 0
    ((arguments, options),) = calls
    assert arguments == (Path("r.yaml"),)
    assert options == {"overrides": ["a.b=1", "c=x=y"], "out": None, "resume": True}


BLOCK = {
    "task": "ecpe",
    "protocol": "paper",
    "n": 3,
    "headline": {"weighted_f1": 71.234, "f1": None},
    "intervals": {"weighted_f1": [60.0, 80.0]},
    "unparseable": 1,
    "floors": {"cause = target": {"weighted_f1": 50.0, "f1": 49.0}},
}


def test_score_prints_floors_beside(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def score_files(*arguments: Any, **options: Any) -> dict[str, Any]:
        calls.append((arguments, options))
        return BLOCK

    stand_in(monkeypatch, "emoverse.evaluation.score", score_files=score_files)
    arguments = ("score", "--task", "ecpe", "--gold", "g", "--pred", "p", "--protocol", "strict")
    code, out, _ = run(*arguments)
    assert code == 0
    ((passed, options),) = calls
    assert passed == ("ecpe", Path("g"), Path("p"), "strict")
    assert options == {
        "floors_train": None,
        "derive_scores": False,
        "open_vocabulary": False,
        "traps": False,
    }
    for words in ("71.23", "floor: cause = target", "49.00", "1 unparseable", "protocol paper"):
        assert words in out
    assert json.loads(run(*arguments, "--json", "-")[1]) == BLOCK


def test_long_names_are_not_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"caption_rouge_l_of_{n}" for n in range(5)]
    block = BLOCK | {"headline": dict.fromkeys(names, 1.0), "intervals": {}, "floors": {}}
    stand_in(monkeypatch, "emoverse.evaluation.score", score_files=lambda *_, **__: block)
    monkeypatch.delenv("COLUMNS", raising=False)
    arguments = ("score", "--task", "ecpe", "--gold", "g", "--pred", "p")
    out = run(*arguments)[1]
    assert all(name in out for name in names)
    monkeypatch.setenv("COLUMNS", "60")
    assert "…" not in run(*arguments)[1]


def test_eval_passes_everything_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def evaluate(*arguments: Any, progress: Callable[[int, int], None], **options: Any) -> Any:
        calls.append((arguments, options))
        for done in range(31):
            progress(done, 30)
        return {"tasks": {"ecpe": BLOCK}}

    stand_in(monkeypatch, "emoverse.evaluation.runner", evaluate=evaluate)
    code, out, err = run("eval", "compact", "e.jsonl", "--limit", "5", "--media-root", "m")
    assert code == 0
    assert "71.23" in out
    assert err.count("Answering: ") == 11
    ((arguments, options),) = calls
    assert arguments == ("compact", Path("e.jsonl"))
    assert options == {
        "protocol": "paper",
        "out": None,
        "media_root": Path("m"),
        "limit": 5,
        "floors_train": None,
        "derive_scores": False,
        "open_vocabulary": False,
    }


def test_pull_prints_the_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from emoverse.models import weights

    monkeypatch.setattr(weights, "pull", lambda name: Path("/somewhere") / name)
    assert run("pull", "demo") == (0, "/somewhere/demo\n", "")
    assert json.loads(run("pull", "demo", "--json", "-")[1])["name"] == "demo"


def test_pull_of_an_unknown_name_fails(run: Run) -> None:
    code, out, err = run("pull", "enormous")
    assert code == 1
    assert out == ""
    assert "compact" in err


def test_the_package_names_are_lazy_and_right() -> None:
    assert emoverse.EmoVerseError is EmoVerseError
    assert set(dir(emoverse)) == set(emoverse.__all__)
    with pytest.raises(AttributeError):
        _ = emoverse.nonsense  # type: ignore[attr-defined]


def test_public_analyze_uses_the_named_model(engine: Engine) -> None:
    analysis = emoverse.analyze("a.mp4", "Hi.", tasks=("er",))
    assert analysis.answers["er"].label == "joy"
    assert engine.asked == [("a.mp4", "Hi.", ("er",))]
