"""The lmms-eval tasks, loaded and run by lmms-eval itself.

The package wants other versions of much, so it usually lives in an environment of its own:
EMOVERSE_LMMS_PYTHON names that environment's interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from emoverse.emt.record import Record, dump_records
from emoverse.evaluation.score import score_files
from emoverse.tasks import eri, fer

from .made import ecpe_records, er_records, msa_records

FOLDER = Path(__file__).resolve().parents[2] / "integrations/lmms_eval"
PYTHON = os.environ.get("EMOVERSE_LMMS_PYTHON", sys.executable)
SOURCE = Path(__file__).resolve().parents[2] / "src"


def _records() -> list[Record]:
    reason = "She is happy because she won."
    return [
        *(replace(record, videos=()) for record in er_records()),
        *msa_records(),
        *ecpe_records(range(4)),
        Record(fer.query(), "Grinning", "fer", id="f", label=["AU12"]),
        Record(eri.query("Oh"), reason, "eri", id="r"),
    ]


def _prepare(tmp_path, records, *options):
    data = dump_records(tmp_path / "emt.jsonl", records)
    command = [sys.executable, FOLDER / "prepare.py", data, tmp_path / "data", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_records_become_one_file_a_task(tmp_path):
    assert _prepare(tmp_path, _records()).returncode == 0
    files = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert files == [f"emoverse_{task}.jsonl" for task in ("ecpe", "er", "eri", "fer", "msa")]
    row = json.loads((tmp_path / "data/emoverse_er.jsonl").read_text().splitlines()[0])
    assert json.loads(row["record"])["label"] == "joy"


def test_a_missing_clip_is_named(tmp_path):
    done = _prepare(tmp_path, er_records(1))
    assert done.returncode == 1
    assert "Record u0" in done.stderr and "--media-root" in done.stderr


@pytest.mark.slow
def test_lmms_eval_loads_and_scores_the_tasks_as_we_do(tmp_path):
    found = subprocess.run(
        [PYTHON, "-c", "import lmms_eval, datasets"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip("needs lmms-eval; name its interpreter in EMOVERSE_LMMS_PYTHON")
    records = _records()
    _prepare(tmp_path, records)
    environment = os.environ | {
        "PYTHONPATH": str(SOURCE),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        *(PYTHON, "-m", "lmms_eval", "--include_path", str(FOLDER), "--tasks", "emoverse"),
        *("--model", "dummy", "--model_args", "response=Joy.", "--batch_size", "1"),
        *("--output_path", str(tmp_path / "results")),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path / "data",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    written = list((tmp_path / "results").rglob("*results.json"))
    assert len(written) == 1, done.stderr[-3000:]
    results = json.loads(written[0].read_text())["results"]
    said = [replace(record, response="Joy.") for record in records]
    pred = dump_records(tmp_path / "said.jsonl", said)
    for task in ("er", "msa", "ecpe", "fer", "eri"):
        ours = score_files(task, tmp_path / "emt.jsonl", pred, "paper")["headline"]
        theirs = {key.split(",")[0]: value for key, value in results[f"emoverse_{task}"].items()}
        for name, value in ours.items():
            key = f"paper_{name}" if task == "ecpe" else name
            if key in theirs:
                assert theirs[key] == pytest.approx(value), (task, name)
        assert any(name in theirs or f"paper_{name}" in theirs for name in ours)
