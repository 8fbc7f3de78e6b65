"""The curve of Eq 1 over a clip, with every person's line and the chosen frame, as an SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.faces.captions import Caption
from emoverse.faces.peak import MIN_CONFIDENCE, score, trusted
from emoverse.faces.records import AUFrame
from emoverse.svg import COLOURS, WIDTH, heading, legend, line, page, rect, text

_LEFT, _RIGHT, _TOP, _TALL = 52, 24, 92, 200
_PICTURE = 150  # the chosen frame's height
_BARS, _BAR = 6, 22
_LETTERS = 76  # of the caption, a line
# Seconds without a face after which a person's line is broken.
_GAP = 0.5


def curve(
    frames: Sequence[AUFrame],
    peak: AUFrame,
    caption: Caption | None,
    *,
    aus: Collection[str] | None = None,
    image: NDArray[np.uint8] | None = None,
) -> str:
    """Draw S_f over time for every person, the peak, its strongest action units and its picture.

    Args:
        frames: every measured face.
        peak: the chosen one of them.
        caption: told under the picture.
        aus: AU codes that Eq 1 sums; all by default.
        image: uint8 (height, width, 3) RGB, the peak frame; left out when None.

    Returns:
        A whole SVG file.
    """
    people = sorted({frame.person for frame in frames})
    last = max(frame.timestamp for frame in frames) or 1.0
    highest = max(score(frame, aus) for frame in frames) or 1.0

    def place(frame: AUFrame) -> tuple[float, float]:
        across = (WIDTH - _LEFT - _RIGHT) * frame.timestamp / last
        return _LEFT + across, _TOP + _TALL * (1 - score(frame, aus) / highest)

    title = "Sum of action units (Eq 1) over time"
    shapes = [heading(title), *_axes(last, highest)]
    shapes += legend([f"person {person}" for person in people[: len(COLOURS)]])
    for number, person in enumerate(people):
        mine = sorted((one for one in frames if one.person == person), key=lambda f: f.timestamp)
        colour = COLOURS[number % len(COLOURS)]
        for part in _unbroken(mine):
            shapes.append(line([place(one) for one in part], colour, 1.6))
        for one in mine:
            x, y = place(one)
            filled = colour if trusted(one, MIN_CONFIDENCE) else "#ffffff"
            shapes.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{filled}" stroke="{colour}"/>'
            )
    x, y = place(peak)
    shapes.append(line([(x, y), (x, _TOP + _TALL)], "#b3362f", 1.2))
    shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#b3362f"/>')
    said = f"frame {peak.frame}, {peak.timestamp:.2f} s, S = {score(peak, aus):.2f}"
    anchor = "start" if x < WIDTH / 2 else "end"
    shapes.append(text(x + (9 if anchor == "start" else -9), y - 6, said, 12, anchor, weight=600))
    return page(_TOP + _TALL + 270, [*shapes, *_chosen(peak, caption, image)], title)


def peak_image(clip: Path | str, peak: AUFrame) -> NDArray[np.uint8]:
    """The picture of a peak, read from its clip again.

    Raises:
        EmoVerseError: the clip cannot be read, or has no such frame.
    """
    for frame in video.frames(clip):
        if frame.index == peak.frame:
            return frame.image
    raise EmoVerseError(f"{clip} has no frame {peak.frame}; was it measured on this clip?")


def _axes(last: float, highest: float) -> list[str]:
    bottom, end = _TOP + _TALL, WIDTH - _RIGHT
    shapes = [line([(_LEFT, _TOP), (_LEFT, bottom), (end, bottom)], "#5b6570")]
    for share in (0, 0.5, 1):
        y = bottom - _TALL * share
        shapes.append(text(_LEFT - 8, y + 4, f"{highest * share:.1f}", 12, "end", dim=True))
        x = _LEFT + (end - _LEFT) * share
        shapes.append(text(x, bottom + 17, f"{last * share:.1f} s", 12, "middle", dim=True))
    return shapes


def _chosen(peak: AUFrame, caption: Caption | None, image: NDArray[np.uint8] | None) -> list[str]:
    top, left = _TOP + _TALL + 42.0, float(_LEFT)
    shapes = []
    if image is not None:
        shapes.append(_embedded(image, left, top))
        left += _PICTURE * image.shape[1] / image.shape[0] + 24
    strongest = sorted(peak.intensities.items(), key=lambda entry: (-entry[1], entry[0]))[:_BARS]
    for row, (code, value) in enumerate(strongest):
        y = top + row * _BAR
        shapes.append(text(left, y + 12, code, 12))
        shapes.append(rect(left + 44, y + 1, 36 * value, 13, 0))
        shapes.append(text(left + 50 + 36 * value, y + 12, f"{value:.2f}", 12, dim=True))
    if caption and caption.phrases:
        for row, told in enumerate(wrap("; ".join(caption.phrases), _LETTERS)):
            shapes.append(text(_LEFT, top + _PICTURE + 30 + 20 * row, told, 14, weight=600))
    return shapes


def _embedded(image: NDArray[np.uint8], x: float, y: float) -> str:
    small = Image.fromarray(image)
    small.thumbnail((1000, 2 * _PICTURE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    width = _PICTURE * image.shape[1] / image.shape[0]
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_PICTURE}" '
        f'href="data:image/jpeg;base64,{escape(data)}"/>'
    )


def _unbroken(frames: Sequence[AUFrame]) -> list[list[AUFrame]]:
    parts: list[list[AUFrame]] = []
    for one in frames:
        if not parts or one.timestamp - parts[-1][-1].timestamp > _GAP:
            parts.append([])
        parts[-1].append(one)
    return parts
