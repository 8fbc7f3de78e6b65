"""`emoverse analyze`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse.commands.options import Json, Model
from emoverse.errors import EmoVerseError
from emoverse.terminal import complain, tables, waiting, write_json

if TYPE_CHECKING:
    from emoverse.inference.analysis import Analysis

CLIP_TASKS = ("msa", "er", "fer", "eri")


def analyze(
    clips: Annotated[
        list[str] | None, typer.Argument(metavar="CLIP", help="Videos or still images.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="What is said in the clip.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is said, as a text file.")
    ] = None,
    dialogue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="A conversation; adds which utterance caused which emotion (ECPE).",
        ),
    ] = None,
    model: Model = "compact",
    tasks: Annotated[
        str, typer.Option(help="Which of msa, er, fer, eri to answer, with commas between.")
    ] = ",".join(CLIP_TASKS),
    json_file: Json = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page.")
    ] = None,
) -> None:
    """Read clips, or a conversation: sentiment, emotion, expression, reason (and causes).

    With --json one clip or conversation gives one object, several clips give a list; a clip that
    could not be read is then {"clip", "error"}. The other clips are read all the same.
    """
    clips = clips or []
    chosen = _tasks(tasks)
    if bool(clips) == (dialogue is not None):
        raise typer.BadParameter("name one or more clips, or a conversation with --dialogue.")
    if text is not None and transcript is not None:
        raise typer.BadParameter("--text and --transcript say the same thing; give one of them.")
    if dialogue is not None and (text is not None or transcript is not None):
        raise typer.BadParameter("the conversation's file holds what is said; leave out the text.")

    if transcript is not None:
        from emoverse.files import read_text

        text = " ".join(read_text(transcript).split())
    from emoverse.inference.engine import load_model
    from emoverse.inference.report import print_analysis, write_html

    with waiting(f"Loading {model}"):
        engine = load_model(model)
    console = tables(json_file)
    done: list[Analysis] = []
    rows: list[dict[str, Any]] = []
    failed = False
    for number, source in enumerate([str(dialogue)] if dialogue else clips):
        try:
            with waiting(f"Reading {source}"):
                if dialogue:
                    analysis = engine.analyze_dialogue(dialogue)
                else:
                    analysis = engine.analyze(source, text=text, tasks=chosen)
        except EmoVerseError as error:
            complain(str(error))
            failed = True
            rows.append({"clip": source, "error": str(error)})
            continue
        if console:
            if number:
                console.print()
            print_analysis(console, analysis)
        done.append(analysis)
        rows.append(analysis.to_json())
    if json_file and (done or len(rows) > 1):
        write_json(json_file, rows if len(rows) > 1 else rows[0])
    if html and done:
        print(f"Wrote {write_html(done, html)}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _tasks(value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))
    strange = [name for name in names if name not in CLIP_TASKS]
    if strange or not names:
        named = ", ".join(strange) or "none"
        raise typer.BadParameter(f"--tasks takes {', '.join(CLIP_TASKS)} (named: {named}).")
    return names
