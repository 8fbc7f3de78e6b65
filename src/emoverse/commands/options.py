"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


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
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON (`-`: to stdout)."),
]
