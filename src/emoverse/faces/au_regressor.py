"""Action unit intensities as OpenFace 2 gives them, estimated from MediaPipe's landmarks.

A linear model per AU over the geometry of the face, fitted on clips with OpenFace's own output
beside them (`emoverse.faces.fit_au_regressor`, measured in docs/action-units.md). It leans on the
hand-made proxies of `emoverse.faces.action_units`: each AU starts from a share of its proxy, and
only what the clips show beyond that is learnt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse import files
from emoverse.errors import EmoVerseError
from emoverse.faces import action_units
from emoverse.faces.geometry import MEASURES, measures
from emoverse.faces.records import AUS

FILE = "au_regressor.json"
# Blendshapes as further features, beside the proxies made of them, did harm on clips never seen.
FEATURES = MEASURES


@dataclass(frozen=True, slots=True, eq=False)
class Regressor:
    """Intensity = bias + gain * proxy + weights · features, held to 0..5.

    Attributes:
        weights: (17, f) per unit of `FEATURES`.
        gain: (17,) of the proxies.
        bias: (17,).
    """

    weights: NDArray[np.float64]
    gain: NDArray[np.float64]
    bias: NDArray[np.float64]

    def predict(
        self, inputs: NDArray[np.float64], proxies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Intensities (n, 17) of n faces from their features (n, f) and proxies (n, 17)."""
        found = inputs @ self.weights.T + proxies * self.gain + self.bias
        kept: NDArray[np.float64] = np.clip(found, 0.0, action_units.FULL)
        return kept


def features(
    blendshapes: Mapping[str, float], landmarks: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A face as the regressor sees it: (f,) features in order of `FEATURES`, (17,) proxies."""
    proxies = action_units.intensities(blendshapes, landmarks)
    return (
        measures(landmarks),
        np.fromiter(proxies.values(), dtype=np.float64, count=len(AUS)),
    )


def intensities(blendshapes: Mapping[str, float], landmarks: NDArray[Any]) -> dict[str, float]:
    """Estimate OpenFace's 17 AU intensities.

    Args:
        blendshapes: ARKit name to 0..1; a missing shape counts as 0.
        landmarks: (478, 3) face mesh in one scale.

    Returns:
        AU code to 0..5, in OpenFace's order.

    Raises:
        EmoVerseError: the package's coefficients do not fit its features.
    """
    inputs, proxies = features(blendshapes, landmarks)
    found = shipped().predict(inputs[None], proxies[None])[0]
    return {code: float(value) for code, value in zip(AUS, found, strict=True)}


@cache
def shipped() -> Regressor:
    """The regressor inside the package, read once."""
    return parse(
        json.loads(resources.files("emoverse.faces").joinpath(FILE).read_text(encoding="utf-8"))
    )


def parse(stored: Mapping[str, Any]) -> Regressor:
    """The regressor of a coefficient file.

    Raises:
        EmoVerseError: it was fitted for other features or AUs.
    """
    if tuple(stored["features"]) != FEATURES or tuple(stored["aus"]) != AUS:
        raise EmoVerseError(
            f"{FILE} was fitted for other face features; fit it again with "
            "`python -m emoverse.faces.fit_au_regressor`."
        )
    return Regressor(*(np.array(stored[name], dtype=float) for name in ("weights", "gain", "bias")))


def write(path: Path, regressor: Regressor) -> None:
    """Write a coefficient file, numbers rounded to what matters."""
    rounded = {
        name: np.asarray(getattr(regressor, name)).round(4).tolist()
        for name in ("weights", "gain", "bias")
    }
    named = {"aus": list(AUS), "features": list(FEATURES)} | rounded
    files.write_text(path, json.dumps(named) + "\n")
