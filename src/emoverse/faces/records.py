"""The one schema for action units over time, whatever measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emoverse.tasks.action_units import OPENFACE_INTENSITIES

AUS = OPENFACE_INTENSITIES
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class AUFrame:
    """One person's action units in one frame.

    Attributes:
        frame: 0-based frame index in the clip.
        timestamp: seconds from the start.
        person: id of the person within the clip; in OpenFace files the `face_id`, which is not
            a stable identity.
        confidence: 0..1, how sure the source is of the face.
        intensities: AU code (`AU01`..`AU45`) to intensity in 0..5.
        box: face box (x0, y0, x1, y1) in pixels, None when the source has none.
        success: False when the source itself says that the row must not be trusted.
        presences: AU code to presence, where the source judges it (OpenFace's `AUxx_c`).
    """

    frame: int
    timestamp: float
    person: int
    confidence: float
    intensities: Mapping[str, float]
    box: Box | None = None
    success: bool = True
    presences: Mapping[str, bool] = field(default_factory=dict)
