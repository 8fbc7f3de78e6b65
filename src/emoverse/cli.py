"""The `emoverse` command.

Nothing heavy is imported up here: `emoverse COMMAND --help` must answer in under half a second.
Tables go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 bad use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse import __version__
from emoverse.errors import EmoVerseError
from emoverse.terminal import (
    complain,
    counting,
    print_faces,
    print_scores,
    tables,
    waiting,
    write_json,
)

if TYPE_CHECKING:
    from emoverse.inference.analysis import Analysis

CLIP_TASKS = ("msa", "er", "fer", "eri")

# Help in plain text: the coloured boxes would double the time that `--help` takes.
app = typer.Typer(
    name="emoverse",
    help="Sentiment, emotion, facial expression, reason and cause of emotion, from video and text.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Protocol(str, Enum):
    """How ECPE is scored: with targets that have no cause left out (paper) or counted (strict)."""

    paper = "paper"
    strict = "strict"


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


Model = Annotated[
    str, typer.Option("--model", "-m", help="`compact`, or the folder of a trained model.")
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON (`-`: to stdout)."),
]


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="`compact`, or `demo` for the demo clip alone.")],
    json_file: Json = None,
) -> None:
    """Fetch weights into the cache folder, by pinned hash; an interrupted fetch is resumed.

    Prints where they are. EMOVERSE_CACHE names another cache folder.
    """
    from emoverse.models import weights

    path = weights.pull(name)
    if json_file:
        write_json(json_file, {"name": name, "path": str(path)})
    if json_file != "-":
        print(path)


@app.command()
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


@app.command()
def faces(
    source: Annotated[
        str, typer.Argument(metavar="CLIP|OPENFACE.csv", help="A video, image or OpenFace output.")
    ],
    emotion: Annotated[
        str | None, typer.Option(help="Caption only the AUs that belong to this emotion (Eq 3).")
    ] = None,
    json_file: Json = None,
) -> None:
    """Action units per frame and person, the peak frame, and its caption.

    Units measured from a clip are MediaPipe blendshapes read as proxies of FACS AUs.
    """
    with waiting(f"Reading {source}"):
        track = _measure(source, emotion)
    if console := tables(json_file):
        print_faces(console, track["frames"], track["peak"], track["caption"], track["warnings"])
    if json_file:
        for name in ("peak", "caption"):
            track[name] = asdict(track[name]) if track[name] else None
        track["frames"] = [asdict(frame) for frame in track["frames"]]
        write_json(json_file, {"source": source} | track)


@app.command()
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


@app.command()
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


@app.command("eval")
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


@app.command()
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


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if version:
        print(f"emoverse {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with 0 (done), 1 (failed) or 2 (bad use).

    Args:
        arguments: without the program's name; `sys.argv` when None.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="emoverse")
    except EmoVerseError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file that the user could look at: a fault of ours
            raise
        complain(f"{error.filename}: {error.strerror}; check the path and its permissions.")
        sys.exit(1)


def _measure(source: str, emotion: str | None) -> dict[str, Any]:
    """The AU frames, peak frame, caption and warnings of a clip or of OpenFace's output.

    `picture` is the (width, height) in pixels that the face boxes are measured in.
    """
    if source.lower().endswith((".csv", ".txt")):
        from emoverse.corpora.records import Problem
        from emoverse.faces import openface
        from emoverse.faces.captions import describe
        from emoverse.faces.peak import peak

        problems: list[Problem] = []
        frames = openface.read(source, problems=problems)
        highest = peak(frames)
        return {
            "people": len({frame.person for frame in frames}),
            "picture": None,
            "peak": highest,
            "caption": describe(highest.intensities, emotion),
            "frames": frames,
            "warnings": [str(problem) for problem in problems],
        }
    from emoverse.faces import analyse_faces

    track = analyse_faces(source, emotion=emotion)
    image = track.peak_image
    return {
        "people": track.people,
        "picture": None if image is None else (image.shape[1], image.shape[0]),
        "peak": track.peak,
        "caption": track.caption,
        "frames": track.frames,
        "warnings": list(track.warnings),
    }


def _tasks(value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))
    strange = [name for name in names if name not in CLIP_TASKS]
    if strange or not names:
        named = ", ".join(strange) or "none"
        raise typer.BadParameter(f"--tasks takes {', '.join(CLIP_TASKS)} (named: {named}).")
    return names
