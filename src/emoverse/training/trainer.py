"""`emoverse train`: M2SE's stages, one after the other, on answers alone."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch.nn import functional

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.faces.pictures import face_crop
from emoverse.files import read_json, write_bytes, write_json
from emoverse.m2se.plan import StagePlan, plan
from emoverse.m2se.recipe import Lora, Recipe, Stage, load_recipe, to_dict
from emoverse.models import compact, face_vit
from emoverse.models.emoverse import EmoVerse
from emoverse.training.rows import Row, Sample, batches, rows, sample_of


@dataclass(frozen=True, slots=True, eq=False)
class Visual:
    """Visual tokens of every picture, computed once: the ViT is frozen.

    Attributes:
        tokens: (pictures, image_tokens, width) before the projector.
        index: media path to the picture's row.
    """

    tokens: torch.Tensor
    index: dict[str, int]

    def ids(self, image_tokens: int) -> dict[str, list[int]]:
        """Per media path the negative token ids of its features (`PrefixTree.tokens`)."""
        return {
            path: [-1 - (row * image_tokens + k) for k in range(image_tokens)]
            for path, row in self.index.items()
        }


def train(
    recipe_path: Path | str,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a recipe; the result is a model folder that `emoverse eval` and `analyze` take.

    Args:
        recipe_path: YAML recipe.
        overrides: `key=value` settings on top.
        out: where weights, `log.jsonl` and checkpoints go; `runs/<recipe name>` by default.
        resume: go on from the last checkpoint in `out`.

    Raises:
        EmoVerseError: recipe or data are malformed, or the loss is not a number.
    """
    recipe = load_recipe(recipe_path, list(overrides))
    out = out or Path("runs") / Path(recipe_path).stem
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = compact.assemble()
    vit = Path(recipe.vit) if recipe.vit else compact.SHIPPED / "face_vit.safetensors"
    compact.load_vit(model, vit)
    write_bytes(out / "face_vit.safetensors", vit.read_bytes())
    _add_lora(model, recipe.lora)
    records = load_records(recipe.train)
    write_json(out / "recipe.json", to_dict(recipe))
    plans = plan(records, recipe.stages, recipe.seed)
    visual = _see(model, [r for p in plans for r in p.records], Path(recipe.train).parent)
    state = _Trained(model)
    done = state.restore(out) if resume else (0, 0)
    with open(out / "log.jsonl", "a" if resume else "w", encoding="utf-8") as log:
        for number, stage_plan in enumerate(plans):
            if number >= done[0]:
                first = done[1] if number == done[0] else 0
                _train_stage(model, state, recipe, stage_plan, number, first, visual, out, log)
    compact.save(model, out)
    return out


def _train_stage(
    model: EmoVerse,
    state: _Trained,
    recipe: Recipe,
    stage_plan: StagePlan,
    number: int,
    first: int,
    visual: Visual,
    out: Path,
    log: Any,
) -> None:
    stage = stage_plan.stage
    features = visual.ids(model.image_tokens)
    samples = [sample_of(record, model.tokenizer, features) for record in stage_plan.records]
    fitting = [sample for sample in samples if len(sample.tokens) <= recipe.max_length]
    steps = list(_steps(fitting, recipe, stage, number))
    total = sum(len(row.tree.tokens) for step in steps for batch in step for row in batch)
    flat = sum(len(sample.tokens) for sample in fitting) * stage.epochs
    head = {
        "stage": stage.name,
        "queries": stage_plan.counts(),
        "too_long": len(samples) - len(fitting),
        "steps": len(steps),
        "tokens": total,
        "tokens_unmerged": flat,
    }
    _tell(log, head)
    start = last_save = time.time()
    seen = 0
    state.unfreeze(stage)
    for step, step_batches in enumerate(steps):
        if step < first:
            continue
        factor = _schedule(step, len(steps), stage.warmup)
        state.set_rates(stage.lora_lr * factor, stage.projector_lr * factor)
        # Dropout of this step, the same whether or not the run was interrupted before it.
        torch.manual_seed(random.Random(f"{recipe.seed}/{number}/dropout/{step}").getrandbits(63))
        losses = _step(model, state, step_batches, visual)
        seen += sum(len(row.tree.tokens) for batch in step_batches for row in batch)
        if not all(math.isfinite(loss) for values in losses.values() for loss in values):
            raise EmoVerseError(
                f"Stage {stage.name}, step {step}: the loss is not a number; lower lora_lr and "
                "resume from the last checkpoint with --resume."
            )
        spent = time.time() - start
        row = {
            "stage": stage.name,
            "step": step + 1,
            "of": len(steps),
            "loss": {task: float(np.mean(values)) for task, values in losses.items()},
            "lr": stage.lora_lr * factor,
            "tokens_per_s": round(seen / spent, 1),
            "minutes_left": round(spent / (step + 1 - first) * (len(steps) - step - 1) / 60, 1),
        }
        _tell(log, row, shown=step % 10 == 0)
        if time.time() - last_save > recipe.save_minutes * 60:
            state.save(out, (number, step + 1))
            compact.save(model, out)
            last_save = time.time()
    state.save(out, (number + 1, 0))
    compact.save(model, out)


