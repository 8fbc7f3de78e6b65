from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emoverse import cli
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation import ablations
from emoverse.evaluation.ablations import derived, untrained, variants
from emoverse.evaluation.figure4 import write_figure4
from emoverse.evaluation.paper_tables import FULL, PAPER
from emoverse.evaluation.reproduce import answered, model_of, paper_table, reproduce
from emoverse.evaluation.runner import evaluate
from emoverse.evaluation.runs import training_of
from emoverse.evaluation.table_files import comma_separated, latex, markdown, plain, write_table
from emoverse.evaluation.tables import Difference, claims
from emoverse.files import read_json, write_json
from emoverse.inference.analysis import Analysis, Answer
from emoverse.m2se.recipe import load_recipe, to_dict
from emoverse.models import compact
from emoverse.training import checkpoint, visual

from ..models.tiny import tiny_model
from ..training.runs import whole_picture
from ..training.test_trainer import write_recipe
from .made import FakeEngine, ecpe_records, er_records, msa_records

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def _sourced(split: str = "valid") -> list[Record]:
    groups = (("mosei", msa_records(30)), ("meld", er_records(40)), ("ecf", ecpe_records([1, 2])))
    return [
        replace(record, source=source, split=split) for source, group in groups for record in group
    ]


def _run(folder: Path, records: Sequence[Record], engine: FakeEngine, **told: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = dump_records(folder / "emt.jsonl", records)
    evaluate("m", data, out=folder / "run", engine=engine, **told)
    return folder / "run"


@pytest.mark.parametrize(
    ("name", "task", "figures"),
    [
        ("table3", "msa", {"EmoVerse-4B": (85.51, 87.80), "EmoVerse-8B": (85.93, 88.51)}),
        ("table4", "er", {"EmoVerse-4B": (67.28, 66.58), "EmoVerse-8B": (67.78, 66.74)}),
        ("table5", "ecpe", {"EmoVerse-4B": (72.30, 72.21), "EmoVerse-8B": (73.54, 73.62)}),
    ],
)
def test_our_row_stands_beside_the_papers(tmp_path: Path, name: str, task: str, figures: Any):
    run = _run(tmp_path, _sourced(), FakeEngine({"u0/er": "Fear.", "u0/msa": "Positive."}))
    result = reproduce(name, {model_of(run): [run]})
    papers = {line.name: line for line in result.lines if line.kind == "paper"}
    for row, values in figures.items():
        cells = [papers[row].cells[column] for column in result.paper.columns]
        assert tuple(cell.value for cell in cells if cell) == values
    (ours,) = (line for line in result.lines if line.kind == "ours")
    scores = read_json(run / "scores.json")["tasks"][task]
    assert ours.name == "fake"
    for column in result.paper.columns:
        cell = ours.cells[column]
        assert cell is not None and cell.value == scores["headline"][column[1]]
        assert [cell.low, cell.high] == scores["intervals"][column[1]] and cell.n == scores["n"]
    floors = {line.name for line in result.lines if line.kind == "floor"}
    assert floors == set(scores["floors"])
    assert any("Not the same data" in note for note in result.notes)


def test_the_files_agree_with_each_other_and_are_well_formed(tmp_path: Path):
    run = _run(tmp_path, _sourced("test"), FakeEngine())
    result = reproduce("table4", {"a|b_100%": [run]})
    files = {file.suffix: file for file in write_table(tmp_path / "out", "table4", result)}
    assert set(files) == {".md", ".tex", ".csv", ".json", ".svg"}
    rows = list(csv.DictReader(io.StringIO(files[".csv"].read_text(encoding="utf-8"))))
    ours = [row for row in rows if row["kind"] == "ours"]
    assert [float(row["value"]) for row in ours] == [100.0, 100.0]
    assert all(len(row["data_sha256"]) == 64 and row["model_sha256"] == "feed" for row in ours)
    told = json.loads(files[".json"].read_text(encoding="utf-8"))
    assert told["rows"][2]["figures"]["er"]["accuracy"]["value"] == 100.0
    text = files[".md"].read_text(encoding="utf-8")
    assert "a\\|b_100%" in text and "67.28" in text and "Not the same data" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table[:6]}) == 1
    tex = files[".tex"].read_text(encoding="utf-8")
    assert "a|b\\_100\\%" in tex and "\\toprule" in tex and tex.count("\\begin") == 2
    drawn = ElementTree.fromstring(files[".svg"].read_text(encoding="utf-8"))
    words = [node.text for node in drawn.iter() if node.tag.endswith("text")]
    assert "a|b_100%" in words and "67.3" in words and "100.0" in words


