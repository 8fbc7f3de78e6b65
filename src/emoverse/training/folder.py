"""The folder a run leaves: what is loaded from it, and what `emoverse merge` makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from emoverse.errors import EmoVerseError
from emoverse.files import write_bytes, write_json
from emoverse.inference import calibration, phrases
from emoverse.m2se.plan import PLAN, StagePlan, check_plan, save_plan
from emoverse.m2se.recipe import Recipe, to_dict
from emoverse.models import any_mllm, compact
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.models.internvl2.configuration import keep_rotary_keys
from emoverse.models.trained import (
    ADAPTER,
    LANGUAGE,
    MERGED_RECIPE,
    OTHER_PARTS,
    RECIPE,
    load_trained,
    run_recipe,
)
from emoverse.training import checkpoint, logbook, report
from emoverse.training.card import write_card
from emoverse.training.checkpoint import Place
from emoverse.training.optimiser import other_parts

VIT = "face_vit.safetensors"
_FITTED = (calibration.FILE, phrases.FILE)  # to the model, after training
# Of a run that began in the same folder; log, plan and curves are written anew.
_LEFT = (ADAPTER, OTHER_PARTS, "adapter_config.json", "projector.safetensors", *_FITTED)


def clear(folder: Path) -> None:
    """Remove the model, checkpoint and pages of an earlier run from a new one's folder.

    Stopped before its first save, the new run would be taken for the old one.
    """
    best = folder / "best"
    for name in (*_LEFT, RECIPE, *checkpoint.FILES, report.FILE):
        (folder / name).unlink(missing_ok=True)
        (best / name).unlink(missing_ok=True)
    (best / VIT).unlink(missing_ok=True)


def check_place(out: Path, recipe: Recipe, plans: Sequence[StagePlan]) -> None:
    """Look whether a new run in `out` would take the place of what should stay.

    Raises:
        EmoVerseError: of the run that it starts from, or of a plan that no run has used yet.
    """
    if recipe.start and Path(recipe.start).resolve() in (out.resolve(), (out / "best").resolve()):
        raise EmoVerseError(
            f"{out} holds what this run starts from, and a new run takes its place; name another "
            "--out."
        )
    if not (out / logbook.FILE).is_file():  # a plan without a run, which somebody may have edited
        check_plan(out / PLAN, plans, recipe)


def begin(out: Path, recipe: Recipe, plans: Sequence[StagePlan], place: Place | None) -> None:
    """Write what is done in a run's folder, once nothing can be refused any more.

    Args:
        out: the folder.
        recipe: what is done.
        plans: who is asked what.
        place: of the checkpoint to go on from; None for a new run.
    """
    if place is None:
        clear(out)
    else:
        names = [stage.name for stage in recipe.stages]
        checkpoint.rewind_log(out / logbook.FILE, names, place)
    write_json(out / RECIPE, to_dict(recipe))
    save_plan(out / PLAN, plans, recipe)


def save_model(model: EmoVerse | Mllm, recipe: Recipe, folder: Path) -> None:
    """Write what was trained: LoRA, and projector and visual encoder where they were."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECIPE, to_dict(recipe))
    if not isinstance(model, Mllm):
        compact.save(model, folder)
        vit = folder.parent / VIT
        if not (folder / vit.name).exists() and vit.is_file():
            write_bytes(folder / vit.name, vit.read_bytes())
        return
    language: Any = model.language
    state = get_peft_model_state_dict(language, save_embedding_layers=False)
    config = language.peft_config["default"]
    config.base_model_name_or_path = recipe.model
    config.save_pretrained(str(folder))
    _write(folder / ADAPTER, state, model.dtype)
    wanted = other_parts(
        model,
        projector=any(stage.projector_lr > 0 for stage in recipe.stages),
        vit=any(stage.vit_lr > 0 for stage in recipe.stages),
    )
    if recipe.start and (earlier := Path(recipe.start) / OTHER_PARTS).is_file():
        with safe_open(earlier, framework="pt") as entry:
            wanted |= set(entry.keys())
    rest = {name: p.detach() for name, p in model.network.named_parameters() if name in wanted}
    if rest:
        _write(folder / OTHER_PARTS, rest, model.dtype)


def start_from(model: EmoVerse | Mllm, folder: Path) -> None:
    """Put an earlier run's LoRA and trained parts into a model that has a new LoRA.

    Raises:
        EmoVerseError: the folder is not of a run, or of one with another model or LoRA.
    """
    run_recipe(folder)
    language: Any = (
        model.language if isinstance(model, Mllm) else model.network.model.language_model
    )
    adapter = load_file(folder / ADAPTER)
    wanted = {n: v.shape for n, v in get_peft_model_state_dict(language).items() if "lora" in n}
    if wanted != {name: tensor.shape for name, tensor in adapter.items()}:
        raise EmoVerseError(
            f"{folder / ADAPTER}: a LoRA of other settings or another model than the recipe's; "
            "start from a run with the same model and lora."
        )
    set_peft_model_state_dict(language, adapter)
    if not isinstance(model, Mllm):
        compact.load_projector(model, folder)
    elif (folder / OTHER_PARTS).is_file():
        model.network.load_state_dict(load_file(folder / OTHER_PARTS), strict=False)


def merge(folder: Path, out: Path) -> Path:
    """Write a run's model with its LoRA merged in, ready to be used by other programs.

    A model with a processor becomes a folder that transformers' `from_pretrained` (and vLLM,
    TGI, llama.cpp's converter) take. The compact model, whose face ViT no other program knows,
    becomes `language/`, a plain Llama that they take, with projector and ViT beside it; the whole
    is loaded by EmoVerse alone.

    Args:
        folder: what `emoverse train` wrote: the run holds the last model, `best` in it the best.
        out: a new or empty folder.

    Raises:
        EmoVerseError: `folder` is no such folder, its projector is of our own making, or `out`
            holds files.
    """
    settings = run_recipe(folder)
    if settings["projector"] == "linear":
        raise EmoVerseError(
            f"{folder}: transformers' class has no place for a linear projector; train with "
            "projector: own to merge."
        )
    if out.exists() and any(out.iterdir()):
        raise EmoVerseError(f"{out} is not empty; name a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    if settings["model"] == "compact":
        model = compact.load(folder, torch.float32)  # so that its answers stay the same
        model.network.model.language_model.save_pretrained(out / LANGUAGE)
        model.tokenizer.save_pretrained(str(out / LANGUAGE))
        for name in ("projector.safetensors", VIT):
            write_bytes(out / name, (folder / name).read_bytes())
    else:
        any_mllm.save_standalone(load_trained(folder), out)
        keep_rotary_keys(out)
    for name in _FITTED:
        if (folder / name).is_file():
            write_bytes(out / name, (folder / name).read_bytes())
    write_json(out / MERGED_RECIPE, settings)
    write_card(folder, out)
    return out


def push_to_hub(folder: Path, name: str, *, private: bool = True) -> str:
    """Upload a merged model with its card.

    Args:
        folder: what `merge` wrote.
        name: `owner/name` of the repository; it is made when there is none.
        private: how it is made.

    Returns:
        The repository's address.

    Raises:
        EmoVerseError: the hub refuses or cannot be reached.
    """
    hub = HfApi()
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Trained with EmoVerse")
    except Exception as error:  # the hub's client lets its transport's own errors through
        raise EmoVerseError(
            f"{name}: the hub took no upload ({' '.join(str(error).split())[:300]}); log in with "
            "`hf auth login`, check the name, and run merge with a new --out."
        ) from None
    return str(address)


def _write(path: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    ready = {name: value.detach().to(dtype).cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, serialize(ready))
