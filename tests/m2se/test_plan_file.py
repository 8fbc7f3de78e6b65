from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.emt.record import Record
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
