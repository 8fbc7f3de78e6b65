"""The two ways to read action units off a face that MediaPipe found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from emoverse.errors import EmoVerseError
from emoverse.faces import action_units, au_regressor
from emoverse.faces.face import Face

Reader = Callable[[Face], dict[str, float]]
"""A face's AU intensities, 0..5."""

READERS: Mapping[str, Reader] = {
    "mediapipe": lambda face: au_regressor.intensities(face.blendshapes, face.landmarks),
    "blendshapes": lambda face: action_units.intensities(face.blendshapes, face.landmarks),
}


def reader(source: str) -> Reader:
    """The reader of a source: `mediapipe`, the fitted regressor, or `blendshapes`, raw proxies.

    Raises:
        EmoVerseError: there is no such source.
    """
    if source not in READERS:
        raise EmoVerseError(
            f"AU source {source!r} is not measured on pictures here; use {' or '.join(READERS)}."
        )
    return READERS[source]
