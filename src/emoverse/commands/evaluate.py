"""`emoverse eval` and `emoverse score`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse.commands.options import EndToEnd, Json, MediaRoot
from emoverse.terminal import counting, print_scores, tables, write_json

if TYPE_CHECKING:
    from rich.console import Console


class ScoredTask(str, Enum):
    """The tasks that have a scorer: all five."""

    msa = "msa"
    er = "er"
    ecpe = "ecpe"
    fer = "fer"
    eri = "eri"


Derive = Annotated[
    bool,
    typer.Option(
        "--derive-scores",
        help="MSA: take 3 * (p(positive) - p(negative)) for a score where the model gave none.",
    ),
]
OpenVocabulary = Annotated[
    bool,
    typer.Option(
        "--open-vocabulary",
        help="ER: read answers such as `Elated.` by the emotion wheel.",
    ),
]
FloorsTrain = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A training set, for the floors that are learnt (ECPE: no text)."
    ),
]
JUDGE_KEY = "EMOVERSE_JUDGE_KEY"
_LEARNT = "no text"  # as `emoverse.evaluation.floors` calls the floor that is learnt


def evaluate(
    model: Annotated[str, typer.Argument(help="`compact`, or the folder of a trained model.")],
    data: Annotated[
        Path, typer.Argument(metavar="EMT.jsonl|OFFICIAL.json", help="Records to answer.")
    ],
    protocol: Annotated[
        EndToEnd,
        typer.Option(
            help="How ECPE is scored; `semeval` takes a SemEval-2024 Task 3 file and tells the "
            "model no emotion."
        ),
    ] = EndToEnd.paper,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where predictions, scores and the report go; else RECORDS-eval."
        ),
    ] = None,
    media_root: MediaRoot = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Answer only the first N records (semeval: conversations)."),
    ] = None,
    floors_train: FloorsTrain = None,
    derive_scores: Derive = False,
    open_vocabulary: OpenVocabulary = False,
    json_file: Json = None,
) -> None:
    """Answer records and score the answers: predictions.jsonl, scores.json and report.html.

    Reads our records and the authors' format; a record whose clip is not on disk is answered from
    its text alone and counted in the report. A run that was stopped goes on where it was when the
    same command is given again.
    """
    if protocol is EndToEnd.semeval:
        if derive_scores or open_vocabulary or floors_train:
            raise typer.BadParameter(
                "the semeval protocol takes no --derive-scores, --open-vocabulary, --floors-train."
            )
        from emoverse.evaluation.end_to_end import evaluate_semeval

        with counting("Answering") as progress:
            scores = evaluate_semeval(
                model, data, out=out, media_root=media_root, limit=limit, progress=progress
            )
        _show_run(scores, json_file)
        return
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
            derive_scores=derive_scores,
            open_vocabulary=open_vocabulary,
            progress=progress,
        )
    _show_run(scores, json_file)


def score(
    task: Annotated[ScoredTask | None, typer.Option(help="Which task the files answer.")] = None,
    gold: Annotated[Path | None, typer.Option(metavar="FILE", help="The right answers.")] = None,
    pred: Annotated[Path | None, typer.Option(metavar="FILE", help="The answers to score.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Score what `emoverse eval` wrote there again; asks no model."
        ),
    ] = None,
    protocol: Annotated[EndToEnd, typer.Option(help="How ECPE is scored.")] = EndToEnd.paper,
    floors_train: FloorsTrain = None,
    derive_scores: Derive = False,
    open_vocabulary: OpenVocabulary = False,
    traps: Annotated[
        bool,
        typer.Option("--traps", help="Show what the authors' own script would say of these."),
    ] = False,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"ERI of a run: a judge with OpenAI's API (its key in ${JUDGE_KEY}).",
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The judge's name at that URL.")
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="ERI of a run: compare by the word vectors of this model too."
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Score answers: a file of predictions against a file of gold answers, or a finished run."""
    files = (task, gold, pred)
    if None in files if run is None else files != (None, None, None):
        raise typer.BadParameter("give --task, --gold and --pred, or --run alone.")
    if protocol is EndToEnd.semeval and ((run is None and task is not ScoredTask.ecpe) or traps):
        raise typer.BadParameter("the semeval protocol belongs to --task ecpe, without --traps.")
    if (judge_url is None) != (judge_model is None):
        raise typer.BadParameter("--judge-url and --judge-model go together.")
    if run is None and (judge_url or similarity):
        raise typer.BadParameter("--judge-url and --similarity belong to --run.")
    unused = (floors_train, derive_scores, open_vocabulary, judge_url, similarity)
    if protocol is EndToEnd.semeval and any(unused):
        raise typer.BadParameter(
            "the semeval protocol takes no --floors-train, --derive-scores, --open-vocabulary, "
            "--judge-url, --similarity."
        )
    options: dict[str, Any] = {
        "derive_scores": derive_scores,
        "open_vocabulary": open_vocabulary,
        "traps": traps,
    }
    if run is not None and protocol is EndToEnd.semeval:
        from emoverse.evaluation.end_to_end import score_semeval_run

        _show_run(score_semeval_run(run), json_file)
        return
    if run is not None:
        from emoverse.evaluation.runner import score_predictions

        if judge_url and judge_model:
            from emoverse.emt.endpoint import Endpoint

            options["judge"] = Endpoint(judge_url, judge_model, os.environ.get(JUDGE_KEY))
        options |= {"similarity": similarity, "floors_train": floors_train}
        scores = score_predictions(run, protocol.value, **options)
        _show_run(scores, json_file)
        return
    assert task is not None and gold is not None and pred is not None
    from emoverse.evaluation.score import score_files

    block = score_files(
        task.value, gold, pred, protocol.value, floors_train=floors_train, **options
    )
    if console := tables(json_file):
        _print_block(console, block)
    if json_file:
        write_json(json_file, block)


