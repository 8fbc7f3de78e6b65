"""`emoverse train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoverse.terminal import print_estimate, print_plan


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the model and the log go; else runs/RECIPE."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = (
        False
    ),
    plan_only: Annotated[
        bool,
        typer.Option("--plan-only", help="Show and write the plan of the stages; train nothing."),
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Show the memory it needs on common GPUs; train nothing."),
    ] = False,
) -> None:
    """Train by a recipe: stage 1, then stage 2 (M2SE).

    Ctrl-C and SIGTERM save before they end the run; --resume goes on from there.
    """
    for override in overrides or []:
        if "=" not in override.lstrip("="):
            raise typer.BadParameter(f"--set takes key=value, not {override!r}.")
    if estimate:
        from emoverse.m2se.recipe import load_recipe
        from emoverse.training.estimate import estimate as work_out

        print_estimate(work_out(load_recipe(recipe, list(overrides or []))))
        return
    if plan_only:
        _plan(recipe, list(overrides or []), out)
        return
    from emoverse.training import train as run

    run(recipe, overrides=list(overrides or []), out=out, resume=resume)


def _plan(path: Path, overrides: list[str], out: Path | None) -> None:
    """Print the plan as a table; write it where a training would, for diffs and re-use."""
    from emoverse.m2se.plan import PLAN, check_plan, planned, save_plan
    from emoverse.m2se.recipe import load_recipe

    recipe = load_recipe(path, overrides)
    plans = planned(recipe)
    print_plan(plans)
    place = (out or Path("runs") / path.stem) / PLAN
    check_plan(place, plans, recipe)
    written = save_plan(place, plans, recipe)
    print(f"Written to {written}; train with it by --set plan={written}")
