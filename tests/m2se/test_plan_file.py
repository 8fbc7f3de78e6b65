from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.cli import main
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.m2se.plan import plan, read_plan, write_plan
from emoverse.m2se.recipe import Stage

STAGES = [Stage("one", {"msa": 0.9, "er": 0.5}, samples=20), Stage("two", {"er": 1.0, "ecpe": 0.7})]


def _data() -> list[Record]:
    records = [
        Record("q", "a", task, id=f"{n}/{task}", meta={"sample": f"u{n}"})
        for n in range(40)
        for task in ("msa", "er")
    ]
    return records + [  # several targets of one conversation
        Record("q", "a", "ecpe", id=f"{n}/{t}", meta={"sample": f"talk{n}"})
        for n in range(10)
        for t in range(3)
    ]


@given(st.integers(0, 99))
def test_a_plan_goes_through_its_file_and_back(seed: int) -> None:
    import tempfile

    drawn = plan(_data(), STAGES, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = write_plan(Path(folder) / "plan.tsv", drawn, seed)
        assert read_plan(path, _data(), STAGES) == drawn


def test_the_file_is_the_same_whatever_the_datas_order(tmp_path: Path) -> None:
    first = write_plan(tmp_path / "a", plan(_data(), STAGES, 3), 3).read_bytes()
    second = write_plan(tmp_path / "b", plan(_data()[::-1], STAGES, 3), 3).read_bytes()
    assert first == second
    other = write_plan(tmp_path / "c", plan(_data(), STAGES, 4), 4).read_bytes()
    assert other != first


def test_an_edited_plan_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "plan.tsv"
    path.write_text("# mine\n\ntwo\tu3\ter\none\tu4\tmsa er\ntwo\ttalk1\tecpe\n")
    one, two = read_plan(path, _data(), STAGES)
    assert [record.id for record in one.records] == ["4/msa", "4/er"]
    assert [record.id for record in two.records] == ["3/er", "1/0", "1/1", "1/2"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("one u3 er", "line 2: expected stage, sample and tasks parted by tabs"),
        ("three\tu3\ter", "line 2: the recipe has no stage 'three'; use one, two"),
        ("one\tu99\ter", "line 2: the data has no er record of sample 'u99'"),
        ("one\tu3\tfer", "line 2: the data has no fer record of sample 'u3'"),
        ("two\tu1\ter", "line 2: sample 'u1' is in stage 'one' already"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "plan.tsv"
    path.write_text(f"one\tu1\tmsa\n{line}\n")
    with pytest.raises(EmoVerseError, match=told):
        read_plan(path, _data(), STAGES)


def _shown(recipe: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """The table's lines, in a terminal of 80 columns."""
    with pytest.raises(SystemExit) as ended:
        main(["train", str(recipe), "--plan-only", "--out", str(out), *more])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_plan_is_shown_and_written_and_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    train = dump_records(tmp_path / "train.jsonl", _data())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: compact\ntrain: {train}\nseed: 3\nstages:\n"
        "  - {name: one, rates: {msa: 0.9, er: 0.5}, samples: 20}\n"
        "  - {name: two, rates: {er: 1.0, ecpe: 0.7}}\n"
    )
    out = tmp_path / "out"
    shown = _shown(recipe, out, capsys)
    heading, _, one, rates, two, *_, told = shown
    assert heading.split() == ["Stage", "Samples", "MSA", "ER", "ECPE", "Queries", "Epochs"]
    drawn = plan(_data(), STAGES, 3)
    first, second = (stage.counts() for stage in drawn)
    assert one.split()[2:6] == [str(first["msa"]), str(first["er"]), "-", str(sum(first.values()))]
    assert rates.split() == ["90%", "50%"]
    assert two.split()[3:5] == [str(second["er"]), str(second["ecpe"])]
    written = out / "plan.tsv"
    assert str(written) in told
    assert [path.name for path in out.iterdir()] == ["plan.tsv"]
    same = write_plan(tmp_path / "same.tsv", drawn, 3)
    assert written.read_bytes() == same.read_bytes()
    said = f"two: 30 samples drawn, {drawn[1].samples()} asked something by the rates"
    assert drawn[1].samples() < 30 and said in shown
    # Edited, with a task that the stage has no rate for, it is taken as it stands.
    written.write_text("one\tu4\tmsa\ntwo\tu3\ter msa\n")
    edited = _shown(recipe, tmp_path / "again", capsys, "--set", f"plan={written}")
    assert edited[4].split() == ["two", "1", "1", "1", "2", "2"]
    assert edited[5].split() == ["100%"]
    copy = (tmp_path / "again" / "plan.tsv").read_text()
    assert copy.startswith(f"# M2SE plan, from {written}: stage, sample, tasks\n")
    _shown(recipe, out, capsys, "--set", f"plan={written}")  # read and written in one place
    assert written.read_text() == "one\tu4\tmsa\ntwo\tu3\ter msa\n"
    with pytest.raises(SystemExit) as ended:  # drawn anew, it would be lost
        main(["train", str(recipe), "--plan-only", "--out", str(out)])
    assert ended.value.code == 1
    assert "is another plan than this recipe's" in " ".join(capsys.readouterr().err.split())
    assert written.read_text() == "one\tu4\tmsa\ntwo\tu3\ter msa\n"