def _show_run(scores: Mapping[str, Any], json_file: str | None) -> None:
    if console := tables(json_file):
        for block in scores["tasks"].values():
            _print_block(console, block)
    if json_file:
        write_json(json_file, scores)


def _print_block(console: Console, block: Mapping[str, Any]) -> None:
    print_scores(console, block)
    if block["task"] == "ecpe" and _LEARNT not in block["floors"]:
        how = (
            "the semeval protocol has none; compare under paper or strict"
            if block["protocol"] == EndToEnd.semeval.value
            else "name a training set by --floors-train"
        )
        console.print(
            f'Not among the floors: "{_LEARNT}", which is the hardest to beat ({how}).',
            style="dim",
            soft_wrap=True,
        )
    if source := block.get("scores_from"):
        console.print(f"Sentiment scores: {source}.", style="dim", soft_wrap=True)
    if "through_wheel" in block:
        console.print(
            f"{block['through_wheel']} answers were read by the emotion wheel.", style="dim"
        )
    if judge := block.get("judge"):
        for scale in ("clue", "label"):
            row = judge[scale]
            console.print(
                f"{judge['model']}, {scale} overlap 0-10: {_number(row['mean'])} "
                f"{row['interval'] or ''}; orders agree within 1 point on "
                f"{_number(row['agreement']['within_1'])} %, kappa "
                f"{_number(row['agreement']['kappa'])}",
                soft_wrap=True,
            )
    if similarity := block.get("similarity"):
        console.print(
            f"Similarity by {similarity['model']}, layer {similarity['layer']}: "
            f"F1 {similarity['f1']:.2f} {similarity['interval']}"
        )
    if block.get("traps"):
        _print_traps(console, block)


def _print_traps(console: Console, block: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in ("what the authors' script does", "figure", "ours", "theirs", "points", "answers"):
        table.add_column(name, justify="left" if name[0] in "wf" else "right")
    for row in block["traps"]:
        points = row["points"]
        table.add_row(
            row["rule"],
            row["figure"],
            _number(row["ours"]),
            "fails" if row["theirs"] is None else _number(row["theirs"]),
            "" if points is None else f"{points:+.2f}",
            str(row["cases"]),
        )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
