from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.runner import evaluate, score_predictions
from emoverse.evaluation.runs import load_run, model_sha256

from .made import FakeEngine, er_records

_SLOW_RUN = """
import sys, time
from pathlib import Path
from dataclasses import dataclass, field
from emoverse.evaluation.runner import evaluate

@dataclass
class P:
    id: str; text: str; label: object = None; probabilities: dict = field(default_factory=dict)
    media_missing: bool = True; seconds: float = 0.0

class Slow:
    name, sha256 = "fake", "feed"
    def answer(self, records, media_root):
        for record in records:
            yield P(record.id, record.response)
            time.sleep(0.05)

evaluate("fake", Path(sys.argv[1]), out=Path(sys.argv[2]), engine=Slow())
"""


def test_a_run_killed_by_the_system_goes_on_where_it_stopped(tmp_path):
    records = er_records(400)
    data, out = dump_records(tmp_path / "emt.jsonl", records), tmp_path / "out"
    log = out / "predictions.jsonl"
    process = subprocess.Popen([sys.executable, "-c", _SLOW_RUN, str(data), str(out)])
    waited = time.monotonic() + 120
    while not (log.is_file() and log.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None and time.monotonic() < waited
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = log.read_bytes()
    done = kept.count(b"\n")
    assert 3 <= done < len(records)
    engine = FakeEngine()
    scores = evaluate("fake", data, out=out, engine=engine)
    assert engine.asked == [record.id for record in records[done:]]
    assert log.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert scores["tasks"]["er"]["answered"] == len(records)


def test_one_folder_has_one_writer(tmp_path):
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(2)), tmp_path / "out"
    out.mkdir()
    with (
        FileLock(out / ".lock"),
        pytest.raises(EmoVerseError, match="another evaluation is writing"),
    ):
        evaluate("fake", data, out=out, engine=FakeEngine())


def test_answers_without_settings_are_nobodys(tmp_path):
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(2)), tmp_path / "out"
    evaluate("fake", data, out=out, engine=FakeEngine())
    (out / "run.json").unlink()
    with pytest.raises(EmoVerseError, match="says whose"):
        evaluate("fake", data, out=out, engine=FakeEngine())


def test_the_latest_answer_counts_and_foreign_lines_do_not(tmp_path):
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(2)), tmp_path / "out"
    evaluate("fake", data, out=out, engine=FakeEngine())
    log = out / "predictions.jsonl"
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(last | {"text": "Fear."}) + "\n")
        file.write(json.dumps(last | {"text": "Anger.", "query_sha256": "0" * 32}) + "\n")
        file.write("not json\n")
    assert load_run(out).answers["u1"].text == "Fear."
    assert score_predictions(out)["tasks"]["er"]["headline"]["accuracy"] == 50


def test_nothing_left_to_ask_loads_no_model(tmp_path, monkeypatch):
    from emoverse.evaluation import runner

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(2)), tmp_path / "out"
    engine = FakeEngine()
    engine.name, engine.sha256 = "model", model_sha256(str(folder))
    evaluate(str(folder), data, out=out, engine=engine)
    monkeypatch.setitem(sys.modules, "emoverse.inference.engine", None)
    assert runner.evaluate(str(folder), data, out=out)["tasks"]["er"]["n"] == 2


def test_the_model_hash_follows_the_weights_and_nothing_else(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert model_sha256(str(tmp_path / "nowhere")) is None
    (folder / "model.safetensors").write_bytes(b"weights")
    first = model_sha256(str(folder))
    (folder / "log.jsonl").write_text("{}")
    (folder / "checkpoint.safetensors").write_bytes(b"optimiser")
    assert model_sha256(str(folder)) == first
    (folder / "config.json").write_text("{}")
    second = model_sha256(str(folder))
    (folder / "model.safetensors").write_bytes(b"other")
    assert len({first, second, model_sha256(str(folder))}) == 3
    assert len(model_sha256("compact")) == 64


@pytest.mark.parametrize(
    "name", ["preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"]
)
def test_the_model_hash_follows_how_pictures_are_prepared(tmp_path, name):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = model_sha256(str(tmp_path))
    (tmp_path / name).write_text('{"max_patches": 1}')
    second = model_sha256(str(tmp_path))
    (tmp_path / name).write_text('{"max_patches": 12}')
    assert len({first, second, model_sha256(str(tmp_path))}) == 3


def test_the_model_hash_follows_what_a_recipe_decides_and_nothing_else_of_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def hashed(model, **told):
        recipe = {"model": model, "projector": "own", "frames": 8, "videos": "frames", "seed": 0}
        (tmp_path / "recipe.json").write_text(json.dumps(recipe | told))
        return model_sha256(str(tmp_path))

    assert len({hashed("m"), hashed("m", frames=4), hashed("m", videos="native")}) == 3
    assert hashed("m") == hashed("m", seed=1)
    assert hashed("compact") == hashed("compact", frames=4)  # which shows one frame in any case
