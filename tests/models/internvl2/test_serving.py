"""What other programs read from a converted folder, and from one that was trained and merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from emoverse.m2se.recipe import load_recipe
from emoverse.models import any_mllm
from emoverse.models.internvl2.layout import BACKBONES, read_published
from emoverse.models.internvl2.processor import open_processor
from emoverse.models.trained import load_trained
from emoverse.training.folder import merge, save_model
from emoverse.training.optimiser import add_lora

from . import published, vllm
from .conftest import Converted

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "emoverse-4b.yaml"


@pytest.fixture(scope="module", params=["converted", "merged"])
def served(
    request: pytest.FixtureRequest,
    converted: Converted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder as converted, and as `emoverse merge` writes it after a training."""
    if request.param == "converted":
        return converted.target
    recipe = load_recipe(RECIPE, [f"model={converted.target}"])
    targets = BACKBONES[read_published(converted.source).architecture].lora_targets
    recipe = replace(recipe, lora=replace(recipe.lora, targets=targets))
    model = any_mllm.load(recipe.model, dtype=torch.float32)
    add_lora(model, recipe.lora)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("trained")
    save_model(model, recipe, folder / "run")
    return merge(folder / "run", folder / "merged")


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            found |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return found


def test_vllm_knows_the_model_and_its_language_model(served: Path, converted: Converted) -> None:
    config = _config(served)
    assert config["architectures"] == [vllm.ARCHITECTURE]
    # It builds the language model from the text configuration's own architecture.
    assert config["text_config"]["architectures"] == [vllm.LANGUAGE[converted.kind]]


def test_every_setting_that_vllm_reads_is_there(served: Path) -> None:
    config = _config(served)
    for part, names in vllm.SETTINGS.items():
        found = config[part] if part else config
        assert not names - found.keys(), part
    vision = config["vision_config"]
    # It takes these two apart into height and width.
    assert vision["image_size"] == [published.IMAGE] * 2
    assert vision["patch_size"] == [published.PATCH] * 2
    per_tile = int((published.IMAGE // published.PATCH) ** 2 * config["downsample_ratio"] ** 2)
    assert open_processor(str(served)).image_seq_length == per_tile


def test_vllm_finds_each_of_its_weights_and_no_other(served: Path, converted: Converted) -> None:
    config = _config(served)
    renamed = {vllm.renamed(name): shape for name, shape in _shapes(served).items()}
    assert renamed == vllm.weights(config, converted.kind)


def test_rotary_settings_mean_the_same_to_transformers_4(
    served: Path, converted: Converted
) -> None:
    """Which vLLM may run on: it knows `rope_theta` and `rope_scaling`, not `rope_parameters`."""
    text, llm = _config(served)["text_config"], converted.checkpoint["config"]["llm_config"]
    assert text["rope_theta"] == llm["rope_theta"]
    scaling = llm["rope_scaling"]
    if scaling is None:
        assert text.get("rope_scaling") is None
        return
    assert {k: v for k, v in text["rope_scaling"].items() if "type" not in k} == {
        k: v for k, v in scaling.items() if k != "type"
    }
    kind = text["rope_scaling"].get("rope_type") or text["rope_scaling"]["type"]
    assert kind == {"su": "longrope"}.get(scaling["type"], scaling["type"])
    if kind == "longrope":
        assert len(text["rope_scaling"]) == 3  # transformers 4 takes no further key
        assert text["original_max_position_embeddings"] == llm["original_max_position_embeddings"]


def test_plain_transformers_loads_what_was_trained(served: Path, converted: Converted) -> None:
    ids = torch.arange(3, 40)[None]
    plain = AutoModelForImageTextToText.from_pretrained(served, dtype=torch.float32)
    run = served.parent / "run"
    wanted = load_trained(run).network.float() if run.is_dir() else converted.model
    with torch.no_grad():
        found, said, before = (
            model(input_ids=ids).logits for model in (plain, wanted, converted.model)
        )
    torch.testing.assert_close(found, said, rtol=0, atol=1e-4)
    assert (float((found - before).abs().max()) > 1e-2) == run.is_dir()  # the LoRA is in it


def test_vllm_asks_for_placeholders_of_one_token_each(served: Path) -> None:
    tokenizer = open_processor(str(served)).tokenizer
    for mark in ("<IMG_CONTEXT>", "<video>", "<img>", "</img>"):
        assert len(tokenizer.encode(mark, add_special_tokens=False)) == 1


def test_a_picture_and_a_question_through_the_processor(converted: Converted) -> None:
    processor = open_processor(str(converted.target))
    noise = np.random.default_rng(0).integers(0, 256, (60, 170, 3), np.uint8)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(
        text=text, images=[Image.fromarray(noise)], return_tensors="pt", add_special_tokens=False
    )
    tiles = len(inputs["pixel_values"])
    assert tiles == 4  # three tiles and a thumbnail
    per_tile = (published.IMAGE // published.PATCH // 2) ** 2
    assert int((inputs["input_ids"] == converted.image_token).sum()) == tiles * per_tile
    said = converted.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert said.shape[1] <= inputs["input_ids"].shape[1] + 3


def test_a_processor_saved_again_opens_again(converted: Converted, tmp_path: object) -> None:
    folder = str(tmp_path)
    processor = open_processor(str(converted.target))
    processor.save_pretrained(folder)
    again = open_processor(folder)
    assert again.image_seq_length == processor.image_seq_length
    assert again.image_processor.max_patches == 12
    assert again.tokenizer.chat_template == processor.tokenizer.chat_template


def test_a_saved_model_is_the_same_model(converted: Converted, tmp_path: object) -> None:
    folder = str(tmp_path)
    converted.model.save_pretrained(folder)
    again = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    found, wanted = again.state_dict(), converted.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
