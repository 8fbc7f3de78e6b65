"""A training recipe: dataclasses on one side, commented YAML on the other."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from emoverse.errors import EmoVerseError
from emoverse.files import read_text
from emoverse.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adaptation of the language model (Hu et al. 2021).

    Attributes:
        r: rank.
        alpha: the adapter's output is scaled by alpha / r.
        dropout: on the adapter's input.
        targets: names of the linear layers adapted.
        first_layer: layers below it stay as they are; text-only batches then need no backward
            pass through them.
    """

    r: int = 8
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    first_layer: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of M2SE.

    Attributes:
        name: shown in logs and plans.
        rates: task id to the share of the stage's samples whose query for it is used, 0..1.
        samples: how many random samples the stage draws; None takes all that are left.
        again: draws among all samples, those of earlier stages too.
        epochs: passes over the stage's queries.
        lora_lr: peak learning rate of the LoRA.
        projector_lr: peak learning rate of the projector; 0 freezes it.
        vit_lr: peak learning rate of the visual encoder; 0, as in the paper, freezes it.
        schedule: what follows the warm-up: `cosine` or `linear` to zero, or `constant`.
        warmup: share of the stage's steps with a rising rate.
        lora_targets: the adapted layers that are trained in this stage, () for all of them.
        first_layer: the LoRA of layers below it rests in this stage.
    """

    name: str
    rates: dict[str, float]
    samples: int | None = None
    again: bool = False
    epochs: int = 2
    lora_lr: float = 1e-5
    projector_lr: float = 1e-5
    vit_lr: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.05
    lora_targets: tuple[str, ...] = ()
    first_layer: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run depends on, beside the data itself.

    Attributes:
        model: `compact`, or a folder or hub id of any image-text-to-text model of transformers.
        vit: the compact model's frozen ViT weights; None takes the shipped ones.
        projector: `own` keeps the model's; `linear` puts the paper's Eq 4 in its place; `mlp`
            asks for a model that has such a projector of its own.
        start: folder of an earlier run with the same `model` and `lora`, whose LoRA and projector
            this one starts from; None starts from new ones.
        train, valid: EMT records (`emoverse build`); `valid` may be None.
        plan: a plan file (`emoverse train --plan-only`) to use in place of drawing samples.
        share: how much of the training samples is used, 0..1, drawn by the seed; the samples that
            a stage draws shrink with it. For trials and small ablations.
        seed: of sampling, order and initial weights.
        lora: what is adapted.
        stages: in order; a sample goes to one stage only, but for stages that draw `again`.
        row_tokens: sequences sharing a prefix are merged into rows of at most this many tokens.
        batch_tokens: rows run side by side up to this many tokens.
        batch_samples: answers an optimiser step averages over, at least.
        max_length: longer samples are left out and counted.
        rows: `merged` shares prefixes; `packed` lays samples side by side in a row without
            sharing; `padded` gives each sample to the model's own forward pass, for models whose
            attention takes no mask from outside.
        frames: pictures taken from a clip, evenly spaced; the compact model takes the peak frame.
        videos: `frames` shows them as numbered pictures; `native` gives them to the model's
            processor as one video.
        attention: `sdpa` (PyTorch's fused kernels), `flex` (FlexAttention, which skips what a row's
            samples do not see of each other; GPUs only), `grouped` (our own for CPUs), or `auto`.
        compile: the layers of the language model are compiled (torch.compile).
        gradient_checkpointing: the backward pass runs each layer of the language model again in
            place of keeping what its forward pass computed: slower, with far less memory.
        quantize: `nf4` (QLoRA) or `int8` for the frozen weights of the language model.
        visual_cache_gb: bound of the visual tokens kept on disk; 0 runs the visual encoder anew.
        valid_samples: most valid records a task is scored on after each epoch.
        trackers: where curves go beside `log.jsonl`: tensorboard, wandb, trackio.
        save_minutes: minutes between checkpoints.
    """

    model: str
    train: str
    stages: tuple[Stage, ...]
    valid: str | None = None
    plan: str | None = None
    share: float = 1.0
    vit: str | None = None
    projector: str = "own"
    start: str | None = None
    seed: int = 0
    lora: Lora = field(default_factory=Lora)
    row_tokens: int = 384
    batch_tokens: int = 1024
    batch_samples: int = 16
    max_length: int = 2048
    rows: str = "merged"
    frames: int = 8
    videos: str = "frames"
    attention: str = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    quantize: str | None = None
    visual_cache_gb: float = 20.0
    valid_samples: int = 200
    trackers: tuple[str, ...] = ("tensorboard",)
    save_minutes: float = 10.0


