"""`emoverse merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    run: Annotated[
        Path, typer.Argument(help="The folder that `emoverse train` wrote, or its `best`.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the model.")],
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Upload it to this Hugging Face hub repository."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new hub repository public, not private.")
    ] = False,
) -> None:
    """Write a trained model with its LoRA merged in, and a model card; optionally upload it.

    RUN is the model after the last step, RUN/best the one with the best mean valid score.
    """
    from emoverse.training.folder import merge as merged
    from emoverse.training.folder import push_to_hub

    print(f"Written to {merged(run, out)}")
    if push:
        print(f"Uploaded to {push_to_hub(out, push, private=not public)}")