def _steps(
    samples: Sequence[Sample], recipe: Recipe, stage: Stage, number: int
) -> Iterator[list[list[Row]]]:
    """Optimiser steps of a stage: batches of rows that together hold enough answers."""
    for epoch in range(stage.epochs):
        rng = random.Random(f"{recipe.seed}/{number}/{epoch}")
        step: list[list[Row]] = []
        for batch in batches(rows(samples, recipe.row_tokens, rng), recipe.batch_tokens, rng):
            step.append(batch)
            if sum(len(row.samples) for part in step for row in part) >= recipe.batch_samples:
                yield step
                step = []
        if step:
            yield step


def _step(
    model: EmoVerse, state: _Trained, step: Sequence[Sequence[Row]], visual: Visual
) -> dict[str, list[float]]:
    """One optimiser step; returns each sample's mean answer loss, by task."""
    weight = sum(float(row.weights.sum()) for batch in step for row in batch)
    losses: dict[str, list[float]] = defaultdict(list)
    for batch in step:
        token_losses = batch_losses(model, batch, visual)
        weights = torch.from_numpy(np.concatenate([row.weights for row in batch]))
        torch.autograd.backward(token_losses @ weights / weight)
        place = 0
        for row in batch:
            values = token_losses[place : place + len(row.nodes)].detach().numpy()
            for owner, sample in enumerate(row.samples):
                losses[sample.record.task].append(float(values[row.owners == owner].mean()))
            place += len(row.nodes)
    state.step()
    return losses


def batch_losses(model: EmoVerse, batch: Sequence[Row], visual: Visual) -> torch.Tensor:
    """Cross-entropy at the learnt tokens of a batch, rows one after the other.

    Returns:
        (k,) float32; logits are computed at these k places alone.
    """
    trees = [row.tree for row in batch]
    features = None
    used = sorted(
        {
            (-1 - int(t)) // model.image_tokens
            for tree in trees
            for t in tree.tokens[tree.tokens < 0]
        }
    )
    if used:
        # The projector runs on this batch's pictures only; ids are renumbered to match.
        features = model.project(visual.tokens[used])
        place = {picture: k for k, picture in enumerate(used)}
        trees = [_renumbered(tree, place, model.image_tokens) for tree in trees]
    hidden = model.hidden_states(trees, features)
    wanted = torch.cat([hidden[row, torch.from_numpy(r.nodes)] for row, r in enumerate(batch)])
    targets = torch.from_numpy(np.concatenate([row.targets for row in batch]))
    logits = model.network.lm_head(wanted).float()
    return functional.cross_entropy(logits, targets, reduction="none")


def _renumbered(tree: Any, place: dict[int, int], size: int) -> Any:
    tokens = tree.tokens.copy()
    for node in np.flatnonzero(tokens < 0):
        picture, k = divmod(-1 - int(tokens[node]), size)
        tokens[node] = -1 - (place[picture] * size + k)
    return type(tree)(tokens, tree.positions, tree.parents, tree.paths)


