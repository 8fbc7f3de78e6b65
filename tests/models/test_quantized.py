from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import Lora, Recipe, Stage
from emoverse.models import any_mllm, quantized
from emoverse.models.any_mllm import Mllm
from emoverse.training import train
from emoverse.training.distributed import Crew
from emoverse.training.folder import load_trained
from emoverse.training.opening import open_model
from emoverse.training.optimiser import add_lora
from emoverse.training.rows import row_of
from emoverse.training.speed import language_of
from emoverse.training.step import batch_losses
from emoverse.training.visual import tokenised, watch

from ..training.test_rows import records
from . import families

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Idefics3 folder, wide enough for blocks of 64 weights, with two pictures beside it."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1}
    monkeypatch.setattr(families, "_TEXT", families._TEXT | wide)
    network, processor = families.idefics3()
    network.save_pretrained(tmp_path / "base")
    type(processor).__name__ = "Idefics3Processor"
    processor.save_pretrained(tmp_path / "base")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / name)
    return tmp_path / "base"


def _losses(model: Mllm, root: Path) -> torch.Tensor:
    given = [record for record in records() if "gone.png" not in record.media]
    visual = watch(model, given, root, None)
    return batch_losses(model, [row_of([tokenised(model, r, visual) for r in given])], visual)


@needs_bitsandbytes
@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4), ("int8", 8)])
def test_the_language_model_alone_is_quantized(base: Path, kind: str, bits: int) -> None:
    model = any_mllm.load(str(base), quantize=kind)
    inside = set(map(id, language_of(model).modules()))
    for module in model.network.modules():
        if isinstance(module, torch.nn.Linear):
            small = module.weight.dtype in (torch.uint8, torch.int8)
            assert small == (id(module) in inside), module
            if small:
                held = module.weight.numel() * module.weight.element_size()
                assert held == module.in_features * module.out_features * bits // 8
    with torch.no_grad():
        apart = _losses(model, base.parent) - _losses(any_mllm.load(str(base)), base.parent)
    assert 0 < float(apart.abs().mean()) < {4: 0.6, 8: 0.1}[bits]


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_gradients_reach_the_first_layer_also_after_an_evaluation(base: Path, kind: str) -> None:
    model = any_mllm.load(str(base), quantize=kind)
    add_lora(model, Lora(r=2, dropout=0.0))
    first = [p for n, p in model.network.named_parameters() if "layers.0." in n and "lora_B" in n]
    norms = []
    for _ in range(2):
        for parameter in first:
            parameter.grad = None
        _losses(model, base.parent).sum().backward()
        norms.append([float(p.grad.norm()) for p in first if p.grad is not None])
        model.network.train(False)
        with torch.no_grad():
            _losses(model, base.parent)
        language_of(model).train()
    assert len(norms[0]) == 7
    assert min(norms[0]) > 0
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@needs_bitsandbytes
def test_a_recipe_trains_and_gives_a_full_model(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOVERSE_CACHE", str(tmp_path / "cache"))
    data = dump_records(tmp_path / "train.jsonl", records())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"{{model: {base}, train: {data}, valid: {data}, quantize: nf4, batch_samples: 4,\n"
        "lora: {r: 4, dropout: 0.0}, row_tokens: 2000, batch_tokens: 4000, stages: [\n"
        "{name: all, rates: {msa: 1, er: 1, ecpe: 1}, epochs: 8, lora_lr: 1e-2}]}"
    )
    out = train(recipe, ["stages.0.projector_lr=0"], out=tmp_path / "run")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [np.mean(list(row["loss"].values())) for row in rows if "loss" in row]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    trained = load_trained(out)
    assert all(p.dtype == torch.bfloat16 for p in trained.network.parameters())


def test_a_missing_package_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmoVerseError, match=r"nf4 needs bitsandbytes; pip install 'emoverse\[qlo"):
        any_mllm.load(str(base), quantize="nf4")


def test_what_is_beside_the_language_model_is_named(base: Path) -> None:
    assert set(quantized._outside(str(base))) == {
        "lm_head",
        "model.vision_model",
        "model.connector",
    }
    assert transformers.AutoConfig.from_pretrained(base).model_type == "idefics3"


def test_quantized_weights_are_not_split_over_processes(base: Path) -> None:
    stage = Stage("all", {"er": 1})
    recipe = Recipe(str(base), "train.jsonl", (stage,), quantize="nf4")
    with pytest.raises(EmoVerseError, match="leave --use_fsdp away"):
        open_model(recipe, Crew(size=2, sharded=True))
