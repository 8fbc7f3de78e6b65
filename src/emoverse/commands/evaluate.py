"""`emoverse eval` and `emoverse score`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json, Protocol
from emoverse.terminal import counting, print_scores, tables, write_json


class ScoreProtocol(str, Enum):
    """The protocols of `score`, which also knows SemEval-2024 Task 3's own."""

    paper = "paper"
    strict = "strict"
    semeval = "semeval"


class ScoredTask(str, Enum):
    """The tasks with a public benchmark."""

    msa = "msa"
    er = "er"
    ecpe = "ecpe"


def evaluate(
    model: Annotated[str, typer.Argument(help="`compact`, or the folder of a trained model.")],
    data: Annotated[
        Path, typer.Argument(metavar="EMT.jsonl|OFFICIAL.json", help="Records to answer.")
    ],
    protocol: Annotated[Protocol, typer.Option(help="How ECPE is scored.")] = Protocol.paper,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where predictions, scores and the report go."),
    ] = None,
    media_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder that the records' media paths start in."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Answer only the first N records.")
    ] = None,
    floors_train: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A training set, for the floors that are learnt (ECPE: no text)."
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Answer records and score the answers: predictions.jsonl, scores.json and report.html.

    Reads our records and the authors' format; a record whose clip is not on disk is answered from
    its text alone and counted in the report.
    """
    from emoverse.evaluation.runner import evaluate as run

    with counting("Answering") as progress:
        scores = run(
            model,
            data,
            protocol=protocol.value,
            out=out,
            media_root=media_root,
            limit=limit,
            floors_train=floors_train,
            progress=progress,
        )
    if console := tables(json_file):
        for block in scores["tasks"].values():
            print_scores(console, block)
    if json_file:
        write_json(json_file, scores)


def score(
    task: Annotated[ScoredTask, typer.Option(help="Which task the files answer.")],
    gold: Annotated[Path, typer.Option(metavar="FILE", help="The right answers.")],
    pred: Annotated[Path, typer.Option(metavar="FILE", help="The answers to score.")],
    protocol: Annotated[
        ScoreProtocol, typer.Option(help="How ECPE is scored.")
    ] = ScoreProtocol.paper,
    json_file: Json = None,
) -> None:
    """Score a file of predictions against a file of gold answers."""
    if protocol is ScoreProtocol.semeval and task is not ScoredTask.ecpe:
        raise typer.BadParameter("the semeval protocol belongs to --task ecpe.")
    from emoverse.evaluation.score import score_files

    block = score_files(task.value, gold, pred, protocol.value)
    if console := tables(json_file):
        print_scores(console, block)
    if json_file:
        write_json(json_file, block)
