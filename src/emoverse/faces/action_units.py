"""Action unit proxies from ARKit blendshapes.

Blendshapes are animation weights, not FACS codes made by a trained coder; what is computed here
are **proxies** of AU intensities and must be called so.

Sources:
    Apple, ARKit documentation, `ARFaceAnchor.BlendShapeLocation`: what each shape moves.
    Ekman, Friesen & Hager, Facial Action Coding System, 2002: what each AU moves.
    M. Ozel, "ARKit to FACS: Blendshape Cheat Sheet", melindaozel.com/arkit-to-facs-cheat-sheet:
        which shape is which AU.
Rests and gains are ours, set by hand: MediaPipe's shapes differ a lot in how far they ever move
(`eyeWide` stays under 0.2), so proxies were stretched towards the range that OpenFace 2 and posed
expressions show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.records import AUS

FULL = 5.0
"""Highest intensity, as in OpenFace."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One way to read an AU off blendshapes.

    Attributes:
        shapes: shape names without Left/Right (sides are averaged); of several, the weakest
            counts, because an AU that needs them all is no stronger than that.
        rest: value of an unmoved face, taken as 0.
        gain: stretch above the rest.
    """

    shapes: tuple[str, ...]
    gain: float = 1.0
    rest: float = 0.0


# The strongest proxy of an AU counts. Shape = AU as in the cheat sheet, unless a comment says why.
PROXIES: Mapping[str, tuple[Proxy, ...]] = {
    "AU01": (Proxy(("browInnerUp",), 1.2),),
    "AU02": (Proxy(("browOuterUp",), 1.2),),
    "AU04": (Proxy(("browDown",), 1.2, 0.1),),
    "AU05": (Proxy(("eyeWide",), 5.0, 0.01),),
    # MediaPipe's cheekSquint hardly ever leaves 0; raised cheeks narrow the eyes of a smiling face.
    "AU06": (Proxy(("cheekSquint",)), Proxy(("eyeSquint", "mouthSmile"), 1.0, 0.2)),
    "AU07": (Proxy(("eyeSquint",), 1.2, 0.35),),
    # noseSneer hardly leaves 0 either: AU09 lives on the landmarks.
    "AU09": (Proxy(("noseSneer",)),),
    "AU10": (Proxy(("mouthUpperUp",), 0.8),),
    "AU12": (Proxy(("mouthSmile",), 0.8),),
    "AU14": (Proxy(("mouthDimple",), 4.0, 0.01),),
    "AU15": (Proxy(("mouthFrown",), 2.0),),
    "AU17": (Proxy(("mouthShrugLower",)),),
    "AU20": (Proxy(("mouthStretch",), 1.5),),
    "AU23": (Proxy(("mouthPress",), 1.5, 0.05), Proxy(("mouthRollUpper", "mouthRollLower"), 1.5)),
    # Only for faces without landmarks: no shape says that the lips part, these imply it.
    "AU25": (Proxy(("mouthUpperUp",), 0.6), Proxy(("mouthLowerDown",), 0.6), Proxy(("jawOpen",))),
    "AU26": (Proxy(("jawOpen",), 1.0, 0.05),),
    # Looking down lowers the lids as well, hence the rest.
    "AU45": (Proxy(("eyeBlink",), 1.3, 0.25),),
}

# Face mesh points: middle of the inner lips, outer eye corners, inner brow ends, nose wings.
_LIPS = (13, 14)
_EYES = (33, 263)
_BROWS = (55, 285)
_NOSE = (98, 327)
# Shares of the outer eye distance: the lip gap of a closed mouth and of full AU25; the way from
# nose to brows where wrinkling starts to show and at full AU09.
_CLOSED, _PARTED = 0.025, 0.4
_SMOOTH, _WRINKLED = 0.56, 0.46


def intensities(
    blendshapes: Mapping[str, float], landmarks: NDArray[Any] | None = None
) -> dict[str, float]:
    """Proxies of OpenFace's 17 AU intensities.

    Args:
        blendshapes: ARKit name to 0..1; a missing shape counts as 0.
        landmarks: (478, 3) face mesh in one scale; with it AU25 is measured as the gap between
            the lips, and AU09 as the shortened way from nose to brows.

    Returns:
        AU code to 0..5, in OpenFace's order.
    """
    found = {code: max(_value(proxy, blendshapes) for proxy in PROXIES[code]) for code in AUS}
    if landmarks is not None:
        # In three dimensions, so that a turned head does not seem to make a face.
        points = np.asarray(landmarks, dtype=float)
        found["AU25"] = _share(_distance(points, _LIPS[:1], _LIPS[1:]), _CLOSED, _PARTED)
        # Smiling lifts the nose wings as well.
        wrinkle = _share(_distance(points, _BROWS, _NOSE), _SMOOTH, _WRINKLED)
        found["AU09"] = max(found["AU09"], wrinkle * (1 - _both_sides("mouthSmile", blendshapes)))
    return {code: FULL * min(1.0, max(0.0, value)) for code, value in found.items()}


def _value(proxy: Proxy, blendshapes: Mapping[str, float]) -> float:
    lowest = min(_both_sides(shape, blendshapes) for shape in proxy.shapes)
    return proxy.gain * (lowest - proxy.rest) / (1 - proxy.rest)


def _both_sides(shape: str, blendshapes: Mapping[str, float]) -> float:
    if shape in blendshapes:
        return blendshapes[shape]
    return (blendshapes.get(f"{shape}Left", 0.0) + blendshapes.get(f"{shape}Right", 0.0)) / 2


def _distance(points: NDArray[np.float64], first: Sequence[int], second: Sequence[int]) -> float:
    """Between the middles of two groups of points, as a share of the outer eye distance."""
    eyes = np.linalg.norm(points[_EYES[0]] - points[_EYES[1]])
    way = points[list(first)].mean(axis=0) - points[list(second)].mean(axis=0)
    return float(np.linalg.norm(way) / max(eyes, 1e-9))


def _share(value: float, zero: float, one: float) -> float:
    return min(1.0, max(0.0, (value - zero) / (one - zero)))