def test_protocols_differ_and_are_named(tmp_path: Path):
    # Some targets of talk 3 have no cause: `strict` counts what is said there as wrong.
    records = [replace(r, source="ecf") for r in ecpe_records([3])]
    wrong = {r.id: "none" if r.response else "1_joy,1" for r in records[1:]}
    run = _run(tmp_path, records, FakeEngine(wrong))
    by = {name: reproduce("table5", {"m": [run]}, name) for name in ("paper", "strict")}
    column = ("ecpe", "f1")
    values = {name: _ours(result)["m"].cells[column].value for name, result in by.items()}
    assert values["strict"] < values["paper"]
    assert "protocol strict" in markdown(by["strict"], "x.svg")


def test_an_unfinished_run_is_told_of(tmp_path: Path):
    data = dump_records(tmp_path / "emt.jsonl", _sourced()[30:70])
    with pytest.raises(KeyboardInterrupt):
        evaluate("m", data, out=tmp_path / "run", engine=FakeEngine(die_after=10))
    notes = reproduce("table4", {"m": [tmp_path / "run"]}).notes
    assert "m, er: 10 of 40 records are answered." in notes


def test_what_does_not_fit_is_refused(tmp_path: Path):
    run = _run(tmp_path, er_records(5), FakeEngine())
    with pytest.raises(EmoVerseError, match="no answers to msa"):
        reproduce("table3", {"m": [run]})
    with pytest.raises(EmoVerseError, match="both answer er"):
        reproduce("table4", {"m": [run, run]})
    with pytest.raises(EmoVerseError, match="unknown"):
        paper_table("table9")


def test_models_are_asked_once_about_the_papers_corpora_and_the_same_subset(tmp_path: Path):
    strangers = [replace(r, source="other", id=f"x{r.id}") for r in er_records(9)]
    data = dump_records(tmp_path / "emt.jsonl", [*strangers, *_sourced()])
    engines = {name: FakeEngine() for name in ("a", "b")}
    table = paper_table("table4")
    for _ in range(2):
        runs = answered(
            {"a": "a", "b": "b"}, [data], table, tmp_path / "out", limit=7, load=engines.__getitem__
        )
    assert engines["a"].asked == engines["b"].asked and len(engines["a"].asked) == 7
    assert not any(name.startswith("x") for name in engines["a"].asked)
    assert {line.name for line in _ours(reproduce("table4", runs)).values()} == {"a", "b"}
    with pytest.raises(EmoVerseError, match="holds other records"):
        answered({"a": "a"}, [data], table, tmp_path / "out", limit=9, load=engines.__getitem__)
    assert _ours(reproduce("table4", runs))["a"].cells["er", "accuracy"].n == 7  # unharmed
    with pytest.raises(EmoVerseError, match=r"no records of msa \(mosei\)"):
        other = dump_records(tmp_path / "other.jsonl", strangers)
        answered({"a": "a"}, [other], paper_table("table3"), tmp_path / "o2")


def test_a_subset_takes_conversations_whole(tmp_path: Path):
    records = [replace(r, source="ecf", split="valid") for r in ecpe_records(range(12))]
    data = dump_records(tmp_path / "emt.jsonl", records)
    engine = FakeEngine()
    answered(
        {"a": "a"}, [data], paper_table("table5"), tmp_path / "out", limit=17, load=lambda _: engine
    )
    asked = Counter(name.split("_")[0] for name in engine.asked)
    whole = Counter(record.id.split("_")[0] for record in records)
    assert asked and all(asked[talk] == whole[talk] for talk in asked)
    smallest = min(whole[talk] for talk in whole if talk not in asked)
    assert 17 - smallest < len(engine.asked) <= 17


