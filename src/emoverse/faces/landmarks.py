"""Face landmarks, blendshapes and head pose with MediaPipe's FaceLandmarker.

Source: MediaPipe Tasks "Face landmark detection" (Google, Apache-2.0): BlazeFace short range finds
faces, a mesh network gives 478 points, a third network gives ARKit blendshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces.face import Face, area, face_of, moved, overlap, scaled
from emoverse.faces.quiet import quiet_stderr
from emoverse.faces.squares import around, tiles

LANDMARKS = 478
SMALLEST_SIDE = 64
_UPSCALED_SIDE = 256
# Share of the picture's sides added as a grey border when a face fills the whole picture: the
# detector was trained on faces with surroundings and misses some that touch the edges.
_BORDER = 0.35
_GREY = 128
# Boxes that overlap so far (intersection over union) are of one face.
_SAME = 0.3
_STEEPEST_ROLL = 45.0


class Detector:
    """A loaded FaceLandmarker; made by `detector`, closed on leaving its `with` block."""

    def __init__(self, model: Path, running_mode: str, max_faces: int) -> None:
        """Load `model`; use `detector` instead."""
        self._video = running_mode == "video"
        self._max_faces = max_faces
        self._last_ms = -1
        self._warm = False
        self._landmarker = _landmarker(model, self._video, max_faces)

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def detect(
        self,
        image: NDArray[np.uint8],
        timestamp_ms: int | None = None,
        *,
        thorough: bool | None = None,
        known: list[Face] | None = None,
        near: Sequence[Face] = (),
    ) -> list[Face]:
        """Find the faces of one picture.

        Pictures with a side under 64 pixels are enlarged first. In image mode, a picture without
        a find is tried again in overlapping square tiles (small faces in a wide frame), then
        inside a grey border (faces cut by the edges); what these show lying on its side is not
        taken for a face.

        Args:
            image: uint8 (height, width, 3) RGB; a grey (height, width) picture works too.
            timestamp_ms: video mode only, milliseconds, must rise from call to call.
            thorough: image mode only. True searches the tiles even when the whole picture gave a
                face, which finds more people in wide shots for about three times the time; False
                never tries again; by default a picture without a find is tried again.
            known: image mode only. The faces that this very picture gave with `thorough=False`,
                to spare finding them again.
            near: image mode only. Faces of a moment ago: where the whole picture does not show
                one of them, a square around its place is searched.

        Returns:
            At most `max_faces` faces, largest first, in pixels of `image`.

        Raises:
            EmoVerseError: the picture has another shape or type, or time does not rise.
        """
        if self._landmarker is None:
            raise EmoVerseError("The face detector is closed; call detect inside its with block.")
        image = _as_rgb(image)
        if self._video:
            if timestamp_ms is None or timestamp_ms <= self._last_ms:
                raise EmoVerseError(
                    f"Face tracking needs rising timestamps, got {timestamp_ms} after "
                    f"{self._last_ms} ms; feed the frames in order or use running_mode='image'."
                )
            self._last_ms = timestamp_ms
        height, width = image.shape[:2]
        picture, scale = _enlarged(image)
        if known is None:
            faces = self._find(picture, timestamp_ms)
        else:
            faces = scaled(known, scale, picture.shape[:2])
        if near and not self._video:
            faces = self._find_near(picture, faces, scaled(near, scale, picture.shape[:2]))
        if not self._video and (thorough or (thorough is None and not faces)):
            # The detector sees the whole picture as 128x128 pixels; a square tile of a wide frame
            # makes a small face about twice as large there.
            in_tiles = self._find_in(picture, faces, tiles(*picture.shape[:2]))
            faces = in_tiles or self._find_in_border(picture)
        faces = scaled(faces, 1 / scale, (height, width))
        return sorted(faces, key=lambda face: -area(face.box))[: self._max_faces]

    def _find(self, image: NDArray[np.uint8], timestamp_ms: int | None = None) -> list[Face]:
        import mediapipe

        picture = mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        if self._video:
            result = self._run(self._landmarker.detect_for_video, picture, timestamp_ms)
        else:
            result = self._run(self._landmarker.detect, picture)
        height, width = image.shape[:2]
        return [
            face_of(points, shapes, matrix, width, height)
            for points, shapes, matrix in zip(
                result.face_landmarks,
                result.face_blendshapes,
                result.facial_transformation_matrixes,
                strict=True,
            )
        ]

    def _run(self, function: Any, *arguments: Any) -> Any:
        if self._warm:
            return function(*arguments)
        with quiet_stderr():
            result = function(*arguments)
        self._warm = True
        return result

    def _find_near(
        self, image: NDArray[np.uint8], found: list[Face], before: list[Face]
    ) -> list[Face]:
        height, width = image.shape[:2]
        for face in before:
            if not any(overlap(face.box, other.box) >= _SAME for other in found):
                square = around(face.box, height, width, SMALLEST_SIDE)
                found = self._find_in(image, found, [square])
        return found

    def _find_in(
        self, image: NDArray[np.uint8], found: list[Face], squares: list[tuple[int, int, int]]
    ) -> list[Face]:
        """`found` and the further faces in some squares (left, top, side)."""
        found = list(found)
        for left, top, side in squares:
            for face in self._find(image[top : top + side, left : left + side]):
                placed = moved(face, left, top, 1.0, image.shape[:2])
                # A face cut by a square's inner edge is whole in the neighbouring one.
                cut = (
                    (left > 0 and placed.box[0] < left)
                    or (top > 0 and placed.box[1] < top)
                    or (left + side < image.shape[1] and placed.box[2] > left + side)
                    or (top + side < image.shape[0] and placed.box[3] > top + side)
                )
                known = any(overlap(placed.box, other.box) >= _SAME for other in found)
                if not (cut or known) and _plausible(placed):
                    found.append(placed)
        return found

    def _find_in_border(self, image: NDArray[np.uint8]) -> list[Face]:
        height, width = image.shape[:2]
        down, right = round(_BORDER * height), round(_BORDER * width)
        padded = np.pad(image, ((down, down), (right, right), (0, 0)), constant_values=_GREY)
        faces = [face for face in self._find(padded) if _plausible(face)]
        return [moved(face, -right, -down, 1.0, (height, width)) for face in faces]


def detector(
    running_mode: Literal["image", "video"] = "image",
    max_faces: int = 4,
    *,
    model: Path | None = None,
) -> Detector:
    """Load the face landmark detector; use it in a `with` block.

    FaceLandmarker returns no score, so a face's confidence is our own measure: the share of its
    landmarks inside the picture, lowered as the head turns more than 30 degrees away, where
    blendshapes become guesses (0.8 at about 46 degrees, 0 in full profile).

    Args:
        running_mode: `image` treats pictures as unrelated, `video` tracks faces over time.
        max_faces: most faces returned for a picture, at least 1.
        model: a `face_landmarker.task` file; by default the package's own, fetched once.

    Returns:
        An open detector.

    Raises:
        EmoVerseError: the model file is missing or broken, or an argument is out of range.
    """
    if running_mode not in ("image", "video"):
        raise EmoVerseError(f"running_mode must be image or video, not {running_mode!r}.")
    if max_faces < 1:
        raise EmoVerseError(f"max_faces must be at least 1, not {max_faces}.")
    if model is None:
        from emoverse.models import weights

        model = weights.face_landmarker()
    return Detector(Path(model), running_mode, max_faces)


def _landmarker(model: Path, video: bool, max_faces: int) -> Any:
    if not model.is_file():
        raise EmoVerseError(f"{model}: no such face landmark model; run `emoverse pull compact`.")
    with quiet_stderr():
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            num_faces=max_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            return vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            if "shared object" in str(error):
                raise EmoVerseError(
                    f"MediaPipe lacks a system library ({error}); on Debian and Ubuntu install "
                    "it with `apt install libegl1 libgles2`."
                ) from None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EmoVerseError(
                f"{model}: not a usable face landmark model ({reason}); delete it and fetch it "
                "again with `emoverse pull compact`."
            ) from None


def _plausible(face: Face) -> bool:
    # Second looks also turn up patterns in curtains and wood; those are seldom upright.
    return abs(face.pose[2]) <= _STEEPEST_ROLL


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise EmoVerseError(
            f"A picture must be uint8 of shape (height, width, 3), not {image.dtype} of shape "
            f"{image.shape}; convert it to RGB first."
        )
    return image


def _enlarged(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    height, width = image.shape[:2]
    if min(height, width) >= SMALLEST_SIDE:
        return image, 1.0
    # Bounded, so that a 4000x8 strip does not become a huge picture.
    scale = min(_UPSCALED_SIDE / min(height, width), max(1.0, 1280 / max(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), scale
