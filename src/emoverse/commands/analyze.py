"""`emoverse analyze`."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse.commands import loading
from emoverse.commands.faces import Person
from emoverse.commands.options import Json, Model, refuse_idle, target
from emoverse.errors import EmoVerseError
from emoverse.terminal import complain, tables, waiting, write_json, wrote

if TYPE_CHECKING:
    from emoverse.inference.analysis import Analysis

CLIP_TASKS = ("msa", "er", "fer", "eri")
FILM_TASKS = (*CLIP_TASKS, "ecpe")
CAMERA_TASKS = ("er", "fer")
# Transcripts that say when something is said.
_TIMED = (".srt", ".vtt", ".ass", ".ssa", ".json")
# What options are for that some kinds of input have no use for.
_PURPOSE = {
    "tasks": "clips, films, folders and cameras",
    "film": "one video",
    "speech": "clips, films and folders without a transcript",
    "asr_model": "--speech asr",
    "language": "--speech asr",
    "silences": "films",
    "person": "films",
    "jsonl": "one film or folder",
    "workers": "films and folders",
    "every": "cameras",
    "seconds": "cameras",
}
_CAMERA = ("every", "seconds")
_FILM = ("silences", "person")
_JOURNAL = ("jsonl", "workers")
_SPEECH = ("asr_model", "language")
# Seconds from which on a video is more than one clip.
_LONG = 60.0


class Speech(str, Enum):
    """How it is found out what is said in a film."""

    asr = "asr"
    vad = "vad"
    none = "none"


def analyze(
    ctx: typer.Context,
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLIP", help="Videos or still images, or one folder of clips."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What is said in the clip.")] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What is said: a text file, or with times (.srt, .vtt, .ass, .json) for a film.",
        ),
    ] = None,
    dialogue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="A conversation; adds which utterance caused which emotion (ECPE).",
        ),
    ] = None,
    webcam: Annotated[
        str | None,
        typer.Option(metavar="CAMERA", help="Read a camera live: 0, a device, or a video."),
    ] = None,
    model: Model = "compact",
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Which of msa, er, fer, eri (and ecpe, for films) to answer, with commas "
            "between; all of them by default, er and fer for a camera."
        ),
    ] = None,
    film: Annotated[
        bool | None,
        typer.Option(
            "--film/--clip",
            help="Read a video utterance by utterance, or as one clip; by default what is longer "
            "than a minute, or has a transcript with times, is a film.",
        ),
    ] = None,
    speech: Annotated[
        Speech | None,
        typer.Option(
            help="Without transcript: recognise what is said (asr); of a film, find where somebody "
            "speaks (vad); or read faces alone (none). By default asr for a film, none for clips.",
            show_default=False,
        ),
    ] = None,
    asr_model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="For --speech asr: base, large-v3, or a faster-whisper folder."
        ),
    ] = "base",
    language: Annotated[
        str | None, typer.Option(metavar="xx", help="What is spoken, for --speech asr.")
    ] = None,
    silences: Annotated[
        bool, typer.Option("--silences", help="Film: also read the shots in which nobody speaks.")
    ] = False,
    person: Annotated[
        Person, typer.Option(help="Film: show the model who speaks, or the strongest expression.")
    ] = Person.speaker,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Film or folder: answers as they come, from which a later run goes on; by "
            "default NAME.emoverse.jsonl here.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Film or folder: processes that look at faces; one a core."),
    ] = None,
    every: Annotated[float, typer.Option(min=0.5, help="Camera: seconds of a window.")] = 4.0,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Camera: stop after so many seconds.")
    ] = None,
    json_file: Json = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one self-contained page.", callback=target),
    ] = None,
) -> None:
    """Read clips, a film, a folder of clips, a camera or a conversation.

    Sentiment, emotion, expression and reason of each clip; of a film for each utterance, with who
    is who, an emotion timeline and what caused each emotion.

    With --json one clip, film or conversation gives one object, several clips and a folder give a
    list; a clip that could not be read is then {"clip", "error"}. The other clips are read all the
    same. A film or folder whose run was ended goes on with the same command.
    """
    clips = clips or []
    if not clips and dialogue is None and webcam is None:
        raise typer.BadParameter(
            "name one or more clips, a folder, a conversation with --dialogue, or --webcam."
        )
    if (bool(clips), dialogue is not None, webcam is not None).count(True) > 1:
        raise typer.BadParameter("give only one of clips, --dialogue and --webcam.")
    if text is not None and transcript is not None:
        raise typer.BadParameter("--text and --transcript say the same thing; give one of them.")
    if not clips and (text is not None or transcript is not None):
        where = "the conversation's file holds" if dialogue else "a camera cannot be told"
        raise typer.BadParameter(f"{where} what is said; leave out the text.")
    if len(clips) > 1 and (text is not None or transcript is not None):
        raise typer.BadParameter(
            "--text and --transcript tell what is said in one clip; read the clips one by one, or "
            "put them in a folder with a .txt of the same name beside each."
        )

    if webcam is not None:
        if html or (json_file and json_file != "-"):
            raise typer.BadParameter("a camera has no end to write about; use --json - for lines.")
        _refuse(ctx, "film", "speech", *_SPEECH, *_FILM, *_JOURNAL)
        from emoverse.commands import reading

        asked = _tasks(tasks, CLIP_TASKS, CAMERA_TASKS)
        reading.live(
            webcam, model=model, tasks=asked, every=every, seconds=seconds, as_json=bool(json_file)
        )
        return
    heard = asr_model if speech == Speech.asr else None  # of clips
    if len(clips) == 1 and Path(clips[0]).is_dir():
        if speech == Speech.vad:
            raise typer.BadParameter("--speech vad is for films; clips are read whole.")
        if text is not None or transcript is not None:
            raise typer.BadParameter("a folder's transcripts lie beside its clips.")
        _refuse(ctx, *_FILM, *_CAMERA, *(() if heard else _SPEECH), *(("film",) if film else ()))
        asked = _tasks(tasks, CLIP_TASKS)
        from emoverse.commands import reading

        if not reading.folder(
            clips[0],
            model=model,
            tasks=asked,
            asr_model=heard,
            language=language,
            workers=workers,
            jsonl=jsonl,
            json_file=json_file,
            html=html,
        ):
            raise typer.Exit(1)
        return
    timed = transcript is not None and transcript.suffix.lower() in _TIMED
    if len(clips) == 1 and _is_film(clips[0], film, timed, jsonl, text, transcript):
        if text is not None or (transcript is not None and not timed):
            raise typer.BadParameter(f"a film needs a transcript with times ({', '.join(_TIMED)}).")
        asked = _tasks(tasks, FILM_TASKS)
        if "ecpe" in asked and "er" not in asked:
            raise typer.BadParameter("--tasks ecpe needs er: causes are those of emotions.")
        _refuse(ctx, *_CAMERA, *(("speech",) if transcript else ()))
        if transcript or speech in (Speech.vad, Speech.none):
            _refuse(ctx, *_SPEECH)
        from emoverse.commands import reading

        reading.film(
            clips[0],
            model=model,
            tasks=asked,
            transcript=transcript,
            speech=(speech or Speech.asr).value,
            asr_model=asr_model,
            language=language,
            silences=silences,
            person=person.value,
            workers=workers,
            jsonl=jsonl,
            json_file=json_file,
            html=html,
        )
        return
    if film or jsonl:
        raise typer.BadParameter("--film and --jsonl take one video or folder.")
    if speech == Speech.vad:
        raise typer.BadParameter("--speech vad is for films; clips are read whole.")
    if heard and (text is not None or transcript is not None or dialogue is not None):
        raise typer.BadParameter("--speech asr recognises what is said; leave out the words.")
    idle = (*_FILM, *_CAMERA, "workers", *(() if heard else _SPEECH))
    _refuse(ctx, *idle, *(("tasks", "film", "speech") if dialogue else ()))
    _analyze_clips(
        clips, text, transcript, dialogue, model, tasks, heard, language, json_file, html
    )


def _refuse(ctx: typer.Context, *names: str) -> None:
    refuse_idle(ctx, {name: _PURPOSE[name] for name in names})


def _analyze_clips(
    clips: list[str],
    text: str | None,
    transcript: Path | None,
    dialogue: Path | None,
    model: str,
    tasks: str | None,
    asr_model: str | None,
    language: str | None,
    json_file: str | None,
    html: Path | None,
) -> None:
    chosen = _tasks(tasks, CLIP_TASKS)
    if transcript is not None:
        text = _said_in(clips[0], transcript)
    from emoverse.inference.report import print_analysis, write_html

    engine = loading.engine(model)
    recogniser = loading.recogniser(asr_model) if asr_model else None
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
                    said = recogniser.text(source, language) if recogniser else text
                    analysis = engine.analyze(source, text=said, tasks=chosen)
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
        wrote(write_html(done, html))
    if failed:
        raise typer.Exit(1)


def _said_in(clip: str, transcript: Path) -> str:
    """The words of one clip's transcript, without the times that it may have."""
    if transcript.suffix.lower() not in _TIMED:
        from emoverse.files import read_text

        return " ".join(read_text(transcript).split())
    from emoverse.faces import video
    from emoverse.inference.transcripts import read_transcript, words

    cues = read_transcript(transcript)
    try:
        end = video.probe(clip).duration
    except EmoVerseError:
        end = 0.0  # told where it is read
    said = words(cues, end or math.inf)
    if not said:
        raise EmoVerseError(
            f"{transcript}: it begins after {clip} has ended, at {end:.1f} s; check that it is the "
            "right file."
        )
    return said


def _is_film(
    clip: str,
    asked: bool | None,
    timed: bool,
    jsonl: Path | None,
    text: str | None,
    transcript: Path | None,
) -> bool:
    if asked is not None:
        return asked
    if timed or jsonl is not None:
        return True
    if text is not None or transcript is not None or not Path(clip).is_file():
        return False
    from emoverse.faces import video

    try:
        return video.probe(clip).duration > _LONG
    except EmoVerseError:
        return False  # told where it is read


def _tasks(
    value: str | None, allowed: tuple[str, ...], usual: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    if value is None:
        return usual or allowed
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))
    strange = [name for name in names if name not in allowed]
    if strange or not names:
        named = ", ".join(strange) or "none"
        raise typer.BadParameter(f"--tasks takes {', '.join(allowed)} (named: {named}).")
    return names
