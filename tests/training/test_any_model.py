"""A model of transformers, from its folder through training to a merged folder."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from huggingface_hub import HfApi
from PIL import Image
from safetensors.torch import load_file

from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.inference import calibration, phrases
from emoverse.inference.phrases import Phrases
from emoverse.m2se.recipe import Recipe, Stage, to_dict
from emoverse.models import any_mllm, processing
from emoverse.training import folder as model_folder
from emoverse.training import train
from emoverse.training.card import write_card
from emoverse.training.folder import load_trained, merge, push_to_hub

from ..models.families import FAMILIES
from .test_rows import records

RECIPE = """
model: {model}
train: {train}
valid: {train}
lora: {{r: 2, dropout: 0.0}}
row_tokens: 2000
batch_tokens: 4000
batch_samples: 4
stages:
  - {{name: see, rates: {{msa: 1, er: 1}}, samples: 4, lora_lr: 1e-2, projector_lr: 1e-2}}
  - {{name: why, rates: {{er: 1, ecpe: 1, msa: 1}}, epochs: 1, lora_lr: 1e-2, projector_lr: 0}}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOVERSE_CACHE", str(tmp_path / "cache"))
    network, processor = FAMILIES["idefics3"]()
    network.save_pretrained(tmp_path / "base")
    type(processor).__name__ = "Idefics3Processor"
    processor.save_pretrained(tmp_path / "base")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / name)
    train_file = dump_records(tmp_path / "train.jsonl", records())
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=tmp_path / "base", train=train_file), encoding="utf-8")
    load = any_mllm.AutoModelForImageTextToText.from_pretrained

    def exact(source: str, **given: Any) -> Any:
        return load(source, **given | {"dtype": torch.float32})  # tiny random weights

    monkeypatch.setattr(any_mllm.AutoModelForImageTextToText, "from_pretrained", exact)
    return path


def _steps(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def test_a_run_starts_from_what_an_earlier_one_learnt(recipe: Path, tmp_path: Path) -> None:
    first = train(recipe, out=tmp_path / "first")
    still = ["stages.0.lora_lr=0", "stages.0.projector_lr=0", "stages.1.lora_lr=0"]
    second = train(recipe, [f"start={first}", *still], out=tmp_path / "second")
    for name in ("adapter_model.safetensors", "trained_parts.safetensors"):
        a, b = load_file(first / name), load_file(second / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name


def test_it_trains_scores_merges_and_loads_again(recipe: Path, tmp_path: Path) -> None:
    out = train(recipe, out=tmp_path / "run")
    assert _steps(out)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2  # the two pictures
    page = (out / "training.html").read_text(encoding="utf-8")
    assert "Emotion: exact, %" in page
    assert "<script" not in page
    fitted = calibration.Calibration({"er": 1.5}), {"eri": Phrases({(5, 6): (7, 0.5)})}
    calibration.save(fitted[0], out)
    phrases.save(fitted[1], out)
    merged = merge(out, tmp_path / "merged")
    assert (
        calibration.load(merged),
        phrases.load(merged, 10),
    ) == fitted  # they are of the same model
    trained = load_trained(out)
    plain = transformers.AutoModelForImageTextToText.from_pretrained(merged).eval()
    processor = transformers.AutoProcessor.from_pretrained(merged)
    picture = Image.open(tmp_path / "a.png").convert("RGB")
    text = processing.chat(trained, "Well?", 1)
    given = processor(text=[text], images=[[picture]], return_tensors="pt")
    with torch.no_grad():
        ours, theirs = trained.network(**given).logits, plain(**given).logits
        before = FAMILIES["idefics3"]()[0](**given).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert float((ours - before).abs().max()) > 0.1
    card = (merged / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: ")  # a folder is no base
    assert "| see | er | " in card
    assert "## Scores on the valid split" in card
    with pytest.raises(EmoVerseError, match="is not empty"):
        merge(out, tmp_path / "merged")


def test_a_linear_projector_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text('{"model": "some", "projector": "linear"}')
    (run / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(EmoVerseError, match="no place for a linear projector"):
        merge(run, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_best_model_is_merged_with_the_scores_it_had(recipe: Path, tmp_path: Path) -> None:
    out = train(recipe, ["stages.1.epochs=3"], out=tmp_path / "run")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scored = [row for row in rows if "valid" in row]
    best = [row for row in scored if row["best"]][-1]
    assert best["mean"] == max(row["mean"] for row in scored)
    assert len(scored) == 5  # one a stage's epoch
    assert all(set(row["valid"]) == {"msa", "er", "ecpe"} for row in scored)
    card = (merge(out / "best", tmp_path / "merged") / "README.md").read_text(encoding="utf-8")
    assert f"After stage {best['stage']}, step {best['step']}." in card
    figures = best["valid"]["er"]
    assert f"| er | {figures['n']:.0f} | " in card
    assert f"{figures['loss']:.2f}" in card


@pytest.mark.parametrize(
    ("model", "named"), [("OpenGVLab/InternVL3-1B-hf", True), ("compact", True), ("/a/b", False)]
)
def test_the_cards_base_is_a_repository_or_left_out(
    tmp_path: Path, model: str, named: bool
) -> None:
    settings = to_dict(Recipe(model, "train.jsonl", (Stage("one", {"er": 1}),)))
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    (tmp_path / "log.jsonl").write_text("")
    card = write_card(tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    data = yaml.safe_load(card.split("---")[1])
    assert ("base_model" in data) == named
    assert data["pipeline_tag"] == "image-text-to-text"


def test_its_own_forward_pass_trains_the_same(recipe: Path, tmp_path: Path) -> None:
    still = ["stages.0.projector_lr=0", "batch_samples=100", "batch_tokens=100000"]
    merged = _steps(train(recipe, still, out=tmp_path / "merged"))
    padded = _steps(train(recipe, [*still, "rows=padded"], out=tmp_path / "padded"))
    assert len(merged) == len(padded) == 3
    for mine, theirs in zip(merged, padded, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-3)


def test_a_model_whose_layers_have_other_names_is_told(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"LoRA does not fit .* set lora\.targets"):
        train(recipe, ["lora.targets=[wqkv]"], out=tmp_path / "run")


def test_a_push_makes_the_repository_and_sends_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Hub:
        def create_repo(self, name: str, **given: Any) -> str:
            sent.append((name, given))
            if name == "me/taken":
                raise ValueError("not yours")
            return f"https://huggingface.co/{name}"

        def upload_folder(self, **given: Any) -> None:
            sent.append(given["folder_path"])

    monkeypatch.setattr(model_folder, "HfApi", Hub)
    assert push_to_hub(tmp_path, "me/mine") == "https://huggingface.co/me/mine"
    assert sent == [("me/mine", {"private": True, "exist_ok": True}), tmp_path]
    with pytest.raises(EmoVerseError, match=r"me/taken: the hub took no upload \(not yours\)"):
        push_to_hub(tmp_path, "me/taken")


def test_a_hub_that_cannot_be_reached_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:  # nobody listens where it was bound
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
        monkeypatch.setattr(model_folder, "HfApi", lambda: HfApi(endpoint=nobody, token="mine"))
        with pytest.raises(EmoVerseError, match=r"me/mine: the hub took no upload \(.+refused"):
            push_to_hub(tmp_path, "me/mine")
