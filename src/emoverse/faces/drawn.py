"""A drawn face whose expression changes, for examples: nobody's likeness, no licence to mind.

The face model takes it for a face, and its action units follow the drawing: a smile raises AU12, a
frown AU04, an open mouth AU26.
"""

from __future__ import annotations

import io
from dataclasses import astuple, dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from emoverse.errors import EmoVerseError
from emoverse.files import write_bytes

_SCALE = 2  # drawn larger than shown, so that edges are smooth
WIDTH, HEIGHT = 480, 360
FPS = 15
SECONDS = 3.0
_SKIN, _SHADE, _HAIR, _LIPS = (224, 172, 140), (198, 142, 112), (62, 42, 32), (176, 82, 84)


@dataclass(frozen=True, slots=True)
class Look:
    """An expression.

    Attributes:
        brows: from -1 (drawn together and down) to 1 (raised).
        mouth: from 0 (closed) to 1 (open).
        smile: from -1 (corners down) to 1 (corners up), and a little further.
        lids: from 0 (closed) to 1 (wide open); at rest 0.4.
    """

    brows: float = 0.0
    mouth: float = 0.0
    smile: float = 0.0
    lids: float = 0.4


LOOKS = {
    "smile": Look(0.1, 0.2, 1.2, 0.3),
    "surprise": Look(1.0, 1.0, 0.0, 1.0),
    "frown": Look(-1.1, 0.0, -0.7, 0.25),
}
"""What `clip` can show; each rises from a face at rest and falls back."""


def clip(path: Path | str, look: str = "smile") -> Path:
    """Write a clip of three seconds, an MP4 without sound, whole or not at all.

    Args:
        path: the file to write; parent folders are made.
        look: a key of `LOOKS`.

    Returns:
        The file's path.

    Raises:
        EmoVerseError: there is no such look.
    """
    if look not in LOOKS:
        raise EmoVerseError(f"No look is called {look!r}; use one of {', '.join(LOOKS)}.")
    sink = io.BytesIO()
    count = round(SECONDS * FPS)
    with av.open(sink, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1  # the same clip whatever the machine
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(_between(look, number / (count - 1))))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return write_bytes(path, sink.getvalue())


def picture(look: Look) -> np.ndarray:
    """The face with an expression, uint8 (HEIGHT, WIDTH, 3) RGB."""
    size = (WIDTH * _SCALE, HEIGHT * _SCALE)
    image = Image.new("RGB", size, (108, 132, 158))
    draw = ImageDraw.Draw(image)
    x, y = size[0] // 2, size[1] // 2 + 10
    draw.ellipse((x - 170, y - 290, x + 170, y + 160), fill=_HAIR)
    draw.rectangle((x - 70, y + 130, x + 70, y + 300), fill=_SHADE)
    draw.ellipse((x - 330, y + 255, x + 330, y + 600), fill=(70, 96, 112))
    draw.ellipse((x - 148, y - 225, x + 148, y + 225), fill=_SKIN)
    draw.chord((x - 150, y - 262, x + 150, y + 38), 196, 344, fill=_HAIR)
    for side in (-1, 1):
        _eye(draw, x + side * 60, y - 35, look)
        _brow(draw, x + side * 60, y - 72, side, look)
    nose = [(x - 8, y - 20), (x + 8, y - 20), (x + 29, y + 62), (x - 29, y + 62)]
    draw.polygon(nose, fill=_SHADE)
    for side in (-13, 13):
        draw.ellipse((x + side - 8, y + 52, x + side + 8, y + 66), fill=(120, 72, 60))
    _mouth(draw, x, y + 128, look)
    soft = image.filter(ImageFilter.GaussianBlur(3))
    return np.asarray(soft.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _eye(draw: ImageDraw.ImageDraw, x: float, y: float, look: Look) -> None:
    tall = 6 + 17 * look.lids
    draw.ellipse((x - 29, y - tall, x + 29, y + tall), fill=(246, 244, 240))
    iris = min(13.0, tall)
    draw.ellipse((x - 13, y - iris, x + 13, y + iris), fill=(66, 44, 30))
    draw.arc((x - 31, y - tall - 3, x + 31, y + tall + 3), 190, 350, fill=_HAIR, width=6)


def _brow(draw: ImageDraw.ImageDraw, x: float, y: float, side: int, look: Look) -> None:
    """`side` is -1 for the brow on the picture's left; its inner end is the one by the nose."""
    lift = 26 * max(look.brows, 0.0)
    press = 24 * max(-look.brows, 0.0)
    inner = (x - side * (38 + press / 3), y - lift + press)
    outer = (x + side * 42, y - lift * 0.8 + 8)
    middle = (x, y - lift - 24 + press / 2)  # of a quadratic curve, which passes below it
    steps = np.linspace(0, 1, 13)
    weights = ((1 - steps) ** 2, 2 * steps * (1 - steps), steps**2)
    curve = np.stack(weights, axis=1) @ np.array([inner, middle, outer])  # (13, 2)
    draw.line([(float(a), float(b)) for a, b in curve], fill=_HAIR, width=13, joint="curve")


def _mouth(draw: ImageDraw.ImageDraw, x: float, y: float, look: Look) -> None:
    half = 58 + 22 * max(look.smile, 0.0) - 14 * look.mouth
    corner = -26 * look.smile
    gap = 3 + 62 * look.mouth
    steps = np.linspace(-1, 1, 25)
    middle = y + corner * steps**2 - corner / 2
    bow = np.sqrt(np.clip(1 - steps**2, 0, 1))
    for upper, lower, colour in ((17, 22, _LIPS), (0, 0, (88, 26, 30))):
        above = list(zip(x + half * steps, middle - (gap * 0.3 + upper) * bow, strict=True))
        below = list(zip(x + half * steps, middle + (gap * 0.7 + lower) * bow, strict=True))
        draw.polygon([*above, *reversed(below)], fill=colour)
    if look.mouth < 0.1:
        seam = list(zip(x + half * steps, middle, strict=True))
        draw.line(seam, fill=(120, 48, 50), width=5)


def _between(look: str, place: float) -> Look:
    """The expression at a place of the clip, 0..1: rest, rise, the look, fall, rest."""
    share = float(np.clip(min((place - 0.15) / 0.3, (0.95 - place) / 0.3), 0.0, 1.0))
    share = share * share * (3 - 2 * share)
    rest, full = astuple(Look()), astuple(LOOKS[look])
    return Look(*(a + share * (b - a) for a, b in zip(rest, full, strict=True)))
