"""`emoverse train`: M2SE's stages, one after the other, on answers alone."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError, Stopped
from emoverse.m2se.plan import StagePlan, planned
from emoverse.m2se.recipe import Recipe, load_recipe, to_dict
from emoverse.models.any_mllm import Mllm
from emoverse.models.attention import choose
from emoverse.models.emoverse import EmoVerse
from emoverse.training import checkpoint, logbook, trackers
from emoverse.training.checkpoint import Made, Place
from emoverse.training.distributed import Crew, join, shard, wait
from emoverse.training.folder import begin, check_place, save_model
from emoverse.training.opening import keep_vit, open_model
from emoverse.training.optimiser import Trained, schedule
from emoverse.training.report import write_report
from emoverse.training.rows import Row, Sample, stage_steps
from emoverse.training.speed import peak_memory, tune
from emoverse.training.step import (
    Padded,
    batch_hits,
    batch_losses,
    check_rows,
    check_window,
    train_step,
)
from emoverse.training.stopping import disk, memory, signals
from emoverse.training.validation import chosen, mean_score, valid_scores
from emoverse.training.visual import Visual, tokenised, watch
from emoverse.training.visual_cache import open_cache

__all__ = ["batch_losses", "train"]

_SMALLER = (
    "go on by --resume with gradient_checkpointing=true, or halve batch_tokens (then row_tokens "
    "and max_length) and start again"
)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Everything the stages share.

    Attributes:
        recipe: what to do.
        out: where it goes.
        crew: the processes that do it.
        model: what is trained.
        attention: how its language model attends.
        looking: seconds that looking at all pictures took.
        state: its trained parameters.
        visual: what its samples show.
        valid: records scored after each epoch.
        padded: set when rows go through the model's own forward pass.
        book: what is told; None in processes that do not lead.
        made: what it is made with, for checkpoints.
        asked: signals received.
    """

    recipe: Recipe
    out: Path
    crew: Crew
    model: EmoVerse | Mllm
    attention: str
    looking: float
    state: Trained
    visual: Visual
    valid: tuple[Record, ...]
    padded: Padded | None
    book: logbook.Logbook | None
    made: Made
    asked: list[int]


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
        out: where weights, plan, `log.jsonl`, report and checkpoints go; `runs/<recipe name>` by
            default.
        resume: go on from the last checkpoint in `out`.

    Raises:
        EmoVerseError: recipe or data are malformed, the loss is not a number, or memory or disk
            are full.
        Stopped: SIGINT or SIGTERM came; the run has saved.
    """
    recipe = load_recipe(recipe_path, list(overrides))
    _check_folders(recipe)
    out = out or Path("runs") / Path(recipe_path).stem
    crew = join()
    choose(recipe.attention, crew.device, recipe.row_tokens)  # refused before pictures are seen
    torch.manual_seed(recipe.seed)
    if crew.leads:
        trackers.check(recipe.trackers)
    plans = planned(recipe)
    made = checkpoint.made_with(recipe, plans)
    if resume:
        checkpoint.check(out, made)
    else:
        check_place(out, recipe, plans)
    records = [record for stage_plan in plans for record in stage_plan.records]
    tasks = sorted({task for stage in recipe.stages for task in stage.rates})
    valid = chosen(load_records(recipe.valid), tasks, recipe.valid_samples) if recipe.valid else []
    seen = [*records, *valid]
    with memory(
        "Loading the model", "close other programs, set quantize: nf4, or use a smaller one"
    ):
        model = open_model(recipe, crew)
    root = Path(recipe.train).parent
    begun = time.time()
    with memory("Looking at pictures", "lower frames, or set quantize: nf4"):
        visual = _watched(model, recipe, seen, root, crew)
    looking = time.time() - begun
    first = [tokenised(model, record, visual) for record in (*records[:64], *_longest(seen))]
    typical = median(len(sample.tokens) for sample in first[:64])
    attention = tune(model, recipe, crew.device, typical)
    if isinstance(model, Mllm) and recipe.rows != "padded":
        fitting = [sample for sample in first if len(sample.tokens) <= recipe.max_length]
        lengths = (len(tokenised(model, record, visual).tokens) for record in seen)
        check_window(model, (length for length in lengths if length <= recipe.max_length))
        if fitting:
            with memory("Running the longest sample", "lower max_length, or set quantize: nf4"):
                check_rows(model, fitting, visual, _padded(recipe))
    state = Trained(model)
    shard(model, crew)
    place = checkpoint.restore(out, state, made) if resume else Place()
    if crew.leads:
        with disk(out):
            begin(out, recipe, plans, place if resume else None)
            keep_vit(recipe, out)
    padded = _padded(recipe) if recipe.rows == "padded" else None
    settings = to_dict(recipe)
    with (
        signals() as asked,
        logbook.open_logbook(
            out, recipe.trackers, settings, again=resume, leads=crew.leads
        ) as book,
    ):
        run = Run(
            recipe,
            out,
            crew,
            model,
            attention,
            looking,
            state,
            visual,
            tuple(valid),
            padded,
            book,
            made,
            asked,
        )
        done = 0
        for number, stage_plan in enumerate(plans):
            place, done = _train_stage(run, stage_plan, number, place, done)
    if crew.leads:
        with disk(out):
            save_model(model, recipe, out)
            write_report(out)
    wait(crew)
    return out


def _check_folders(recipe: Recipe) -> None:
    """Refuse data of two folders: one is where all media paths start."""
    root = Path(recipe.train).parent
    valid_root = Path(recipe.valid).parent if recipe.valid else root
    if recipe.valid_samples and valid_root.resolve() != root.resolve():
        raise EmoVerseError(
            f"{recipe.valid} and {recipe.train} must lie in one folder, which media are relative "
            "to; move one of them."
        )


def _longest(records: Sequence[Record]) -> list[Record]:
    """Those with most text, with media and without."""
    by_text = sorted(records, key=lambda record: -len(record.query) - len(record.response))
    return [r for r in by_text if r.media][:8] + [r for r in by_text if not r.media][:8]


def _padded(recipe: Recipe) -> Padded:
    return Padded(Path(recipe.train).parent, recipe.frames, native=recipe.videos == "native")


def _watched(
    model: EmoVerse | Mllm,
    recipe: Recipe,
    records: Sequence[Record],
    root: Path,
    crew: Crew,
) -> Visual:
    """Look at all media; the leader goes first and fills the cache for the others."""
    # Rows by the model's own forward pass look at pictures in every step.
    cache = open_cache(recipe.visual_cache_gb if recipe.rows != "padded" else 0)
    if not crew.leads:
        wait(crew)
    progress = logbook.waiting("Looking at pictures") if crew.leads else None
    native = recipe.videos == "native"
    visual = watch(model, records, root, cache, recipe.frames, progress, native=native)
    if cache and cache.refused and crew.leads:
        print(
            f"Of {len(visual.index)} pictures and clips {cache.refused} found no room on disk and "
            "are looked at again where they are needed; raise visual_cache_gb "
            f"({recipe.visual_cache_gb:g}) or free some space.",
            file=sys.stderr,
        )
    if crew.leads:
        wait(crew)
    return visual


def _train_stage(
    run: Run, stage_plan: StagePlan, number: int, place: Place, done: int
) -> tuple[Place, int]:
    """Train one stage from `place` on; returns the place after it and the steps so far."""
    recipe, stage = run.recipe, stage_plan.stage
    samples = [tokenised(run.model, record, run.visual) for record in stage_plan.records]
    fitting = [sample for sample in samples if len(sample.tokens) <= recipe.max_length]
    steps, ends = stage_steps(fitting, recipe, stage, number)
    if number < place.stage:
        return place, done + len(steps)
    first = place.step if number == place.stage else 0
    if first == 0:
        head = _head(run, stage_plan, samples, fitting, steps)
        _tell(run, head)
        if run.crew.leads and head["batches_per_step"] < run.crew.size:
            print(
                f"Stage {stage.name}: a step has {head['batches_per_step']:g} batches for "
                f"{run.crew.size} processes, so some wait; raise batch_samples, lower "
                "batch_tokens, or start fewer.",
                file=sys.stderr,
            )
    last_save = time.time()
    seen, spent = 0, 0.0
    run.state.unfreeze(stage)
    for step in range(first, len(steps)):
        factor = schedule(stage.schedule, step, len(steps), stage.warmup)
        rates = (stage.lora_lr * factor, stage.projector_lr * factor, stage.vit_lr * factor)
        run.state.set_rates(*rates)
        # Dropout of this step, the same whether or not the run was interrupted before it.
        seed = f"{recipe.seed}/{number}/dropout/{step}"
        torch.manual_seed(random.Random(seed).getrandbits(63) + run.crew.rank)
        where = f"Stage {stage.name}, step {step + 1}"
        begun = time.time()
        with memory(where, _SMALLER):
            losses, norm = train_step(
                run.model, run.state, steps[step], run.visual, run.crew, run.padded
            )
        if not all(math.isfinite(loss) for values in losses.values() for loss in values):
            raise _no_number(run, f"{where}: the loss")
        tokens = sum(len(row.tree.tokens) for batch in steps[step] for row in batch)
        seen += tokens
        took = time.time() - begun  # neither scoring nor saving
        spent += took
        left = spent / (step + 1 - first) * (len(steps) - step - 1)
        _tell(
            run,
            {
                "stage": stage.name,
                "step": step + 1,
                "of": len(steps),
                "total_step": done + step + 1,
                "loss": {task: float(np.mean(losses[task])) for task in sorted(losses)},
                "lr": rates[0],
                "gradient_norm": norm,
                "samples": sum(map(len, losses.values())),
                "tokens": tokens,
                "seconds": round(took, 3),
                "memory_gb": round(peak_memory(run.crew.device), 3),
                "tokens_per_s": round(seen / spent, 1),
                "minutes_left": round(left / 60, 1),
            },
        )
        place = Place(number, step + 1, place.best)
        if step + 1 in ends:
            place = _scored(run, place, done)
        late, stop = _agreed(run, time.time() - last_save > recipe.save_minutes * 60)
        if step + 1 == len(steps):
            place = Place(number + 1, 0, place.best)
        if late or stop or step + 1 in ends:
            _save(run, place)
            last_save = time.time()
        if stop:
            raise Stopped(stop, f"after {where.lower()} in {run.out}")
    return place, done + len(steps)


def _no_number(run: Run, what: str) -> EmoVerseError:
    again = "start again"
    if (run.out / checkpoint.FILE).is_file():  # which may be of weights that are spoilt already
        again = (
            "go on from the last checkpoint with --resume, or start again without it where that "
            "ends the same way"
        )
    return EmoVerseError(f"{what} is not a number; lower lora_lr and projector_lr, and {again}.")


def _head(
    run: Run,
    stage_plan: StagePlan,
    samples: Sequence[Sample],
    fitting: Sequence[Sample],
    steps: Sequence[Sequence[Sequence[Row]]],
) -> dict[str, Any]:
    if not fitting:
        raise EmoVerseError(
            f"Stage {stage_plan.stage.name!r}: every sample is longer than max_length: "
            f"{run.recipe.max_length} tokens; raise it."
        )
    shown = {path for record in stage_plan.records for path in record.media}
    return {
        "stage": stage_plan.stage.name,
        "queries": stage_plan.counts(),
        "too_long": len(samples) - len(fitting),
        "without_picture": len(shown & set(run.visual.lost)),
        "steps": len(steps),
        "tokens": sum(len(row.tree.tokens) for step in steps for batch in step for row in batch),
        "tokens_unmerged": sum(len(s.tokens) for s in fitting) * stage_plan.stage.epochs,
        "processes": run.crew.size,
        "batches_per_step": round(sum(map(len, steps)) / len(steps), 2),
        "attention": run.attention,
        "looking_seconds": round(run.looking, 1),
    }


def _scored(run: Run, place: Place, done: int) -> Place:
    """Score the valid split at an epoch's end; keep the model when it is the best so far."""
    if not run.valid:
        return place
    recipe = run.recipe
    stage = recipe.stages[place.stage].name
    run.model.network.train(False)
    mend = "go on by --resume with valid_samples=0, or halve batch_tokens and start again"
    with memory(f"Stage {stage}, scoring", mend):
        scores = valid_scores(
            run.valid,
            lambda record: tokenised(run.model, record, run.visual),
            lambda batch: batch_hits(run.model, batch, run.visual, run.padded),
            row_tokens=recipe.row_tokens,
            batch_tokens=recipe.batch_tokens,
            max_length=recipe.max_length,
            kind=recipe.rows,
        )
    _train_mode(run.model)
    if not scores:
        return place
    if not all(math.isfinite(figures["loss"]) for figures in scores.values()):
        raise _no_number(run, f"Stage {stage}, step {place.step}: the valid loss")
    score = mean_score(scores)
    better = place.best is None or score > place.best
    total = done + place.step
    row = {"stage": stage, "step": place.step, "total_step": total, "valid": scores}
    _tell(run, row | {"mean": round(score, 4), "best": better})
    if better and run.crew.leads:
        with disk(run.out / "best"):
            save_model(run.model, recipe, run.out / "best")
    return replace(place, best=score) if better else place


def _train_mode(model: EmoVerse | Mllm) -> None:
    """Dropout in the language model's LoRA alone; what is frozen stays in evaluation mode."""
    place = model.language_name if isinstance(model, Mllm) else "language_model"
    getattr(model.network.model, place).train()


def _save(run: Run, place: Place) -> None:
    if run.crew.leads:
        checkpoint.save(run.out, run.state, place, run.made)
        with disk(run.out):
            save_model(run.model, run.recipe, run.out)
            write_report(run.out)
    wait(run.crew)


def _agreed(run: Run, late: bool) -> tuple[bool, int]:
    """Whether it is time to save, and the signal that asks to stop (0 for none), for all processes.

    The leader's clock decides: all meet to save, and the others' clocks may say otherwise.
    """
    told = [int(late and run.crew.leads), run.asked[0] if run.asked else 0]
    if run.crew.size > 1:
        flags = torch.tensor(told, device=run.crew.device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        told = flags.tolist()
    return bool(told[0]), told[1]


def _tell(run: Run, row: dict[str, Any]) -> None:
    if run.book:
        run.book.tell(row)
