"""Pictures and clips from files, as a model with a processor is shown them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.models.processing import Clip, Sight

_SIDE = 1024  # pixels of a frame's longer side, at most
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
        try:
            with Image.open(path) as still:
                stills.append(still.convert("RGB"))
            continue
        except UnidentifiedImageError:
            pass
        except OSError as error:
            raise EmoVerseError(f"{path}: unreadable picture ({error}).") from None
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
    duration = video.probe(path).duration
    rate = 2 * frames / duration if duration > 0 else None
    found = list(video.frames(path, max_fps=rate, max_side=_SIDE))
    times = np.array([frame.timestamp for frame in found])
    middles = (np.arange(frames) + 0.5) * duration / frames
    nearest = {int(np.abs(times - middle).argmin()) for middle in middles}
    chosen = sorted(nearest) if len(nearest) >= _FEWEST else [min(nearest)] * _FEWEST
    return Clip(
        tuple(Image.fromarray(found[place].image) for place in chosen),
        tuple(float(times[place]) for place in chosen),
        max(duration, float(times[-1])),
    )


def _distinct(clip: Clip) -> tuple[Image.Image, ...]:
    return clip.frames if len(set(clip.times)) > 1 else clip.frames[:1]
