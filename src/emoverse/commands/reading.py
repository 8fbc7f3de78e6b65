"""What `emoverse analyze` does with films, folders and cameras."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from emoverse import __version__
from emoverse.commands import loading
from emoverse.corpora import folder as clips_folder
from emoverse.counts import number_of
from emoverse.evaluation.runs import model_sha256
from emoverse.files import sha256_of
from emoverse.inference import webcam
from emoverse.inference.film import Progress, read_film
from emoverse.inference.film_report import (
    print_film,
    print_folder,
    write_folder_page,
    write_page,
)
from emoverse.inference.folder import clip_names, folder_result, read_folder
from emoverse.inference.journal import journal
from emoverse.inference.listening import hear_film
from emoverse.inference.speech import speech as stretches
from emoverse.inference.timeline import film_result
from emoverse.inference.transcripts import Cue, read_transcript
from emoverse.inference.watching import processors
from emoverse.terminal import complain, rated, tables, waiting, write_json, wrote


def film(
    clip: str,
    *,
    model: str,
    tasks: Sequence[str],
    transcript: Path | None,
    speech: str,
    asr_model: str,
    language: str | None,
    silences: bool,
    person: str,
    workers: int | None,
    jsonl: Path | None,
    json_file: str | None,
    html: Path | None,
) -> None:
    """Read a long video; see `film.read_film`."""
    path = Path(clip)
    cues = None if transcript is None else read_transcript(transcript)
    heard = {"speech": speech, "model": asr_model, "language": language}
    with waiting(f"Looking at {clip}"):
        basis = _basis(model, tasks) | {
            "video": sha256_of(path),
            "transcript": heard if transcript is None else sha256_of(transcript),
            "silences": silences,
            "person": person,
        }
    lines = jsonl or Path(f"{path.stem}.emoverse.jsonl")
    with journal(lines, "film", basis) as book:
        engine = loading.engine(model)
        with _stages() as tell:

            def listen() -> Iterable[Cue]:
                if cues is not None or speech == "none":
                    return cues or ()
                if speech == "asr":
                    return hear_film(path, book, loading.recogniser(asr_model), language, tell)
                with waiting(f"Listening to {clip}"):
                    return [Cue(start, end, "") for start, end in stretches(path)]

            read_film(
                path,
                book,
                engine.ask,
                engine.name,
                listen=listen,
                tasks=tasks,
                silences=silences,
                person=person,
                workers=_workers(workers),
                frames=engine.frames,
                progress=tell,
            )
        result = film_result(book, engine.name)
        if console := tables(json_file):
            print_film(console, result)
        if json_file:
            write_json(json_file, result)
        if html:
            wrote(write_page(result, book, html))
    wrote(lines)


def folder(
    root: str,
    *,
    model: str,
    tasks: Sequence[str],
    asr_model: str | None,
    language: str | None,
    workers: int | None,
    jsonl: Path | None,
    json_file: str | None,
    html: Path | None,
) -> bool:
    """Read a folder of clips; False when some of them could not be read."""
    path = Path(root)
    clips_folder.read(path)  # without clips no journal is begun
    lines = jsonl or Path(f"{path.resolve().name}.emoverse.jsonl")
    basis = _basis(model, tasks) | {"folder": str(path.resolve())}
    if asr_model:
        basis["speech"] = {"model": asr_model, "language": language}
    with journal(lines, "folder", basis) as book:
        engine = loading.engine(model)
        recogniser = loading.recogniser(asr_model) if asr_model else None
        with _stages() as tell:
            notes = read_folder(
                path,
                book,
                engine.ask,
                engine.name,
                tasks=tasks,
                workers=_workers(workers),
                frames=engine.frames,
                listen=partial(recogniser.text, language=language) if recogniser else None,
                progress=lambda done, total: tell(f"Reading {root}", done, total),
            )
        found = folder_result(book, clip_names(path))
        if html:
            wrote(write_folder_page(path, book, html))
    failed = [row for row in found if "error" in row]
    for sentence in [*notes, *(row["error"] for row in failed)]:
        complain(sentence)
    if console := tables(json_file):
        print_folder(console, found)
    if json_file:
        write_json(json_file, found)
    told = f"{number_of(len(found) - len(failed), 'clip')} read, {len(failed)} could not be."
    print(f"{told} Wrote {lines}", file=sys.stderr)
    return not failed


def live(
    source: str,
    *,
    model: str,
    tasks: Sequence[str],
    every: float,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Print what a camera sees, window by window, until Ctrl-C."""
    engine = loading.engine(model)
    began = time.monotonic()
    try:
        for glance in webcam.look(
            source,
            engine.ask,
            engine.name,
            every=every,
            tasks=tasks,
            pictures=engine.frames,
        ):
            print(json.dumps(_row(glance)) if as_json else _line(glance), flush=True)
            if seconds is not None and time.monotonic() - began >= seconds:
                return
    except KeyboardInterrupt:
        return


def _basis(model: str, tasks: Sequence[str]) -> dict[str, Any]:
    return {
        "emoverse_version": __version__,
        "model": model_sha256(model) or model,
        "tasks": sorted(tasks),
    }


def _workers(asked: int | None) -> int:
    return processors() if asked is None else asked


@contextmanager
def _stages() -> Iterator[Progress]:
    """A bar with the time left for each thing that is done, one after the other."""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bars.clear()
                bars[what] = stack.enter_context(rated(what))
            bars[what](done, total)

        yield tell


def _row(glance: webcam.Glance) -> dict[str, Any]:
    answers = {} if glance.found is None else glance.found.to_json()["answers"]
    return {
        "start": round(glance.start, 2),
        "end": round(glance.end, 2),
        "late": round(glance.late, 2),
        "people": list(glance.people),
        "answers": answers,
    }


def _line(glance: webcam.Glance) -> str:
    when = f"{glance.start:6.1f}-{glance.end:.1f} s"
    if glance.found is None:
        return f"{when}  no face"
    people = ", ".join(f"person {number or '?'}" for number in glance.people)
    told = []
    for task, answer in glance.found.answers.items():
        share = answer.probabilities.get(str(answer.label)) if answer.probabilities else None
        text = str(answer.label) if task in ("msa", "er") and answer.label else answer.text
        told.append(text if share is None else f"{text} {share:.0%}")
    return f"{when}  {people}: {'; '.join(told)}  ({glance.late:.1f} s late)"
