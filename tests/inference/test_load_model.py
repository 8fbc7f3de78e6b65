"""Which folders `load_model` takes, through the commands that users run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from emoverse import cli
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.runs import model_sha256
from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference import engine as engine_module
from emoverse.inference.engine import load_model
from emoverse.models import any_mllm
from emoverse.models.internvl2.convert import convert
from emoverse.tasks import ecpe, er, eri, fer, labels, msa
from emoverse.training import train
from emoverse.training.folder import merge

from ..faces import clips
from ..models.internvl2 import published

RECIPE = """
model: {model}
train: train.jsonl
lora: {{r: 2, dropout: 0.0}}
projector: {projector}
frames: 3
row_tokens: 2000
batch_tokens: 4000
stages:
  - {{name: one, rates: {{er: 1, msa: 1}}, lora_lr: 1e-2, projector_lr: 1e-2}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converted InternVL2, records, and a clip in which a face is found."""
    pytest.importorskip("sentencepiece", reason="makes the small tokenizers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOVERSE_CACHE", str(tmp_path / "cache"))
    load = any_mllm.AutoModelForImageTextToText.from_pretrained

    def exact(source: str, **given: Any) -> Any:
        return load(source, **given | {"dtype": torch.float32})  # tiny random weights

    monkeypatch.setattr(any_mllm.AutoModelForImageTextToText, "from_pretrained", exact)

    def face(clip: Path | str) -> FaceTrack:
        info = VideoInfo(Path(clip), 64, 48, 10.0, 3.0, 30, 0, False)
        peak = np.full((48, 64, 3), 200, np.uint8)
        return FaceTrack(info, peak_image=peak, peak_landmarks=np.zeros((478, 3), np.float32))

    monkeypatch.setattr(engine_module, "analyse_faces", face)
    clips.write(tmp_path / "a.mp4", count=30, fps=10)
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "b.png")
    turns = [ecpe.Turn(1, "A", "x", "joy"), ecpe.Turn(2, "B", "y", "fear")]
    records = [
        Record(er.query("Hi"), "Joy.", "er", id="1", videos=("a.mp4",), label="joy"),
        Record(msa.query("Hi"), "Positive.", "msa", id="2", videos=("a.mp4",), label="positive"),
        Record(fer.query(), "Eyes narrowing", "fer", id="3", images=("b.png",), label=["AU07"]),
        Record(eri.query("Hi"), "He is glad.", "eri", id="4", label="joy"),
        Record(ecpe.query(turns, 2), "2_fear,1", "ecpe", id="5", label=[[2, "fear", 1]]),
    ]
    dump_records(tmp_path / "train.jsonl", records)
    published.checkpoint(tmp_path / "published", "internlm2")
    convert(tmp_path / "published", tmp_path / "converted")
    return tmp_path


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return int(ended.value.code or 0)


def _trained(folder: Path, projector: str = "own") -> Path:
    (folder / "recipe.yaml").write_text(RECIPE.format(model="converted", projector=projector))
    return train(folder / "recipe.yaml", out=folder / f"run-{projector}")


def test_a_converted_folder_analyses_and_is_evaluated(folder: Path) -> None:
    told = folder / "told.json"
    assert _run("analyze", "a.mp4", "--text", "Hi", "-m", "converted", "--json", str(told)) == 0
    (found,) = [found] if isinstance(found := json.loads(told.read_text()), dict) else found
    assert set(found["answers"]) == {"msa", "er", "fer", "eri"}
    assert set(found["answers"]["er"]["probabilities"]) == set(labels.EMOTIONS)
    assert found["model"] == "converted"
    media = ["--media-root", str(folder)]
    assert _run("eval", "converted", "train.jsonl", *media, "--out", "scored") == 0
    scores = json.loads((folder / "scored" / "scores.json").read_text())
    assert set(scores["tasks"]) == {"msa", "er", "fer", "eri", "ecpe"}
    assert all(task["media_missing"] == 0 for task in scores["tasks"].values())


def test_a_run_and_what_is_merged_from_it_answer_alike(folder: Path) -> None:
    run = _trained(folder)
    merged = merge(run, folder / "merged")
    before, trained, plain = (load_model(str(each)) for each in ("converted", run, merged))
    assert (before.frames, trained.frames, plain.frames) == (8, 3, 3)  # the recipe's
    assert trained.name == run.name
    first, second, third = (one.analyze("a.mp4", "Hi") for one in (before, trained, plain))
    for task in ("msa", "er"):
        for label, probability in second.answers[task].probabilities.items():
            assert third.answers[task].probabilities[label] == pytest.approx(probability, abs=1e-4)
    assert second.answers["fer"].text == third.answers["fer"].text
    moved = [
        abs(second.answers["er"].probabilities[e] - first.answers["er"].probabilities[e])
        for e in labels.EMOTIONS
    ]
    assert max(moved) > 0.01


def test_a_linear_projector_answers_from_its_run(folder: Path) -> None:
    run = _trained(folder, "linear")
    assert load_model(str(run)).analyze("a.mp4", "Hi", tasks=["er"]).answers["er"].label


def test_the_hash_of_a_run_counts_the_model_it_was_trained_on(folder: Path) -> None:
    run = _trained(folder)
    before = model_sha256(str(run))
    (shard,) = (folder / "converted").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\1")
    assert model_sha256(str(run)) != before


def test_a_run_that_has_not_saved_yet_and_a_stranger_are_told(folder: Path) -> None:
    run = _trained(folder)
    (run / "adapter_model.safetensors").unlink()
    with pytest.raises(EmoVerseError, match="not a folder that `emoverse train` wrote"):
        load_model(str(run))
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EmoVerseError, match="not an image-text-to-text model"):
        load_model(str(folder / "other"))