# --- ablations --------------------------------------------------------------------------------


class Trainer:
    """Stands in for a training: notes what it is asked and leaves a file."""

    def __init__(self, die_at: str | None = None) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.die_at = die_at

    def __call__(self, path: Path, overrides: Sequence[str], out: Path, resume: bool) -> None:
        self.asked.append((path.name, resume))
        load_recipe(path, list(overrides))
        if path.name == self.die_at:
            (out / checkpoint.FILE).write_bytes(b"half")
            raise KeyboardInterrupt
        (out / "adapter_model.safetensors").write_bytes(path.name.encode())
        write_json(out / "recipe.json", to_dict(load_recipe(path, list(overrides))))


def _train_data(folder: Path) -> list[str]:
    data = dump_records(folder / "train.jsonl", er_records(3))
    return [f"train={data}", f"valid={data}"]


def _variants(folder: Path, table: str, trainer: Trainer, **told: Any) -> dict[str, Any]:
    told.setdefault("overrides", _train_data(folder))
    return dict(variants(PAPER[table], folder / "models", RECIPES, train=trainer, **told))


def test_missing_models_are_trained_once_and_shared_between_tables(tmp_path: Path):
    trainer = Trainer()
    eight = _variants(tmp_path, "table8", trainer)
    names = [FULL, "stage2-t1.yaml", "stage2-t3.yaml", "stage2-t4.yaml"]
    assert trainer.asked == [(name, False) for name in names]
    seven = _variants(tmp_path, "table7", trainer)
    assert trainer.asked[4:] == [("fer-low.yaml", False)]  # a high rate is the full recipe's
    assert seven["FER high"][0] == eight["f"][0]
    assert list(seven) == ["FER low", "FER high"]
    _variants(tmp_path, "table8", trainer)
    assert len(trainer.asked) == 5


