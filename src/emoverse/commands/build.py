"""`emoverse build`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json
from emoverse.terminal import write_json


def build(
    out: Annotated[Path, typer.Option(metavar="EMT", help="The dataset's folder.")],
    meld: Annotated[
        Path | None, typer.Option(metavar="DIR", help="MELD: {train,dev,test}_sent_emo.csv.")
    ] = None,
    mosei: Annotated[
        Path | None, typer.Option(metavar="DIR", help="CMU-MOSEI: TSVs or MMSA's label.csv.")
    ] = None,
    mosi: Annotated[Path | None, typer.Option(metavar="DIR", help="CMU-MOSI, likewise.")] = None,
    ecf: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="ECF 2.0: Subtask_2_train.json, and ecf1_dev.txt for a valid split."
        ),
    ] = None,
    merr: Annotated[Path | None, typer.Option(metavar="FILE", help="MERR's JSON.")] = None,
    faces: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Face photo sets, one a folder; .tar too.")
    ] = None,
    context: Annotated[
        bool, typer.Option(help="Put a dialogue's earlier turns in front of its ER queries.")
    ] = True,
    json_file: Json = None,
) -> None:
    """Turn corpora into EMT records: train.jsonl, valid.jsonl, test.jsonl, build.json."""
    from emoverse.emt.build import build as run

    summary = run(
        out,
        meld_dir=meld,
        mosei_dir=mosei,
        mosi_dir=mosi,
        ecf_dir=ecf,
        merr_file=merr,
        faces_dir=faces,
        context=context,
        log=lambda line: print(line, file=sys.stderr),
    )
    if json_file:
        write_json(json_file, summary)
    if json_file != "-":
        print(f"Wrote {out}; {summary['skipped']} rows were skipped, see {out / 'skipped.txt'}.")
