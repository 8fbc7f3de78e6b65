"""`emoverse faces`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from emoverse.commands.options import Json
from emoverse.terminal import print_faces, tables, waiting, write_json


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
