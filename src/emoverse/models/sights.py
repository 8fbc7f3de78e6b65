"""Pictures and clips from files, as a model with a processor is shown them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces import stills as pictures
from emoverse.faces.spread import spread
from emoverse.models.processing import Clip, Sight

FRAMES = 8
"""Frames of a clip, as InternVL2 is shown them."""

_FEWEST = 2  # Qwen's encoders take frames in pairs


def sights(root: Path, media: Sequence[str], frames: int, *, native: bool = False) -> list[Sight]:
    """A record's stills, and the sampled frames of its clips.

    Args:
        root: where relative paths start.
        media: paths of stills and clips.
        frames: taken from each clip, from the middles of so many equal parts (as InternVL does).
        native: a clip stays one, and stands after the stills; else its frames are pictures.

    Raises:
        EmoVerseError: one is missing or unreadable.
    """
    stills: list[Sight] = []
    clips: list[Sight] = []
    for name in media:
        path = root / name
        if not path.is_file():
            raise EmoVerseError(f"{path}: no such file; check the records' media.")
        if pictures.size_of(path) is not None:
            stills.append(Image.fromarray(pictures.read(path, None, [])))
            continue
        clip = clip_of(path, frames)
        if native:
            clips.append(clip)
        else:
            stills += _distinct(clip)
    return stills + clips


def clip_of(path: Path, frames: int) -> Clip:
    """The frames nearest to the middles of `frames` equal parts of a clip.

    A clip with fewer frames gives each of them once, a single one twice.

    Raises:
        EmoVerseError: it cannot be read.
    """
    found, duration = spread(path, frames)
    chosen = found if len(found) >= _FEWEST else found * _FEWEST
    return Clip(
        tuple(Image.fromarray(frame.image) for frame in chosen),
        tuple(frame.timestamp for frame in chosen),
        duration,
    )


def _distinct(clip: Clip) -> tuple[Image.Image, ...]:
    return clip.frames if len(set(clip.times)) > 1 else clip.frames[:1]