CHOICES = {
    "projector": ("own", "linear", "mlp"),
    "rows": ("merged", "packed", "padded"),
    "schedule": ("cosine", "linear", "constant"),
    "videos": ("frames", "native"),
    "attention": ("auto", "sdpa", "flex", "grouped"),
    "quantize": ("nf4", "int8"),
    "trackers": ("tensorboard", "wandb", "trackio"),
}


def load_recipe(path: Path | str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides.

    A recipe may name another by `extends: FILE` (relative to itself): it then holds only the keys
    in which it differs. Sections such as `lora` are joined key by key; `stages` are replaced.

    Args:
        path: YAML file.
        overrides: e.g. `lora.r=16`, `stages.0.epochs=1`; values are read as YAML.

    Raises:
        EmoVerseError: the file is not YAML, a key is unknown or missing, a value has the wrong
            type, or a stage names an unknown task; names the key.
    """
    content = _content(Path(path))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise EmoVerseError(f"Override {override!r} must be written key=value.")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            raise EmoVerseError(
                f"Override {override!r} is not valid YAML; mend its value."
            ) from None
        _set(content, key, read, f"{path}")
    recipe: Recipe = _build(Recipe, content, str(path))
    _check(recipe, str(path))
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for logs and manifests."""
    return asdict(recipe)


def _content(path: Path, above: tuple[Path, ...] = ()) -> Any:
    """A recipe file's keys, those of the recipe it extends included."""
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise EmoVerseError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = path.parent / str(content.pop("extends"))
    if base in above or base == path:
        raise EmoVerseError(f"{path}: `extends: {base.name}` leads back to itself; remove it.")
    return _joined(_content(base, (*above, path)), content)


def _joined(base: Any, changes: dict[str, Any]) -> Any:
    if not isinstance(base, dict):
        return changes
    joined = dict(base)
    for key, value in changes.items():
        old = joined.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        joined[key] = _joined(old, value) if both else value
    return joined


def _check(recipe: Recipe, place: str) -> None:
    for stage in recipe.stages:
        for task, rate in stage.rates.items():
            if task not in TASKS or not 0 <= rate <= 1:
                raise EmoVerseError(
                    f"{place}: stage {stage.name!r} has {task}: {rate}; use tasks "
                    f"{', '.join(TASKS)} with rates from 0 to 1."
                )
        if strange := set(stage.lora_targets) - set(recipe.lora.targets):
            raise EmoVerseError(
                f"{place}: stage {stage.name!r} trains {min(strange)!r}, which is not among "
                "lora.targets; add it there."
            )
    given = [(key, getattr(recipe, key)) for key in ("projector", "rows", "videos", "attention")]
    given += [("quantize", recipe.quantize)] if recipe.quantize else []
    given += [("schedule", stage.schedule) for stage in recipe.stages]
    given += [("trackers", tracker) for tracker in recipe.trackers]
    for key, value in given:
        if value not in CHOICES[key]:
            raise EmoVerseError(f"{place}: {key}: {value!r}; use {', '.join(CHOICES[key])}.")
    names = [stage.name for stage in recipe.stages]
    if not names or len(set(names)) < len(names):
        raise EmoVerseError(f"{place}: stages need names, each its own; mend `stages`.")
    if not 0 < recipe.share <= 1 or (recipe.plan and recipe.share < 1):
        raise EmoVerseError(
            f"{place}: share: {recipe.share}; use more than 0 and at most 1, and no plan beside it."
        )
    if len(set(recipe.trackers)) < len(recipe.trackers):
        raise EmoVerseError(f"{place}: trackers: {', '.join(recipe.trackers)}; name each once.")
    _check_numbers(recipe, place)
    for stage in recipe.stages:
        if stage.name.startswith("#") or not stage.name.isprintable() or not stage.name.strip():
            raise EmoVerseError(
                f"{place}: stage {stage.name!r} cannot be told apart in a plan file; use letters, "
                "and no tab or leading #."
            )
        if stage.epochs < 1 or not 0 <= stage.warmup <= 1:
            raise EmoVerseError(
                f"{place}: stage {stage.name!r} needs epochs of 1 or more and a warmup in 0..1."
            )


_LEAST: dict[type, dict[str, int]] = {
    Recipe: dict.fromkeys(
        ("row_tokens", "batch_tokens", "batch_samples", "max_length", "frames"), 1
    )
    | dict.fromkeys(("valid_samples", "save_minutes", "visual_cache_gb"), 0),
    Lora: {"r": 1, "alpha": 1, "dropout": 0, "first_layer": 0},
    Stage: {"samples": 1, "lora_lr": 0, "projector_lr": 0, "vit_lr": 0, "first_layer": 0},
}


def _check_numbers(recipe: Recipe, place: str) -> None:
    parts: list[tuple[str, Recipe | Lora | Stage]] = [("", recipe), ("lora.", recipe.lora)]
    parts += [(f"stage {stage.name!r}, ", stage) for stage in recipe.stages]
    for where, part in parts:
        for key, least in _LEAST[type(part)].items():
            value = getattr(part, key)
            if value is not None and not least <= value < math.inf:
                raise EmoVerseError(
                    f"{place}: {where}{key}: {value}; use {least} or more"
                    f"{', and no infinity' if value == math.inf else ''}."
                )
    if recipe.lora.dropout >= 1:
        raise EmoVerseError(f"{place}: lora.dropout: {recipe.lora.dropout}; use less than 1.")


def _set(content: Any, key: str, value: Any, place: str) -> None:
    *steps, last = key.split(".")
    try:
        for step in steps:
            # A section that the file leaves out has defaults, which may be overridden too.
            content = (
                content[_number(step)]
                if isinstance(content, list)
                else content.setdefault(step, {})
            )
        if isinstance(content, list):
            content[_number(last)] = value
        else:
            content[last] = value
    except (AttributeError, IndexError, ValueError, TypeError):
        raise EmoVerseError(f"{place}: there is no key {key!r} to override.") from None


def _number(step: str) -> int:
    """A place in a list, counted from 0."""
    if not step.isdecimal():
        raise ValueError
    return int(step)


def _build(kind: type, content: Any, place: str) -> Any:
    if not isinstance(content, dict):
        raise EmoVerseError(f"{place}: expected `key: value` lines.")
    hints = get_type_hints(kind)
    names = {item.name for item in fields(kind)}
    if unknown := set(content) - names:
        raise EmoVerseError(
            f"{place}: unknown key {min(unknown)!r}; use one of {', '.join(sorted(names))}."
        )
    values = {}
    for item in fields(kind):
        if item.name in content:
            values[item.name] = _value(
                hints[item.name], content[item.name], f"{place}: {item.name}"
            )
        elif item.default is MISSING and item.default_factory is MISSING:
            raise EmoVerseError(f"{place}: key {item.name!r} is missing.")
    return kind(**values)


def _value(hint: Any, value: Any, place: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, place)
    text = str(hint)
    if text.startswith("tuple"):
        inner = hint.__args__[0]
        if not isinstance(value, list):
            raise EmoVerseError(f"{place}: expected a list.")
        return tuple(_value(inner, item, f"{place}.{n}") for n, item in enumerate(value))
    if text.startswith("dict"):
        if not isinstance(value, dict):
            raise EmoVerseError(f"{place}: expected `task: rate` lines.")
        return {str(key): _value(hint.__args__[1], item, place) for key, item in value.items()}
    allowed = getattr(hint, "__args__", (hint,))
    if float in allowed and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-5 as text
            return float(value)
        except ValueError:
            raise EmoVerseError(f"{place}: {value!r} is not a number.") from None
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
        raise EmoVerseError(f"{place}: {value!r} must be {names}.")
    return value
