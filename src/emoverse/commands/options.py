"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.errors import EmoVerseError


class Protocol(str, Enum):
    """How ECPE is scored: with targets that have no cause left out (paper) or counted (strict)."""

    paper = "paper"
    strict = "strict"


class EndToEnd(str, Enum):
    """How ECPE is scored: as `Protocol` says, or by SemEval-2024 Task 3's own rules."""

    paper = "paper"
    strict = "strict"
    semeval = "semeval"


Model = Annotated[
    str, typer.Option("--model", "-m", help="`compact`, or the folder of a trained model.")
]
MediaRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder that the records' media paths start in; looked for beside their file.",
    ),
]


def target(path: Path | None) -> Path | None:
    """A file to write, looked at before the work whose result it will hold.

    Raises:
        EmoVerseError: it is a folder, or cannot be written.
    """
    if path is None:
        return None
    if path.is_dir():
        raise EmoVerseError(f"{path} is a folder; name a file in it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise EmoVerseError(f"{path} cannot be written: {above} is a file; name another place.")
    if not os.access(above, os.W_OK):
        raise EmoVerseError(f"{path} cannot be written: {above} is closed to you; name another.")
    return path


def _json_target(value: str | None) -> str | None:
    if value and value != "-":
        target(Path(value))
    return value


Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the result as JSON (`-`: to stdout).",
        callback=_json_target,
    ),
]


def given(ctx: typer.Context, name: str) -> bool:
    """Whether an option was named on the command line, even with its default's value."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_idle(ctx: typer.Context, idle: Mapping[str, str]) -> None:
    """Refuse options that would do nothing.

    Args:
        ctx: the command's.
        idle: parameters that have nothing to do, each with what it is for.
    """
    for name, purpose in idle.items():
        if given(ctx, name):
            flag = next(param.opts[0] for param in ctx.command.params if param.name == name)
            raise typer.BadParameter(f"{flag} is for {purpose}; leave it out.")
