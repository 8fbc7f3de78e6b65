"""`emoverse build`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json
from emoverse.terminal import rated, write_json

_CLIPS = "Its clips, when they are elsewhere."


def build(
    out: Annotated[Path, typer.Option(metavar="EMT", help="The dataset's folder.")],
    meld: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="MELD: {train,dev,test}_sent_emo.csv, and clips."),
    ] = None,
    mosei: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="CMU-MOSEI: TSVs or MMSA's label.csv, and clips."),
    ] = None,
    mosi: Annotated[Path | None, typer.Option(metavar="DIR", help="CMU-MOSI, likewise.")] = None,
    ecf: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="ECF 2.0: Subtask_2_train.json, and ecf1_dev.txt for a valid split."
        ),
    ] = None,
    meld_clips: Annotated[Path | None, typer.Option(metavar="DIR", help=_CLIPS)] = None,
    mosei_clips: Annotated[Path | None, typer.Option(metavar="DIR", help=_CLIPS)] = None,
    mosi_clips: Annotated[Path | None, typer.Option(metavar="DIR", help=_CLIPS)] = None,
    ecf_clips: Annotated[Path | None, typer.Option(metavar="DIR", help=_CLIPS)] = None,
    merr: Annotated[Path | None, typer.Option(metavar="FILE", help="MERR's JSON.")] = None,
    faces: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Face photo sets, one a folder; .tar too.")
    ] = None,
    context: Annotated[
        bool, typer.Option(help="Put a dialogue's earlier turns in front of its ER queries.")
    ] = True,
    clips: Annotated[bool, typer.Option(help="Measure the faces in the clips.")] = True,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second that are looked at everywhere.")
    ] = None,
    au_source: Annotated[
        str, typer.Option(help="Of action units: mediapipe, or blendshapes for raw proxies.")
    ] = "mediapipe",
    emotion_aus: Annotated[
        bool, typer.Option(help="Sum only the labelled emotion's action units (Eq 1).")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core by default.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for a clip before it is given up.")
    ] = 600.0,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, e.g. auto; else one is started.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(help="Go on where an earlier run was stopped."),
    ] = True,
    retry: Annotated[bool, typer.Option(help="Try clips again that were given up.")] = False,
    describe_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="OpenAI-compatible server that describes clips (ERI)."),
    ] = None,
    describe_model: Annotated[
        str, typer.Option(help="The model's name there.")
    ] = "OpenGVLab/InternVL2-8B",
    reason_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="The same for reasons; else the former.")
    ] = None,
    reason_model: Annotated[
        str | None, typer.Option(help="The model that infers reasons; else the describing one.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Turn corpora into EMT records: train.jsonl, valid.jsonl, test.jsonl, build.json."""
    from emoverse.emt import build as steps
    from emoverse.emt.clips import Settings
    from emoverse.emt.looks import engine_of
    from emoverse.emt.sources import Folder

    named = [
        Folder(path, its_clips) if path else None
        for path, its_clips in (
            (meld, meld_clips),
            (mosei, mosei_clips),
            (mosi, mosi_clips),
            (ecf, ecf_clips),
        )
    ]
    settings = Settings(source=au_source)
    with ExitStack() as stack:
        work = steps.FaceWork(
            settings=replace(settings, max_fps=fps) if fps else settings,
            engine=engine_of(engine),
            workers=workers,
            timeout=timeout,
            resume=resume,
            retry=retry,
            ray_address=ray_address,
            emotion_aus=emotion_aus,
            progress=stack.enter_context(rated("Clips")) if clips else None,
        )
        describer = None
        if describe_endpoint:
            from emoverse.emt.endpoint import Endpoint
            from emoverse.emt.reasons import Describer

            key = os.environ.get("OPENAI_API_KEY")
            sees = Endpoint(describe_endpoint, describe_model, key)
            other = reason_endpoint or reason_model
            infers = Endpoint(
                reason_endpoint or describe_endpoint, reason_model or describe_model, key
            )
            told = stack.enter_context(rated("Reasons"))
            describer = Describer(sees, infers if other else None, told)
        summary = steps.build(
            out,
            meld_dir=named[0],
            mosei_dir=named[1],
            mosi_dir=named[2],
            ecf_dir=named[3],
            merr_file=merr,
            faces_dir=faces,
            context=context,
            clips=clips,
            faces=work,
            describer=describer,
            log=lambda line: print(line, file=sys.stderr),
        )
    if json_file:
        write_json(json_file, summary)
    if json_file != "-":
        print(f"Wrote {out}; {summary['skipped']} rows were skipped, see {out / 'skipped.txt'}.")
        if found := summary.get("clips"):
            told_of = ", ".join(f"{count:,} {what}" for what, count in found.items())
            print(f"Clips: {told_of}; see {out / 'clips.txt'}.")
        if not describe_endpoint:
            print("No reasons were asked for; name a server with --describe-endpoint URL.")
