"""Checkpoints: one file, whole or not at all, from which a run goes on as if never stopped.

It holds the float32 weights, AdamW's moments, the place (stage, step) and a fingerprint of the
steps. Nothing else has a state: the order of the data and the dropout of a step follow from seed,
stage and step alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, read_text, write_bytes, write_text
from emoverse.m2se.plan import StagePlan
from emoverse.m2se.recipe import Recipe
from emoverse.training.optimiser import Trained

FILE = "checkpoint.safetensors"
_OLD_PLACE = "checkpoint.json"  # beside the weights until version 0.1
FILES = (FILE, _OLD_PLACE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands.

    Attributes:
        stage: number of the stage that comes next, from 0.
        step: its step that comes next, from 0.
        best: the best mean valid score so far, None before the first.
    """

    stage: int = 0
    step: int = 0
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a checkpoint is made with, and a run that goes on from it needs too.

    Attributes:
        steps: changes with whatever decides which samples meet in which step.
        settings: what the weights belong to, by name.
    """

    steps: str
    settings: dict[str, str]


def save(out: Path, trained: Trained, place: Place, made: Made) -> None:
    """Write the checkpoint of `out`; until it is whole, the last one stays.

    Args:
        out: the run's folder.
        trained: weights and moments.
        place: what comes next.
        made: `made_with` of the run.

    Raises:
        EmoVerseError: the weights are no numbers, or the disk is full.
    """
    notes = {"stage": str(place.stage), "step": str(place.step), "steps": made.steps}
    notes |= {"best": json.dumps(place.best), "settings": json.dumps(made.settings)}
    data = serialize(trained.tensors(), notes)
    try:
        write_bytes(out / FILE, data)
    except OSError as error:
        raise EmoVerseError(
            f"{out / FILE}: the checkpoint could not be written ({error.strerror}); the last one "
            "is whole: free some space on that disk and go on with --resume."
        ) from None
    (out / _OLD_PLACE).unlink(missing_ok=True)


def check(out: Path, made: Made) -> dict[str, str]:
    """Look whether a run can go on from the checkpoint of `out`.

    Returns:
        What `save` noted; nothing for a checkpoint of version 0.1.

    Raises:
        EmoVerseError: there is none, it is broken, or it was made with other steps or settings.
    """
    path = out / FILE
    if not path.is_file():
        raise EmoVerseError(f"{out}: no checkpoint to resume from; start without --resume.")
    try:
        with safe_open(path, framework="pt") as entry:
            notes = dict(entry.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise EmoVerseError(
            f"{path}: not a readable checkpoint ({error}); delete it and start without --resume."
        ) from None
    if "stage" in notes and notes["steps"] != made.steps:
        raise EmoVerseError(
            f"{path}: made with other data, seed, stages or batch settings than these; resume with "
            "those it was made with, or start without --resume."
        )
    for name, value in json.loads(notes.get("settings", "{}")).items():
        if made.settings.get(name) != value:
            raise EmoVerseError(
                f"{path}: made with another {name}; resume with the one it was made with, or start "
                "without --resume."
            )
    return notes


def restore(out: Path, trained: Trained, made: Made) -> Place:
    """Load the checkpoint of `out`.

    Raises:
        EmoVerseError: see `check`.
    """
    notes = check(out, made)
    trained.load(load_file(out / FILE))
    if "stage" not in notes:
        place = read_json(out / _OLD_PLACE)
        return Place(int(place["stage"]), int(place["step"]))
    return Place(int(notes["stage"]), int(notes["step"]), json.loads(notes["best"]))


def made_with(recipe: Recipe, plans: Sequence[StagePlan]) -> Made:
    """What a run's checkpoints are made with; rates may change freely."""
    media = hashlib.sha256()
    for stage_plan in plans:
        for record in stage_plan.records:
            media.update(f"{record.media}\n".encode())
    # Folders by their name alone: a run may go on where they lie elsewhere.
    places = {"model": recipe.model, "vit": recipe.vit, "start": recipe.start}
    settings = {key: Path(place or "").name for key, place in places.items()}
    settings |= {"projector": recipe.projector, "set of media": media.hexdigest()}
    settings |= {f"lora.{key}": json.dumps(value) for key, value in asdict(recipe.lora).items()}
    return Made(_steps(recipe, plans), settings)


def _steps(recipe: Recipe, plans: Sequence[StagePlan]) -> str:
    settings = (
        recipe.seed,
        recipe.row_tokens,
        recipe.batch_tokens,
        recipe.batch_samples,
        recipe.max_length,
        recipe.rows,
        recipe.frames,
        [stage.epochs for stage in recipe.stages],
        *([recipe.videos] if recipe.videos != "frames" else []),  # as before it was a setting
    )
    digest = hashlib.sha256(json.dumps(settings).encode())
    for stage_plan in plans:
        for record in stage_plan.records:
            digest.update(f"{record.id}\0{record.query}\0{record.response}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def rewind_log(path: Path, names: Sequence[str], place: Place) -> None:
    """Drop from `log.jsonl` what comes after the checkpoint: those steps are run again.

    Args:
        path: the log; a torn last line is dropped too.
        names: of the stages, in order.
        place: of the checkpoint.
    """
    if not path.is_file():
        return
    kept = []
    for line in read_text(path).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        stage = names.index(row["stage"]) if row.get("stage") in names else place.stage
        done = place.step if stage == place.stage else 0
        if stage < place.stage or (done and row.get("step", 0) <= done):
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
