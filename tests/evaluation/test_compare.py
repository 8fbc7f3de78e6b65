from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from emoverse.cli import main
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.compare import compare
from emoverse.evaluation.runner import evaluate
from emoverse.tasks import er, eri

from .made import FakeEngine, ecpe_records, er_records


def _run(tmp_path, name, data, wrong, **options):
    engine = FakeEngine(wrong=wrong)
    engine.name = engine.sha256 = name
    evaluate(name, data, out=tmp_path / name, engine=engine, **options)
    return tmp_path / name


@pytest.fixture
def runs(tmp_path):
    records = er_records(120)
    data = dump_records(tmp_path / "emt.jsonl", records)
    a = _run(tmp_path, "a", data, {r.id: "Fear." for r in records[:60]})
    b = _run(tmp_path, "b", data, {r.id: "Fear." for r in records[:30]})
    return a, b


def test_a_better_run_is_better_and_a_run_equals_itself(runs):
    a, b = runs
    row = compare(a, b)["tasks"]["er"]["figures"]["accuracy"]
    assert (row["a"], row["b"], row["difference"]) == (50, 75, 25)
    low, high = row["interval"]
    assert 0 < low < 25 < high
    assert row["p"] == pytest.approx(2 / 10_001)
    back = compare(b, a)["tasks"]["er"]["figures"]["accuracy"]
    assert back["interval"] == pytest.approx([-high, -low])
    same = compare(a, a)["tasks"]["er"]["figures"]["accuracy"]
    assert (same["difference"], same["interval"], same["p"]) == (0, [0, 0], 1)


def test_it_is_the_paired_bootstrap(runs):
    """The interval of a plain loop that draws the same records for both."""
    records = er_records(120)
    gold = [r.label for r in records]
    said = [["fear"] * n + gold[n:] for n in (60, 30)]
    dice = random.Random(3)
    drawn = []
    for _ in range(600):
        rows = [dice.randrange(120) for _ in gold]
        one, two = (
            er.score([gold[r] for r in rows], [some[r] for r in rows])["accuracy"] for some in said
        )
        drawn.append(two - one)
    found = compare(*runs)["tasks"]["er"]["figures"]["accuracy"]["interval"]
    assert found == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=2.0)


def test_conversations_are_drawn_whole_and_only_common_answers_count(tmp_path):
    records = ecpe_records(range(6))
    data = dump_records(tmp_path / "ecpe.jsonl", records)
    a = _run(tmp_path, "a", data, {}, limit=10)
    b = _run(tmp_path, "b", data, {records[0].id: ""})
    result = compare(a, b, "strict")
    assert (result["tasks"]["ecpe"]["n"], result["tasks"]["ecpe"]["unit"]) == (10, "conversation")
    assert result["tasks"]["ecpe"]["figures"]["recall"]["difference"] < 0
    assert result["runs"][1] | {"folder": ""} == {
        "folder": "",
        "model": "b",
        "model_sha256": "b",
        "answered": len(records),
    }


def test_what_is_said_in_a_conversation_is_drawn_together_for_every_task(tmp_path):
    records = [
        replace(record, meta={"dialogue": f"d{place // 10}"})
        for place, record in enumerate(er_records(100))
    ]
    data = dump_records(tmp_path / "er.jsonl", records)
    a = _run(tmp_path, "a", data, {r.id: "Fear." for r in records[:50]})
    b = _run(tmp_path, "b", data, {})
    found = compare(a, b)["tasks"]["er"]
    assert found["unit"] == "conversation"
    low, high = found["figures"]["accuracy"]["interval"]
    assert high - low > 50  # 20 for 100 records that stand alone


def test_reasons_that_name_no_emotion_are_compared_by_the_other_figures(tmp_path):
    records = [
        Record(eri.query(f"Line {n}"), f"The ball flew over house {n}.", "eri", id=f"r{n}")
        for n in range(12)
    ]
    data = dump_records(tmp_path / "eri.jsonl", records)
    a = _run(tmp_path, "a", data, {r.id: "A dog." for r in records})
    b = _run(tmp_path, "b", data, {})
    figures = compare(a, b)["tasks"]["eri"]["figures"]
    assert set(figures) == {"rouge_l", "token_f1", "clue_overlap"}


def test_runs_on_other_data_are_refused(tmp_path, runs):
    data = dump_records(tmp_path / "other.jsonl", er_records(3))
    with pytest.raises(EmoVerseError, match="different data"):
        compare(runs[0], _run(tmp_path, "c", data, {}))
    with pytest.raises(EmoVerseError, match="holds no evaluation"):
        compare(runs[0], tmp_path)


def test_the_command_prints_the_difference(runs, capsys):
    main_exit = None
    try:
        main(["compare", str(runs[0]), str(runs[1]), "--resamples", "500"])
    except SystemExit as end:
        main_exit = end.code
    out = capsys.readouterr().out
    assert main_exit in (None, 0)
    assert "B - A" in out and "+25.00" in out and "120 answered by both" in out
