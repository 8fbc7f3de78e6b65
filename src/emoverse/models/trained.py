"""Trained models by their folders: the shipped one, and what a run or `emoverse merge` left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoverse.errors import EmoVerseError
from emoverse.files import read_json

if TYPE_CHECKING:
    from emoverse.models.any_mllm import Mllm

RECIPE = "recipe.json"
MERGED_RECIPE = "training_recipe.json"
ADAPTER = "adapter_model.safetensors"
OTHER_PARTS = "trained_parts.safetensors"
# What `emoverse merge` makes of the compact model: a plain Llama in a folder of its own.
LANGUAGE = "language"
SHIPPED = Path(__file__).parent / "compact_weights"


def folder_of(model: str) -> Path:
    """The folder of a model as commands name it: `compact`, or the folder itself."""
    return SHIPPED if model == "compact" else Path(model)


def own_folder(model: str | Path) -> Path:
    """A model's folder to write beside its weights in.

    Raises:
        EmoVerseError: the model is the shipped one, which stays as it is.
    """
    if str(model) == "compact":
        raise EmoVerseError(
            "What is fitted is kept beside the weights, and `compact` comes with its own; name the "
            "folder of a model that you trained."
        )
    return Path(model).resolve()


def name_of(model: str | Path) -> str:
    """What a model is called in reports: `compact`, or its folder (`run-best` for a run's best)."""
    if model == "compact" or Path(model) == SHIPPED:
        return "compact"
    folder = Path(model).resolve()
    return f"{folder.parent.name}-best" if folder.name == "best" else folder.name


def load_trained(folder: Path) -> Mllm:
    """A run's model, its LoRA merged.

    Raises:
        EmoVerseError: the folder is not of such a run.
    """
    from peft import PeftModel  # heavy, and recipes are read without
    from safetensors.torch import load_file

    from emoverse.models import any_mllm

    recipe = run_recipe(folder)
    model = any_mllm.load(recipe["model"], projector=recipe["projector"])
    place = model.language_name
    setattr(
        model.network.model,
        place,
        PeftModel.from_pretrained(model.language, str(folder)).merge_and_unload(),
    )
    if (folder / OTHER_PARTS).is_file():
        wrong = model.network.load_state_dict(load_file(folder / OTHER_PARTS), strict=False)
        if wrong.unexpected_keys:
            raise EmoVerseError(
                f"{folder / OTHER_PARTS}: does not fit {recipe['model']} "
                f"({wrong.unexpected_keys[0]}); train again with that model."
            )
    model.network.requires_grad_(False).train(False)
    return model


def run_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of a run.

    Raises:
        EmoVerseError: the folder is not one that `emoverse train` wrote.
    """
    if not (folder / RECIPE).is_file() or not (folder / ADAPTER).is_file():
        raise EmoVerseError(f"{folder}: not a folder that `emoverse train` wrote; name one.")
    recipe: dict[str, Any] = read_json(folder / RECIPE)
    return recipe


def known_recipe(folder: Path) -> Mapping[str, Any]:
    """The recipe that a model folder was trained by; empty for one that EmoVerse never trained."""
    for name in (RECIPE, MERGED_RECIPE):
        if (folder / name).is_file():
            recipe: dict[str, Any] = read_json(folder / name)
            return recipe
    return {}
