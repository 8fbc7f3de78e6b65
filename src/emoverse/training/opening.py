"""The model that a recipe trains, with what it starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from emoverse.errors import EmoVerseError
from emoverse.files import write_bytes
from emoverse.m2se.recipe import Recipe
from emoverse.models import any_mllm, compact
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.training.distributed import Crew
from emoverse.training.folder import VIT, start_from
from emoverse.training.optimiser import add_lora, unfreeze_parts


def open_model(recipe: Recipe, crew: Crew) -> EmoVerse | Mllm:
    """The recipe's model, its LoRA new, everything frozen that no stage trains."""
    projector = any(stage.projector_lr > 0 for stage in recipe.stages)
    vit = any(stage.vit_lr > 0 for stage in recipe.stages)
    model: EmoVerse | Mllm
    if recipe.model == "compact":
        own = (recipe.projector, recipe.videos, recipe.quantize) == ("own", "frames", None)
        if vit or recipe.rows == "padded" or not own:
            raise EmoVerseError(
                "The compact model has a linear projector, rows that share prefixes, a picture of "
                "a face and a ViT trained beforehand, and is small; leave projector, rows, videos, "
                "quantize and vit_lr out of its recipe."
            )
        model = compact.assemble()
        compact.load_vit(model, _vit(recipe))
        add_lora(model, recipe.lora)
    else:
        if vit and recipe.visual_cache_gb > 0 and recipe.rows != "padded":
            raise EmoVerseError(
                "A visual encoder that is trained cannot be kept on disk; set visual_cache_gb: 0."
            )
        if recipe.projector == "linear" and not projector:
            raise EmoVerseError("projector: linear is new; give a stage a projector_lr above 0.")
        kept = projector and recipe.visual_cache_gb > 0 and recipe.rows != "padded"
        if recipe.quantize and crew.sharded:
            raise EmoVerseError(
                "Quantized weights cannot be split over processes; leave --use_fsdp away, or set "
                "quantize: null."
            )
        model = any_mllm.load(
            recipe.model,
            projector=recipe.projector,
            before_projector=kept,
            quantize=recipe.quantize,
            device=crew.device,
        )
        add_lora(model, recipe.lora)
        unfreeze_parts(model, projector=projector, vit=vit)
    if recipe.start:
        start_from(model, Path(recipe.start))
    torch.nn.Module.to(model.network, crew.device)
    return model


def keep_vit(recipe: Recipe, out: Path) -> None:
    """Put the compact model's ViT beside what is trained on it; other models have none."""
    if recipe.model == "compact":
        write_bytes(out / VIT, _vit(recipe).read_bytes())


def _vit(recipe: Recipe) -> Path:
    return Path(recipe.vit) if recipe.vit else compact.SHIPPED / VIT
