"""The memory plan of a recipe, held to what autograd really keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import load_recipe
from emoverse.models.any_mllm import prepare
from emoverse.models.internvl2 import published
from emoverse.models.internvl2.convert import meta_model
from emoverse.models.internvl2.layout import BACKBONES, entries
from emoverse.training import estimate as plan
from emoverse.training.estimate import estimate
from emoverse.training.optimiser import add_lora

from .small_4b import small_config

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.mark.parametrize(
    ("name", "billions"), [("emoverse-4b.yaml", 4.15), ("emoverse-8b.yaml", 8.08)]
)
def test_the_papers_models(name: str, billions: float) -> None:
    recipe = load_recipe(RECIPES / name)
    found = estimate(recipe)
    assert found.parameters / 1e9 == pytest.approx(billions, abs=0.01)
    assert found.weights == pytest.approx(2 * found.parameters, rel=0.02)  # but the projector
    assert found.optimiser >= 16 * found.trained
    assert found.training() > found.answering > found.weights
    most = [found.most_tokens(size) for size in plan.GPUS]
    assert most == sorted(most)
    for size in plan.GPUS:
        assert found.fits(size) == (found.most_tokens(size) >= recipe.batch_tokens)
    assert found.fits(141)
    assert not found.fits(24)


@pytest.mark.parametrize(("name", "size"), [("emoverse-4b.yaml", 40), ("emoverse-8b.yaml", 80)])
def test_the_shipped_recipes_fit_the_cards_they_name(name: str, size: int) -> None:
    assert estimate(load_recipe(RECIPES / name)).fits(size)


def test_targets_are_the_backbones_own() -> None:
    for name, architecture in (("4b", "Phi3ForCausalLM"), ("8b", "InternLM2ForCausalLM")):
        recipe = load_recipe(RECIPES / f"emoverse-{name}.yaml")
        assert recipe.lora.targets == BACKBONES[architecture].lora_targets


def test_a_smaller_batch_and_rank_cost_less() -> None:
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    found = estimate(recipe)
    small = estimate(replace(recipe, batch_tokens=1024, lora=replace(recipe.lora, r=4)))
    assert small.training() < found.training()
    assert small.trained < found.trained


def test_checkpointing_keeps_what_enters_a_layer() -> None:
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    whole, small = estimate(recipe), estimate(replace(recipe, gradient_checkpointing=True))
    assert small.activations < 0.2 * whole.activations
    assert small.activations > 32 * 3072 * 2  # layers, width, bytes
    assert (small.weights, small.optimiser) == (whole.weights, whole.optimiser)


@pytest.mark.parametrize(("kind", "gigabytes"), [("nf4", 3.0), ("int8", 4.8)])
def test_quantized_weights_are_smaller(kind: str, gigabytes: float) -> None:
    """Phi-3's 3.62 billion linear weights shrink; embeddings, output layer and ViT do not."""
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    whole, small = estimate(recipe), estimate(replace(recipe, quantize=kind))
    assert whole.weights - small.weights == pytest.approx(
        3.62e9 * (2 - {"nf4": 4.127, "int8": 8.01}[kind] / 8), rel=0.01
    )
    assert small.weights / 1e9 == pytest.approx(gigabytes, abs=0.2)
    assert (small.trained, small.optimiser) == (whole.trained, whole.optimiser)


def test_what_is_counted_is_what_autograd_keeps() -> None:
    """The same layers with real numbers and PyTorch's own attention, storage by storage."""
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    config = small_config(3, vit_layers=1)
    network = meta_model(config).to(torch.bfloat16)
    model = prepare("small", network, plan._NoProcessor())  # type: ignore[arg-type]
    add_lora(model, recipe.lora)
    counted = plan._kept(model, checkpointing=False)

    language = network.model.language_model.to_empty(device="cpu")
    tokens = 256
    for parameter in language.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    weights = {plan._storage(p) for p in language.parameters()}
    states = torch.randn(1, tokens, 128, dtype=torch.bfloat16).requires_grad_()
    with plan._counted(weights) as kept:
        language(inputs_embeds=states, use_cache=False)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / tokens
    assert counted == pytest.approx(real, rel=0.1)


def test_a_model_of_unknown_size_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    with pytest.raises(EmoVerseError, match="InternVL2-4B"):
        estimate(replace(recipe, model=str(tmp_path / "some-model")))
    with pytest.raises(EmoVerseError, match="compact"):
        estimate(replace(recipe, model="compact"))


def test_the_published_sizes_are_those_of_the_cards() -> None:
    """Parameters as the hub counts them, in millions."""
    for name, millions in (
        ("InternVL2-1B", 938),
        ("InternVL2-2B", 2206),
        ("InternVL2-4B", 4147),
        ("InternVL2-8B", 8076),
    ):
        architecture, sizes = published.SIZES[name]
        count = sum(torch.Size(entry.shape).numel() for entry in entries(architecture, sizes))
        assert count / 1e6 == pytest.approx(millions, abs=1.5)
