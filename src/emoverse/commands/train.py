"""`emoverse train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the model and the log go.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = (
        False
    ),
) -> None:
    """Train by a recipe: stage 1, then stage 2 (M2SE)."""
    for override in overrides or []:
        if "=" not in override.lstrip("="):
            raise typer.BadParameter(f"--set takes key=value, not {override!r}.")
    from emoverse.training import train as run

    run(recipe, overrides=list(overrides or []), out=out, resume=resume)
