"""The models an ablation table compares: found, or trained by their recipes, and never twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from emoverse.errors import EmoVerseError
from emoverse.evaluation.paper_tables import FULL, PaperRow, PaperTable, check_rows
from emoverse.files import read_json, sha256_of, write_json
from emoverse.m2se.recipe import Recipe, load_recipe, to_dict
from emoverse.training import checkpoint
from emoverse.training.distributed import join
from emoverse.training.folder import save_model
from emoverse.training.opening import keep_vit, open_model
from emoverse.training.trainer import train as train_recipe

DONE = "trained.json"
# Training as `emoverse.training.train` does it: recipe file, overrides, folder, resume.
Train = Callable[[Path, Sequence[str], Path, bool], object]
Log = Callable[[str], None]


def variants(
    table: PaperTable,
    folder: Path,
    recipes: Path,
    *,
    base: Path | None = None,
    overrides: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
    trains: bool = True,
    train: Train | None = None,
    log: Log = lambda line: None,
) -> Iterator[tuple[str, tuple[str, Recipe | None]]]:
    """Every variant's model, in the order of the table; what is missing is trained.

    It is trained when its turn comes, so that the ones before it can be evaluated first.
    A training that was stopped goes on from its last checkpoint. Two variants whose recipes and
    data are the same (the full recipe stands in several tables) share one model.

    Args:
        table: an ablation table.
        folder: where the models are kept, one folder each.
        recipes: the folder of the recipes that the table names.
        base: another full recipe (of another model, say); of the folder's, only what they change
            of the full one's samples and rates is then taken, see `derived`.
        overrides: `key=value` settings on top of every recipe.
        given: variant name to a model folder or name that was trained elsewhere.
        trains: whether missing models may be trained.
        train: does the training; None is `emoverse.training.train`.
        log: told what happens.

    Yields:
        Variant name, (model, recipe; None for a given model).

    Raises:
        EmoVerseError: a variant has an unknown name, a recipe is missing or malformed, or a model
            is missing and may not be trained.
    """
    given, train = given or {}, train or train_recipe
    check_rows(table, given)
    recipe_of = {
        row.name: _recipe(row, table, recipes, base, overrides)
        for row in table.rows
        if row.name not in given
    }  # all are read before the first is trained
    for row in table.rows:
        if row.name in given:
            yield row.name, (given[row.name], None)
            continue
        recipe, path, settings = recipe_of[row.name]
        model = _trained(folder, row, recipe)
        if model is None and not trains:
            raise EmoVerseError(
                f"Variant {row.name!r} of table {table.number} is not trained in {folder}; leave "
                "--no-train out, or name its model."
            )
        if model is None:
            model = folder / _slug(row)
            log(f"{row.name}: " + (f"training by {path}" if row.recipe else "writing it untrained"))
            _make(model, row, recipe, path, settings, train)
        else:
            log(f"{row.name}: {model} is there")
        yield row.name, (str(model), recipe)


def derived(base: Recipe, ablation: Recipe, full: Recipe) -> list[str]:
    """The overrides that make of one recipe the ablation that another one is.

    Each stage takes its name and what the ablation changed of the full recipe's samples and rates
    from the ablation's, all else (epochs, learning rates, the rates left alone...) from the base's
    stage at the same place.

    Args:
        base: a full recipe, of another model say.
        ablation: of the full recipe of its own model.
        full: that one.
    """
    stages = []
    for place, stage in enumerate(ablation.stages):
        own, before = (recipe.stages[min(place, len(recipe.stages) - 1)] for recipe in (base, full))
        rates = {
            task: own.rates.get(task, rate) if rate == before.rates.get(task) else rate
            for task, rate in stage.rates.items()
        }
        samples = own.samples if stage.samples == before.samples else stage.samples
        stages.append(replace(own, name=stage.name, samples=samples, rates=rates))
    return [f"stages={json.dumps([asdict(stage) for stage in stages])}"]


def untrained(recipe: Recipe, folder: Path) -> None:
    """Write the recipe's model as it is before the first step: its LoRA changes nothing.

    Its recipe is kept without stages: it was trained on nothing.

    A projector that is new (the compact model's) is then random, so only answers from text alone
    say something about the language model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    keep_vit(recipe, folder)
    save_model(open_model(recipe, join()), replace(recipe, stages=()), folder)


def _recipe(
    row: PaperRow,
    table: PaperTable,
    recipes: Path,
    base: Path | None,
    overrides: Sequence[str],
) -> tuple[Recipe, Path, list[str]]:
    """The recipe of a variant, with the file and the overrides that make it."""
    # What is untrained has the reference's model and data.
    name = row.recipe or next(other for other in table.rows if other.name == table.reference).recipe
    path, settings = recipes / str(name), list(overrides)
    if not path.is_file():
        raise EmoVerseError(f"{path}: no such recipe; name the folder that holds it by --recipes.")
    if base is not None and name == FULL:
        path = base
    elif base is not None:
        full = load_recipe(recipes / FULL)
        settings = [*derived(load_recipe(base), load_recipe(path), full), *overrides]
        path = base
    return load_recipe(path, settings), path, settings


def _make(
    model: Path, row: PaperRow, recipe: Recipe, path: Path, settings: list[str], train: Train
) -> None:
    mark = _mark(row, recipe)
    begun = model / "begun.json"
    if begun.is_file() and read_json(begun) != mark:
        raise EmoVerseError(
            f"{model} was begun with another recipe or other data; name another --out, or delete "
            "that folder."
        )
    again = begun.is_file() and (model / checkpoint.FILE).is_file()
    write_json(begun, mark)
    if row.recipe:
        train(path, settings, model, again)
    else:
        untrained(recipe, model)
    write_json(model / DONE, mark)


def _trained(folder: Path, row: PaperRow, recipe: Recipe) -> Path | None:
    mark = _mark(row, recipe)
    for done in sorted(folder.glob(f"*/{DONE}")):
        if read_json(done) == mark:
            return done.parent
    return None


def _mark(row: PaperRow, recipe: Recipe) -> dict[str, str | bool]:
    """What decides a model: whether it is trained, its recipe and its data."""
    content = json.dumps(to_dict(recipe), sort_keys=True)
    data = Path(recipe.train)
    if not data.is_file():
        raise EmoVerseError(f"{data}: no such training data; set it by `--set train=FILE`.")
    return {
        "trained": bool(row.recipe),
        "recipe_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "data_sha256": sha256_of(data),
    }


def _slug(row: PaperRow) -> str:
    return Path(row.recipe).stem if row.recipe else row.name
