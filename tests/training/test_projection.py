"""Operations of a training, held to what the shapes say by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emoverse.m2se.recipe import load_recipe
from emoverse.training.estimate import estimate
from emoverse.training.projection import PEAKS, hours

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_a_frozen_weight_costs_two_passes_and_a_checkpointed_one_three() -> None:
    """Phi-3-mini: 3.62 billion linear weights, and attention over 3,072 tokens."""
    recipe = load_recipe(RECIPES / "emoverse-4b.yaml")
    found = estimate(recipe)
    linear = 4 * 3.62e9
    attention = 32 * 3 * (4 * recipe.row_tokens * 3072)  # layers x (forward + twice backward)
    head = 4 * 0.25 * 3072 * 32_020
    lora = 6 * 12.6e6
    assert found.operations == pytest.approx(linear + attention + head + lora, rel=0.03)
    again = estimate(replace(recipe, gradient_checkpointing=True))
    assert again.operations / found.operations == pytest.approx(1.5, abs=0.06)


def test_a_clip_is_eight_tiles_through_the_visual_encoder() -> None:
    """InternViT-300M: 2 operations a weight and token, 1,025 tokens, and their attention."""
    found = estimate(load_recipe(RECIPES / "emoverse-4b.yaml"))
    tile = 1025 * (2 * 0.302e9 + 24 * 4 * 1025 * 1024)
    assert found.clip_operations == pytest.approx(8 * tile, rel=0.05)


def test_the_papers_schedule_of_the_4b_fits_into_three_hours_on_an_h200() -> None:
    found = estimate(load_recipe(RECIPES / "emoverse-4b.yaml"))
    took = {gpu: hours(found.schedule(), peak) for gpu, peak in PEAKS.items()}
    assert took["H200"] < 3
    assert took["A100"] < took["RTX 3090"] / 4
