"""From a picture or clip on disk to the face crop the model sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from emoverse.errors import EmoVerseError
from emoverse.faces.crop import SIZE, crop
from emoverse.faces.track import analyse_faces


def face_crop(path: Path, *, aligned: bool = False) -> NDArray[np.uint8] | None:
    """The aligned face crop of a still, or of a clip's peak frame.

    Args:
        path: a picture or video.
        aligned: the picture is such a crop already (`emoverse build` wrote it).

    Returns:
        (96, 96, 3) uint8 RGB; None when no face was found.

    Raises:
        EmoVerseError: the file is missing or cannot be read.
    """
    if aligned:
        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB").resize((SIZE, SIZE)))
        except (OSError, UnidentifiedImageError) as error:
            raise EmoVerseError(f"{path}: unreadable crop ({error}); build it again.") from None
    track = analyse_faces(path)
    if track.peak_image is None or track.peak_landmarks is None:
        return None
    return crop(track.peak_image, track.peak_landmarks)
