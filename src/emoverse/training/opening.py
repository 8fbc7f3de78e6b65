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


def open_model(recipe: Recipe, out: Path, crew: Crew) -> EmoVerse | Mllm:
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
        weights = Path(recipe.vit) if recipe.vit else compact.SHIPPED / "face_vit.safetensors"
        compact.load_vit(model, weights)
        if crew.leads:
            write_bytes(out / VIT, weights.read_bytes())
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
