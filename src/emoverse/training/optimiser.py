"""What is trained, and how it is updated: LoRA, projector and (if asked) visual encoder."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import Lora, Stage
from emoverse.models.any_mllm import Mllm, projector_of
from emoverse.models.emoverse import EmoVerse

PARTS = ("lora", "projector", "vit")
_VISION = re.compile(r"model\.(vision_tower|vision_model|visual)\.")
_LAYER = re.compile(r"layers\.(\d+)\.")


class Trained:
    """The trained parameters: in the model's precision there, in float32 here, where AdamW works.

    A bfloat16 weight has 8 bits, so small updates to it would be lost.
    """

    def __init__(self, model: EmoVerse | Mllm) -> None:
        """Take every parameter of `model` that asks for gradients."""
        named = [(n, p) for n, p in model.network.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parts = [part_of(name) for name in self.names]
        self.live = [parameter for _, parameter in named]
        self.master = [torch.nn.Parameter(p.detach().clone().float()) for p in self.live]
        for parameter, part in zip(self.live, self.parts, strict=True):
            if part == "lora":
                parameter.data = parameter.data.to(model.dtype)
        groups: list[dict[str, Any]] = [{"params": []} for _ in PARTS]
        for part, parameter in zip(self.parts, self.master, strict=True):
            groups[PARTS.index(part)]["params"].append(parameter)
        used = [group for group in groups if group["params"]]
        self._group_parts = [part for part in PARTS if part in self.parts]
        self.optimizer = torch.optim.AdamW(used, lr=0.0, weight_decay=0.0, fused=True)

    def unfreeze(self, stage: Stage) -> None:
        """Let exactly what the stage trains have gradients; the backward pass ends below it."""
        for name, part, parameter in zip(self.names, self.parts, self.live, strict=True):
            if part == "lora":
                layer = _LAYER.search(name)
                trained = stage.lora_lr > 0 and (
                    layer is None or int(layer[1]) >= stage.first_layer
                )
                if stage.lora_targets:
                    trained = trained and any(f".{t}." in name for t in stage.lora_targets)
            else:
                trained = (stage.projector_lr if part == "projector" else stage.vit_lr) > 0
            parameter.requires_grad_(trained)

    def set_rates(self, lora: float, projector: float, vit: float = 0.0) -> None:
        """Learning rates of the coming step."""
        rates = {"lora": lora, "projector": projector, "vit": vit}
        for group, part in zip(self.optimizer.param_groups, self._group_parts, strict=True):
            group["lr"] = rates[part]

    def step(self) -> float:
        """Clip to norm 1, update, copy back; a part without gradient stands still.

        Returns:
            The gradients' norm before clipping.
        """
        for live, master in zip(self.live, self.master, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.master, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for live, master in zip(self.live, self.master, strict=True):
                live.copy_(master)
        return float(norm)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights and AdamW's moments by name, for a checkpoint.

        Raises:
            EmoVerseError: a weight is no longer a number.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.master):
            raise EmoVerseError(
                "The weights are no longer numbers; lower lora_lr and projector_lr, and go on from "
                "the last checkpoint with --resume, or start again where there is none."
            )
        tensors = {}
        for name, parameter in zip(self.names, self.master, strict=True):
            tensors[f"weight/{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put what `tensors` gave back in place.

        Raises:
            EmoVerseError: it is of another model, other LoRA settings or other trained parts.
        """
        kept_names = {name.partition("/")[2] for name in tensors if name.startswith("weight/")}
        if strange := kept_names - set(self.names):
            raise _not_fitting(min(strange))
        with torch.no_grad():
            for name, live, master in zip(self.names, self.live, self.master, strict=True):
                kept = tensors.get(f"weight/{name}")
                if kept is None or kept.shape != master.shape:
                    raise _not_fitting(name)
                master.copy_(kept)
                live.copy_(master)
                if f"step/{name}" in tensors:
                    self.optimizer.state[master] = {
                        key: tensors[f"{key}/{name}"].to(master.device)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }


def _not_fitting(name: str) -> EmoVerseError:
    return EmoVerseError(
        f"The checkpoint does not fit the model at {name}; resume with the model, the lora "
        "settings and the trained parts (rates above 0) it was made with."
    )


def part_of(name: str) -> str:
    """Which of `PARTS` a trained parameter belongs to."""
    if "lora" in name:
        return "lora"
    return "vit" if _VISION.search(name) and ".merger." not in name else "projector"


def add_lora(model: EmoVerse | Mllm, lora: Lora) -> None:
    """Wrap the language model with a new LoRA and make LoRA and projector trainable.

    Raises:
        EmoVerseError: the language model has none of the target layers.
    """
    place = model.language_name if isinstance(model, Mllm) else "language_model"
    language = getattr(model.network.model, place)
    layers = language.config.num_hidden_layers
    if lora.first_layer >= layers:  # peft would adapt all of them
        raise EmoVerseError(
            f"{model.name}: lora.first_layer: {lora.first_layer} leaves none of its {layers} "
            f"layers; use 0 to {layers - 1}."
        )
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        layers_to_transform=list(range(lora.first_layer, layers)),
        layers_pattern="layers",
    )
    try:
        with warnings.catch_warnings():
            # peft still asks for what transformers has called otherwise since.
            warnings.filterwarnings("ignore", r".*is_gradient_checkpointing", FutureWarning)
            wrapped = get_peft_model(language, config)
    except ValueError as error:
        raise EmoVerseError(
            f"{model.name}: LoRA does not fit its language model ({' '.join(str(error).split())}); "
            "set lora.targets to names of its linear layers."
        ) from None
    setattr(model.network.model, place, wrapped)
    wrapped.train()
    if not isinstance(model, Mllm):
        model.network.model.multi_modal_projector.requires_grad_(True)


def unfreeze_parts(model: Mllm, *, projector: bool, vit: bool) -> None:
    """Make projector and visual encoder of a model with a processor trainable, where asked."""
    wanted = other_parts(model, projector=projector, vit=vit)
    for name, parameter in model.network.named_parameters():
        if name in wanted:
            parameter.requires_grad_(True)


def other_parts(model: Mllm, *, projector: bool, vit: bool) -> set[str]:
    """Names of the parameters of projector and visual encoder."""
    between: set[int] = set()
    if projector:
        between = {id(parameter) for parameter in projector_of(model).parameters()}
    return {
        name
        for name, parameter in model.network.named_parameters()
        if id(parameter) in between or (vit and part_of(name) == "vit" and _VISION.search(name))
    }


def schedule(kind: str, step: int, steps: int, warmup: float) -> float:
    """Factor on the peak learning rates: a rising share of the steps, then `kind`.

    Args:
        kind: `cosine` or `linear` to zero, or `constant`.
        step: 0-based.
        steps: of the stage.
        warmup: share of the steps that rise.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    if kind == "constant":
        return 1.0
    return 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
