"""`emoverse annotate export` and `emoverse annotate import`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from emoverse.commands.options import Json
from emoverse.terminal import tables, write_json

app = typer.Typer(
    help="Annotate the causes of emotions in Label Studio, and read the annotations back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Merge(str, Enum):
    """Which of several annotators' causes are kept."""

    majority = "majority"
    union = "union"
    intersection = "intersection"


@app.command("export")
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where page and tasks are written.")],
    meld: Annotated[
        Path | None, typer.Option(metavar="DIR", help="MELD: {train,dev,test}_sent_emo.csv.")
    ] = None,
    ecf: Annotated[
        Path | None, typer.Option(metavar="PATH", help="ECF's JSON or text files.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Clips with transcripts.csv, one scene each.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split: train, valid or test.")
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The clips of MELD or ECF.")
    ] = None,
    links: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="all_data_pair_ECFvsMELD.txt: ECF with MELD's clips."),
    ] = None,
    clips_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where annotators' browsers find the folder of clips."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N conversations.")
    ] = None,
) -> None:
    """Write a Label Studio page and one task for every conversation."""
    named = {"meld": meld, "ecf": ecf, "folder": folder}
    chosen = [(corpus, path) for corpus, path in named.items() if path]
    if len(chosen) != 1:
        raise typer.BadParameter("name one of --meld, --ecf and --folder.")
    if clips_url and not (clips or folder):
        raise typer.BadParameter("--clips-url needs --clips, the folder that is served there.")
    if links and not (ecf and clips):
        raise typer.BadParameter("--links goes with --ecf and --clips.")
    from emoverse.emt.annotate import CONFIG, TASKS, conversations, export_tasks

    [(corpus, path)] = chosen
    dialogues, problems = conversations(corpus, path, split=split, clips=clips, links=links)
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)
    served = clips or folder
    count = export_tasks(dialogues, out, clips_url=clips_url, clips=served, limit=limit)
    print(f"Wrote {count} tasks to {out / TASKS} and the labelling page to {out / CONFIG}.")


@app.command("import")
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="EXPORT.json...", help="Label Studio's JSON exports.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where ECF files are written.")],
    merge: Annotated[Merge, typer.Option(help="Whose causes are kept.")] = Merge.majority,
    json_file: Json = None,
) -> None:
    """Turn annotations into ECF files, and report how far the annotators agree."""
    from emoverse.emt.annotate import import_annotations

    report, problems = import_annotations(files, out, merge=merge.value)
    for problem in problems:
        print(problem, file=sys.stderr)
    if json_file:
        write_json(json_file, report)
    if console := tables(json_file):
        _print_agreement(console, report["agreement"])
        for file, count in report["files"].items():
            print(f"Wrote {file}: {count} conversations.")
        print(
            f"{report['pairs']} emotion-cause pairs; {report['skipped']} annotations were "
            f"malformed and skipped, {report['left_out']} conversations left out."
        )


def _print_agreement(console: Any, agreement: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    if not agreement["pairs"]:
        console.print("One annotator for each conversation: there is no agreement to measure.")
        return
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in ("", "Conversations", "Emotion kappa", "Cause kappa", "Pair F1"):
        table.add_column(name, justify="right" if name else "left")
    for pair in agreement["pairs"]:
        names = " - ".join(pair["annotators"])
        kappas = (_kappa(pair["emotion_kappa"]), _kappa(pair["cause_kappa"]))
        table.add_row(names, str(pair["conversations"]), *kappas, _percent(pair["pair_f1"]))
    kinds = (agreement["emotion"], agreement["cause"])
    means = [_kappa(kind["cohen"]) for kind in kinds]
    table.add_row("mean (Cohen)", "", *means, _percent(agreement["pair_f1"]), style="bold")
    table.add_row("all (Fleiss)", "", *(_kappa(kind["fleiss"]) for kind in kinds), "", style="bold")
    console.print(table, markup=False)


def _kappa(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