def test_a_stopped_training_goes_on_and_other_data_are_refused(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        _variants(tmp_path, "table7", Trainer("fer-high.yaml"))
    other = dump_records(tmp_path / "more.jsonl", er_records(4))
    with pytest.raises(EmoVerseError, match="other data"):
        _variants(tmp_path, "table7", Trainer(), overrides=[f"train={other}", f"valid={other}"])
    with pytest.raises(EmoVerseError, match="'FER high' of table VII is not trained"):
        _variants(tmp_path, "table7", Trainer(), trains=False)
    trainer = Trainer()
    _variants(tmp_path, "table7", trainer)
    assert trainer.asked == [("fer-high.yaml", True)]


def test_models_trained_elsewhere_and_bad_names(tmp_path: Path):
    trainer = Trainer()
    found = _variants(tmp_path, "table7", trainer, given={"FER low": "x", "FER high": "y"})
    assert found == {"FER low": ("x", None), "FER high": ("y", None)} and not trainer.asked
    with pytest.raises(EmoVerseError, match="'FER' is no row of table VII"):
        _variants(tmp_path, "table7", trainer, given={"FER": "x"})
    with pytest.raises(EmoVerseError, match="no such recipe"):
        dict(variants(PAPER["table7"], tmp_path, tmp_path, train=trainer))


# What stands here is what the ablation changes; the other rates are the 4B's own.
LARGE_RATES = {
    "fer-low": [
        {"msa": 0.95, "er": 0.1, "fer": 0.1},
        {"msa": 0.05, "er": 0.95, "eri": 0.95, "ecpe": 0.95},
    ],
    "stage2-t1": [{"msa": 0.95, "er": 0.1, "fer": 0.95}, {"ecpe": 0.95}],
    "stage2-t3": [
        {"msa": 0.95, "er": 0.1, "fer": 0.95},
        {"er": 0.95, "eri": 0.95, "ecpe": 0.95},
    ],
    "stage2-t4": [
        {"msa": 0.95, "er": 0.1, "fer": 0.95},
        {"msa": 0.95, "er": 0.95, "eri": 0.95, "ecpe": 0.95},
    ],
    "single-msa": [{"msa": 1.0}],
}


@pytest.mark.parametrize("row", LARGE_RATES)
def test_the_ablations_change_another_recipe_as_they_change_ours(row: str):
    full, ablation = load_recipe(RECIPES / FULL), load_recipe(RECIPES / f"{row}.yaml")
    remade = load_recipe(RECIPES / FULL, derived(full, ablation, full))
    assert to_dict(remade) == to_dict(ablation)
    large = RECIPES / "emoverse-4b.yaml"
    other = load_recipe(large, derived(load_recipe(large), ablation, full))
    assert [stage.rates for stage in other.stages] == LARGE_RATES[row]
    assert [stage.samples for stage in other.stages] == [s.samples for s in ablation.stages]
    assert other.model == load_recipe(large).model and other.model != ablation.model


def test_zero_shot_is_the_model_before_its_first_step(tmp_path: Path, monkeypatch: Any):
    from safetensors.torch import load_file

    monkeypatch.setattr(compact, "assemble", tiny_model)
    monkeypatch.setattr(compact, "load_vit", lambda model, path: None)
    untrained(load_recipe(RECIPES / FULL, ["lora.first_layer=0"]), tmp_path / "zero")
    weights = load_file(tmp_path / "zero/adapter_model.safetensors")
    changed = [name for name, value in weights.items() if "lora_B" in name and value.any()]
    assert any("lora_B" in name for name in weights) and not changed
    assert training_of(str(tmp_path / "zero")) == {"share": 0.0, "seed": 0, "tasks": []}


@pytest.mark.slow
def test_real_trainings_of_a_tiny_model_fill_a_table(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(compact, "assemble", tiny_model)
    monkeypatch.setattr(compact, "load_vit", lambda model, path: None)
    monkeypatch.setattr(visual, "face_crop", whole_picture)
    base = write_recipe(tmp_path)
    table = PAPER["table6"]
    found = dict(variants(table, tmp_path / "models", RECIPES, base=base))
    assert list(found) == [row.name for row in table.rows]
    weights = {
        name: (Path(model) / "adapter_model.safetensors").read_bytes()
        for name, (model, _) in found.items()
    }
    assert len(set(weights.values())) == len(weights)
    before = {name: Path(model).stat().st_mtime_ns for name, (model, _) in found.items()}
    assert dict(variants(table, tmp_path / "models", RECIPES, base=base)) == found
    assert before == {name: Path(model).stat().st_mtime_ns for name, (model, _) in found.items()}


def _three(tmp_path: Path) -> dict[str, list[Path]]:
    """M2SE is right throughout; the others miss some of their own task."""
    wrong = {
        "MSA only": {f"u{n}/msa": "Positive." for n in range(0, 30, 5)},
        "ER only": {f"u{n}/er": "Fear." for n in range(30)},
        "M2SE": {},
    }
    return {
        name: [_run(tmp_path / str(place), _sourced(), FakeEngine(answers))]
        for place, (name, answers) in enumerate(wrong.items())
    }


def test_an_ablation_tells_differences_with_ranges_and_leaves_the_papers_cells_open(tmp_path: Path):
    recipes = {"MSA only": load_recipe(RECIPES / "single-msa.yaml"),
               "ER only": load_recipe(RECIPES / "single-er.yaml")}  # fmt: skip
    result = reproduce("table6", _three(tmp_path), recipes=recipes)
    papers = [line for line in result.lines if line.kind == "paper"]
    assert [line.name for line in papers] == [
        "zero-shot",
        "MSA only",
        "ER only",
        "ECPE only",
        "M2SE",
    ]
    assert not any(any(line.cells.values()) for line in papers)
    assert "not at hand" in markdown(result, "x.svg") and "not at hand" in latex(result)
    cells = {name: line.cells for name, line in _ours(result).items()}
    own = {(one.variant, one.column): one for one in result.differences if one.own}
    assert {column[0] for _, column in own} == {"msa", "er"}
    for (variant, column), one in own.items():
        expected = cells["M2SE"][column].value - cells[variant][column].value
        assert one.value == pytest.approx(expected) and one.low <= one.value <= one.high
    assert own["ER only", ("er", "accuracy")].verdict == "ahead"
    others = [one for one in result.differences if one.variant == "ER only" and not one.own]
    assert others and all(one.verdict == "no difference shown" for one in others)
    assert "not trained for it" in markdown(result, "x.svg")
    assert "ahead in 4 of 4 comparisons" in " ".join(claims(result))
    assert json.dumps(plain(result)) and "not at hand" not in comma_separated(result)


@pytest.mark.parametrize("written", [True, False])
def test_finished_runs_count_for_what_their_models_were_trained_for(tmp_path: Path, written: bool):
    runs = _three(tmp_path)
    for name, recipe in (("MSA only", "single-msa"), ("ER only", None)):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        if recipe:
            write_json(folder / "recipe.json", to_dict(load_recipe(RECIPES / f"{recipe}.yaml")))
        file = runs[name][0] / "run.json"
        # A run of before has no `training`; the model's folder then tells.
        training = training_of(str(folder)) if written else None
        write_json(file, read_json(file) | {"model": str(folder), "training": training})
    result = reproduce("table6", runs)
    # No recipe tells what "ER only" was trained for, so it is no rival on anything.
    own = {(one.variant, one.column[0]) for one in result.differences if one.own}
    assert own == {("MSA only", "msa")}
    assert "of 2 comparisons" in " ".join(claims(result))
    with pytest.raises(EmoVerseError, match="'Foo' is no row of table VI"):
        reproduce("table6", runs | {"Foo": runs["M2SE"]})


def test_a_difference_is_called_by_its_range():
    one = Difference("a", ("er", "accuracy"), 1.0, 0.2, 1.9, 0.01, 9, True)
    assert one.verdict == "ahead"
    assert replace(one, low=-0.1).verdict == "no difference shown"
    assert replace(one, low=-2.0, high=-0.1).verdict == "behind"


# --- figure 4 and the command -----------------------------------------------------------------


class Analyst:
    def __init__(self, name: str) -> None:
        self.name = name

    def analyze(self, clip: Path | str, text: str | None = None, tasks: Any = ()) -> Analysis:
        answers = {
            "eri": Answer("eri", "Why?", f"{self.name} thinks <b>so</b>.", "so", seconds=0.5),
            "er": Answer("er", "…", "Joy.", "joy", {"joy": 0.75}),
        }
        assert set(answers) <= set(tasks)
        return Analysis(str(clip), self.name, text=text, answers=answers, duration=2.0)


def test_figure_4_sets_reasons_side_by_side(tmp_path: Path):
    clip = tmp_path / "clip.png"
    Image.new("RGB", (64, 48), (200, 100, 50)).save(clip)
    page, told = write_figure4(clip, ["A", "B"], tmp_path / "out", text="Hi <i>", load=Analyst)
    html = page.read_text(encoding="utf-8")
    assert "A thinks &lt;b&gt;so&lt;/b&gt;." in html and "B thinks" in html
    assert "Hi &lt;i&gt;" in html and "data:image/jpeg;base64," in html and "75%" in html
    assert "http://" not in html and "https://" not in html and "<script" not in html
    models = read_json(told)["models"]
    assert [one["model"] for one in models] == ["A", "B"]
    with pytest.raises(EmoVerseError, match="two or more"):
        write_figure4(clip, ["A"], tmp_path / "out", load=Analyst)
    with pytest.raises(EmoVerseError, match="no such file"):
        write_figure4(tmp_path / "none.mp4", ["A", "B"], tmp_path / "out", load=Analyst)


@pytest.fixture
def run_cli(capsys: Any) -> Iterator[Any]:
    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    yield run


def test_the_command_prints_the_table_and_names_its_files(tmp_path: Path, run_cli: Any):
    run = _run(tmp_path, _sourced(), FakeEngine())
    out = tmp_path / "tables"
    code, printed, _ = run_cli("reproduce", "table4", "--run", str(run), "--out", str(out))
    assert code == 0 and "67.28" in printed and "100.00" in printed and "always" in printed
    assert (out / "table4.md").is_file() and (out / "table4.svg").is_file()
    code, printed, _ = run_cli(
        "reproduce", "table4", "--run", f"mine={run}", "--out", str(out), "--json", "-"
    )
    assert code == 0 and json.loads(printed)["rows"][2]["name"] == "mine"


def test_the_command_trains_an_ablation_then_evaluates_it(
    tmp_path: Path, run_cli: Any, monkeypatch: Any
):
    trainer = Trainer()
    monkeypatch.setattr(ablations, "train_recipe", trainer)
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda model, exact: FakeEngine())
    data = dump_records(tmp_path / "emt.jsonl", _sourced())
    settings = [part for told in _train_data(tmp_path) for part in ("--set", told)]
    told = ("reproduce", "table7", "--data", str(data), "--out", str(tmp_path / "out"))
    code, printed, err = run_cli(*told, "--recipes", str(RECIPES), *settings)
    assert code == 0, err
    assert [name for name, _ in trainer.asked] == ["fer-low.yaml", "fer-high.yaml"]
    assert "A subset" not in printed
    assert "FER low (paper)" in printed and "not at hand" in printed
    assert "The claim: a high FER rate" in printed and "no difference shown" in printed
    assert run_cli("reproduce", "table8", *told[2:], "--recipes", str(RECIPES), *settings)[0] == 0
    asked = {folder.name for folder in (tmp_path / "out/runs").iterdir()}
    # What is f there has answered as "FER high".
    assert asked == {"fer-low", "fer-high", "stage2-t1", "stage2-t3", "stage2-t4"}


def test_a_stopped_study_leaves_the_table_so_far_and_the_rows_tell_their_share(
    tmp_path: Path, run_cli: Any, monkeypatch: Any
):
    trainer = Trainer("fer-high.yaml")
    monkeypatch.setattr(ablations, "train_recipe", trainer)
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda model, exact: FakeEngine())
    data = dump_records(tmp_path / "emt.jsonl", _sourced())
    out = tmp_path / "out"
    settings = [part for told in _train_data(tmp_path) for part in ("--set", told)]
    told = ("reproduce", "table7", "--data", str(data), "--out", str(out), "--limit", "20",
            "--recipes", str(RECIPES), *settings, "--set", "share=0.25")  # fmt: skip
    assert run_cli(*told)[0] not in (0, 2)
    text = (out / "table7.md").read_text(encoding="utf-8")
    assert "Not trained and asked yet: FER high." in text and "| **FER low** | 100.00" in text
    trainer.die_at = None
    code, printed, err = run_cli(*told)
    assert code == 0, err
    assert trainer.asked[1:] == [("fer-high.yaml", False), ("fer-high.yaml", True)]
    text = (out / "table7.md").read_text(encoding="utf-8")
    share = "Trained on 0.25 of the recipe's samples, drawn by seed 0: FER low, FER high."
    for page in (text, printed):
        assert share in page and "A subset: at most 20 records a task" in page
        assert "Not trained" not in page
    assert text.count("| 25 % of samples |") == 6
    rows = list(csv.DictReader(io.StringIO((out / "table7.csv").read_text(encoding="utf-8"))))
    assert {row["training_share"] for row in rows if row["kind"] == "ours"} == {"0.25"}


def test_bad_use_exits_with_2(run_cli: Any, tmp_path: Path):
    for arguments in (
        ("table4",),
        ("table4", "clip.mp4"),
        ("figure4",),
        ("table4", "--model", "compact"),
        ("table6",),
        ("table9",),
    ):
        assert run_cli("reproduce", *arguments)[0] == 2, arguments
    assert run_cli("reproduce", "table4", "--run", str(tmp_path))[0] == 1


def _ours(result: Any) -> dict[str, Any]:
    return {line.name: line for line in result.lines if line.kind == "ours"}