class _Trained:
    """The trained parameters: bfloat16 in the model, float32 here, where AdamW works on them.

    A bfloat16 weight has 8 bits, so small updates to it would be lost.
    """

    def __init__(self, model: EmoVerse) -> None:
        named = [(n, p) for n, p in model.network.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.live = [parameter for _, parameter in named]
        self.master = [torch.nn.Parameter(p.detach().clone().float()) for p in self.live]
        for parameter, name in zip(self.live, self.names, strict=True):
            if "lora" in name:
                parameter.data = parameter.data.to(torch.bfloat16)
        groups: list[dict[str, Any]] = [{"params": []}, {"params": []}]
        for name, parameter in zip(self.names, self.master, strict=True):
            groups["lora" not in name]["params"].append(parameter)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)

    def unfreeze(self, stage: Stage) -> None:
        """Let exactly what the stage trains have gradients; the backward pass ends below it."""
        for name, parameter in zip(self.names, self.live, strict=True):
            layer = re.search(r"layers\.(\d+)\.", name)
            trained = int(layer[1]) >= stage.first_layer if layer else stage.projector_lr > 0
            parameter.requires_grad_(trained)

    def set_rates(self, lora: float, projector: float) -> None:
        """Learning rates of the coming step."""
        for group, rate in zip(self.optimizer.param_groups, (lora, projector), strict=True):
            group["lr"] = rate

    def step(self) -> None:
        """Clip to norm 1, update, copy back; a part without gradient stands still."""
        for live, master in zip(self.live, self.master, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        torch.nn.utils.clip_grad_norm_(self.master, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for live, master in zip(self.live, self.master, strict=True):
                live.copy_(master)

    def save(self, out: Path, place: tuple[int, int]) -> None:
        """Checkpoint: weights, AdamW's moments, and which stage and step come next."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.master):
            raise EmoVerseError(
                "The weights are no longer numbers; lower lora_lr and resume from the last "
                "checkpoint with --resume."
            )
        tensors = {}
        for name, parameter in zip(self.names, self.master, strict=True):
            tensors[f"weight/{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        write_bytes(out / "checkpoint.safetensors", serialize(tensors))
        write_json(out / "checkpoint.json", {"stage": place[0], "step": place[1]})

    def restore(self, out: Path) -> tuple[int, int]:
        """Load the checkpoint of `out`; returns the stage and step to go on with."""
        if not (out / "checkpoint.json").is_file():
            raise EmoVerseError(f"{out}: no checkpoint to resume from; start without --resume.")
        place = read_json(out / "checkpoint.json")
        tensors = load_file(out / "checkpoint.safetensors")
        with torch.no_grad():
            for name, live, master in zip(self.names, self.live, self.master, strict=True):
                master.copy_(tensors[f"weight/{name}"])
                live.copy_(master)
                keys = ("step", "exp_avg", "exp_avg_sq")
                if f"step/{name}" in tensors:
                    self.optimizer.state[master] = {key: tensors[f"{key}/{name}"] for key in keys}
        return place["stage"], place["step"]


def _add_lora(model: EmoVerse, lora: Lora) -> None:
    """Wrap the language model with a new LoRA and make LoRA and projector trainable."""
    language = model.network.model.language_model
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        layers_to_transform=list(range(lora.first_layer, language.config.num_hidden_layers)),
        layers_pattern="layers",
    )
    model.network.model.language_model = get_peft_model(language, config)
    model.network.model.language_model.train()
    model.network.model.multi_modal_projector.requires_grad_(True)


def _see(model: EmoVerse, records: Sequence[Record], root: Path) -> Visual:
    """Run the frozen ViT once over every picture that the plan uses.

    Media that are missing or show no face are left out; their records train on text alone.
    """
    aligned = {path: bool(r.meta.get("aligned")) for r in records for path in r.media}
    present = [path for path in sorted(aligned) if (root / path).is_file()]
    tokens: list[torch.Tensor] = []
    index: dict[str, int] = {}
    for start in range(0, len(present), 64):
        block = {p: face_crop(root / p, aligned=aligned[p]) for p in present[start : start + 64]}
        found = {path: image for path, image in block.items() if image is not None}
        if found:
            pixels = face_vit.pixel_values(np.stack(list(found.values())))
            tokens.append(model.visual_tokens(pixels).to(torch.bfloat16))
            index |= {path: len(index) + place for place, path in enumerate(found)}
    return Visual(torch.cat(tokens) if tokens else torch.zeros(0, model.image_tokens, 1), index)


def _schedule(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _tell(log: Any, row: dict[str, Any], shown: bool = True) -> None:
    log.write(json.dumps(row) + "\n")
    log.flush()
    if shown:
        print(json.dumps(row), flush=True)
