"""Still images as upright RGB arrays."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from emoverse.errors import EmoVerseError

# Named, because Pillow also "opens" MPEG streams and would take them away from FFmpeg.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
_ORIENTATION = 0x0112
# EXIF orientations that swap the sides.
_SIDEWAYS = {5, 6, 7, 8}


def size_of(path: Path) -> tuple[int, int] | None:
    """Upright (width, height) in pixels of a still image.

    Returns:
        None when the file is no still image; an animated GIF counts as a video.

    Raises:
        EmoVerseError: the picture is damaged, or too large to be opened.
    """
    with _opened(path) as image:
        if image is None:
            return None
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (height, width) if sideways else (width, height)


def read(path: Path, max_side: int | None, warnings: list[str]) -> NDArray[np.uint8]:
    """Read a still image, its EXIF orientation applied.

    Args:
        path: the image file.
        max_side: shrink until the longer side is at most this many pixels.
        warnings: a sentence is appended when further pictures of an animation are left out.

    Returns:
        uint8 (height, width, 3) RGB; transparent parts lie on white.

    Raises:
        EmoVerseError: the picture is broken or too large.
    """
    with _opened(path) as image:
        if image is None:
            raise EmoVerseError(f"{path} is not an image; name an image file.")
        pictures = getattr(image, "n_frames", 1)
        if pictures > 1 and image.format != "MPO":
            note = f"{path}: only the first of its {pictures} pictures was used."
            if note not in warnings:  # the picture may be asked for more than once
                warnings.append(note)
        if max_side is not None:
            image.draft("RGB", (max_side, max_side))  # a JPEG is shrunk while it is decoded
        flat = _as_rgb(ImageOps.exif_transpose(image))
    if max_side is not None:
        flat.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return np.array(flat)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image | None]:
    Image.init()  # or formats outside Pillow's first few are unknown to `open`
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_FORMATS)
    except (UnidentifiedImageError, SyntaxError):
        yield None
        return
    except Image.DecompressionBombError as error:
        raise EmoVerseError(
            f"{path} is too large a picture ({error}); shrink it to under 170 megapixels."
        ) from None
    except OSError as error:
        raise EmoVerseError(f"{path} cannot be read ({error.strerror or error}).") from None
    with image:
        try:
            is_video = image.format == "GIF" and getattr(image, "n_frames", 1) > 1
            yield None if is_video else image
        except (OSError, SyntaxError, ValueError) as error:
            raise EmoVerseError(
                f"{path}: the image is damaged ({error}); replace or download it again."
            ) from None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Sixteen bits a pixel: Pillow would clip them to white.
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max(initial=0)))
        scaled = np.clip(values / top * 255, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
