"""`emoverse build`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from emoverse.commands.options import Json, refuse_idle
from emoverse.terminal import complain, rated, write_json

# Options of how clips are looked at; the latter are for photos as well.
_LOOKING = ("engine", "workers", "timeout", "resume", "retry", "emotion_aus", "person")
_SEEING = ("au_source", "caption_style")
_CLIPS = "Its clips, when they are elsewhere."


class Person(str, Enum):
    """Whose peak is a clip's."""

    max = "max"
    speaker = "speaker"


class CaptionStyle(str, Enum):
    """How captions are worded."""

    paper = "paper"
    merr = "merr"


class Engine(str, Enum):
    """Where clips are looked at (`emoverse.emt.looks.Engine`)."""

    local = "local"
    ray = "ray"


class AUSource(str, Enum):
    """What measures action units (`emoverse.faces.sources`)."""

    mediapipe = "mediapipe"
    blendshapes = "blendshapes"
    openface = "openface"
    pyfeat = "pyfeat"


def build(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="EMT", help="The dataset's folder.")],
    meld: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="MELD: {train,dev,test}_sent_emo.csv, and clips."),
    ] = None,
    mosei: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="CMU-MOSEI: TSVs, MMSA's label.csv or the SDK's .csd; and clips."
        ),
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
    merr_published: Annotated[
        bool,
        typer.Option(
            "--merr-published",
            help="Tell MERR's reasons as published, with voices, clothes and places that only its "
            "clips show.",
        ),
    ] = False,
    faces: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Face photo sets, one a folder; .tar too.")
    ] = None,
    context: Annotated[
        bool, typer.Option(help="Put a dialogue's earlier turns in front of its ER queries.")
    ] = True,
    clips: Annotated[bool, typer.Option(help="Measure the faces in the clips.")] = True,
    fps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Frames a second that are looked at everywhere."),
    ] = None,
    au_source: Annotated[
        AUSource,
        typer.Option(
            help="mediapipe estimates OpenFace's and blendshapes gives raw proxies, of clips and "
            "photos alike; of clips alone: openface, the program itself, from PATH or "
            "EMOVERSE_OPENFACE, and pyfeat, an extra."
        ),
    ] = AUSource.mediapipe,
    emotion_aus: Annotated[
        bool, typer.Option(help="Sum only the labelled emotion's action units (Eq 1).")
    ] = False,
    person: Annotated[
        Person,
        typer.Option(
            help="Whose peak is a clip's: max, the person's with the highest one (Eq 2), or "
            "speaker, that of the person whose mouth moves most."
        ),
    ] = Person.max,
    caption_style: Annotated[
        CaptionStyle,
        typer.Option(help="`Grinning` (paper) or `slightly Cheek Raiser` (merr)."),
    ] = CaptionStyle.paper,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core by default.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for a clip before it is given up.")
    ] = 600.0,
    engine: Annotated[
        Engine, typer.Option(help="Look at clips on this machine, or on a Ray cluster.")
    ] = Engine.local,
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
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Your own describe.txt and reason.txt for the models."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Questions under way at each server; 8 by default.")
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds for an answer; 300 by default.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer; 320 tokens by default.")
    ] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IN OUT", help="US dollars for a million tokens in and out, for the report."
        ),
    ] = None,
    reason_price: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="IN OUT", help="The same of the reason model; else --price."),
    ] = None,
    drop_leaks: Annotated[
        bool,
        typer.Option(
            "--drop-leaks",
            help="Leave out training conversations that a held-out split also has.",
        ),
    ] = False,
    parquet: Annotated[
        bool | None,
        typer.Option(
            "--parquet/--no-parquet",
            help="Write data/*.parquet beside the JSONL; by default where pyarrow is installed.",
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Turn corpora into EMT records: train.jsonl, valid.jsonl, test.jsonl, build.json."""
    unused: Sequence[tuple[str, Any, Mapping[str, Any]]] = (
        ("--meld", meld, {"--meld-clips": meld_clips}),
        ("--mosei", mosei, {"--mosei-clips": mosei_clips}),
        ("--mosi", mosi, {"--mosi-clips": mosi_clips}),
        ("--ecf", ecf, {"--ecf-clips": ecf_clips}),
        ("--merr", merr, {"--merr-published": merr_published}),
        ("--clips", clips, {"--fps": fps}),
        ("--engine ray", engine is Engine.ray, {"--ray-address": ray_address}),
        (
            "--describe-endpoint",
            describe_endpoint,
            {
                "--reason-endpoint": reason_endpoint,
                "--reason-model": reason_model,
                "--prompts": prompts,
                "--concurrency": concurrency,
                "--request-timeout": request_timeout,
                "--max-tokens": max_tokens,
                "--price": price,
                "--reason-price": reason_price,
            },
        ),
    )
    for needed, there, options in unused:
        for flag, given in options.items():
            if given and not there:
                raise typer.BadParameter(f"{flag} goes with {needed}.")
    if not clips and (meld_clips or mosei_clips or mosi_clips or ecf_clips):
        raise typer.BadParameter("--no-clips looks at none; leave out where they are.")
    if not clips:
        refuse_idle(ctx, dict.fromkeys(_LOOKING, "clips, and --no-clips looks at none"))
        if not faces:
            refuse_idle(ctx, dict.fromkeys(_SEEING, "clips and photos, and there are none"))
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
    settings = Settings(source=au_source.value, person=person.value)
    with ExitStack() as stack:
        work = steps.FaceWork(
            settings=settings if fps is None else replace(settings, max_fps=fps),
            engine=engine_of(engine.value),
            workers=workers,
            timeout=timeout,
            resume=resume,
            retry=retry,
            ray_address=ray_address,
            emotion_aus=emotion_aus,
            style=caption_style.value,
            progress=stack.enter_context(rated("Clips")) if clips else None,
        )
        describer = None
        if describe_endpoint:
            from emoverse.emt.describe import PROMPTS
            from emoverse.emt.endpoint import Endpoint
            from emoverse.emt.reasons import Describer

            key = os.environ.get("OPENAI_API_KEY")
            limits: dict[str, Any] = {
                "concurrency": concurrency,
                "timeout": request_timeout,
                "max_tokens": max_tokens,
            }
            limits = {name: value for name, value in limits.items() if value is not None}
            sees = Endpoint(describe_endpoint, describe_model, key, prices=price, **limits)
            other = reason_endpoint or reason_model
            infers = Endpoint(
                reason_endpoint or describe_endpoint,
                reason_model or describe_model,
                key,
                prices=reason_price or price,
                **limits,
            )
            told = stack.enter_context(rated("Reasons"))
            describer = Describer(sees, infers if other else None, told, prompts or PROMPTS)
        summary = steps.build(
            out,
            meld_dir=named[0],
            mosei_dir=named[1],
            mosi_dir=named[2],
            ecf_dir=named[3],
            merr_file=merr,
            merr_published=merr_published,
            faces_dir=faces,
            context=context,
            clips=clips,
            faces=work,
            describer=describer,
            drop_leaks=drop_leaks,
            with_parquet=parquet,
            log=lambda line: print(line, file=sys.stderr),
        )
    if json_file:
        write_json(json_file, summary)
    if json_file != "-":
        _print_summary(out, summary)


def _print_summary(out: Path, summary: Mapping[str, Any]) -> None:
    print(f"Wrote {out}; {summary['skipped']} rows were skipped, see {out / 'skipped.txt'}.")
    if found := summary.get("clips"):
        print(f"Clips: {_counts(found)}; see {out / 'clips.txt'}.")
    if told := summary.get("captions"):
        print(f"Captions: {_counts(told)}.")
    if (leaks := summary["leaks"])["conversations"]:
        dropped = summary.get("dropped", {}).get("leak")
        print(
            f"Leaks: {leaks['conversations']:,} training conversations are in a held-out split "
            f"too, see {out / 'leaks.txt'}; "
            + (
                f"their {dropped:,} records went to {out / 'dropped.jsonl'}."
                if dropped
                else f"their {leaks['records']:,} records are kept (--drop-leaks leaves them out)."
            )
        )
    _print_reasons(out, summary["reasons"])


def _print_reasons(out: Path, told: Mapping[str, Any]) -> None:
    if told["skipped"]:
        print(told["skipped"])
        return
    rejected = told["rejected"]
    down = sum(rejected.values())
    why = f" ({_counts(rejected)})" if rejected else ""
    unasked = "" if told["unasked"] == 0 else f", {told['unasked'] or 'some'} were not asked about"
    print(
        f"Reasons: {told['accepted']:,} of {told['clips']:,} clips; "
        f"{down:,} {'was' if down == 1 else 'were'} turned down{why}, "
        f"{told['failed']:,} failed{unasked}; see {out / 'reasons' / 'rejected.jsonl'}."
    )
    if told["failure"] and not told["stopped"]:
        complain(f"The first that failed: {told['failure'].rstrip('.')}.")
    for model, used in told["models"].items():
        if not used["answers"]:
            continue
        cost = "" if used["cost"] is None else f", {used['cost']:.2f} US dollars"
        print(
            f"{model}: {used['answers']:,} answers, {used['tokens_in']:,} tokens in, "
            f"{used['tokens_out']:,} out{cost}."
        )
    if told["stopped"]:
        why = told["stopped"].rstrip(".")
        complain(f"Reasons were broken off: {why}. Run the same command to go on.")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in found.items())
