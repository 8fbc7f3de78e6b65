"""`emoverse faces`."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json, refuse_idle, target
from emoverse.terminal import complain, print_faces, tables, waiting, write_json, wrote


class Source(str, Enum):
    """What measures the action units."""

    mediapipe = "mediapipe"
    blendshapes = "blendshapes"
    openface = "openface"
    pyfeat = "pyfeat"


class Sum(str, Enum):
    """Which AUs Eq 1 sums."""

    all = "all"
    emotion = "emotion"


class Person(str, Enum):
    """Whose peak counts."""

    max = "max"
    speaker = "speaker"


class Style(str, Enum):
    """How captions are worded."""

    paper = "paper"
    merr = "merr"


def _drawing(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".svg":
        raise typer.BadParameter(f"{path}: the curve is drawn as SVG; name a file that ends so.")
    return target(path)


def faces(
    ctx: typer.Context,
    clip: Annotated[
        str, typer.Argument(metavar="CLIP|OPENFACE.csv", help="A video, image or OpenFace output.")
    ],
    emotion: Annotated[
        str | None, typer.Option(help="Caption only the AUs that belong to this emotion (Eq 3).")
    ] = None,
    source: Annotated[
        Source,
        typer.Option(
            help="mediapipe: estimated on OpenFace's scale; blendshapes: raw proxies; openface: "
            "the program, from PATH or EMOVERSE_OPENFACE; pyfeat: an extra."
        ),
    ] = Source.mediapipe,
    au_sum: Annotated[
        Sum, typer.Option(help="Look for the peak over all AUs (Eq 1) or over the emotion's.")
    ] = Sum.all,
    person: Annotated[
        Person, typer.Option(help="The person with the highest peak (Eq 2), or who speaks.")
    ] = Person.max,
    style: Annotated[
        Style, typer.Option(help="`Grinning` (paper) or `slightly Cheek Raiser` (merr).")
    ] = Style.paper,
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="SVG",
            help="Draw the sum over time, with the chosen frame.",
            callback=_drawing,
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Action units per frame and person, the peak frame, and its caption.

    Units measured from a clip are estimates or proxies of FACS AUs, not a coder's work.
    """
    if au_sum is Sum.emotion and emotion is None:
        raise typer.BadParameter("--au-sum emotion needs --emotion.")
    from emoverse.faces.captions import aus_of
    from emoverse.faces.sources import is_table, measure

    if is_table(clip):
        refuse_idle(ctx, {"source": "videos and images; OpenFace has measured a table already"})
    aus = aus_of(emotion) or None if au_sum is Sum.emotion else None
    with waiting(f"Reading {clip}"):
        found = measure(
            clip,
            source.value,
            emotion=emotion,
            style=style.value,
            aus=aus,
            person=person.value,
        )
    if console := tables(json_file):
        print_faces(console, found.frames, found.peak, found.caption, found.warnings)
    if curve and found.peak is None:
        complain(f"{curve} was not drawn, for there is no peak to show.")
    elif curve and found.peak:
        from emoverse.faces import curve as drawing
        from emoverse.files import write_text

        image = None if is_table(clip) else drawing.peak_image(clip, found.peak)
        drawn = drawing.curve(found.frames, found.peak, found.caption, aus=aus, image=image)
        wrote(write_text(curve, drawn))
    if json_file:
        write_json(json_file, {"source": clip, "measured_by": source.value} | asdict(found))
