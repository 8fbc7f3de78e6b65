"""What is kept of a part of a film: one line of its journal, with small pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from emoverse.faces import FaceTrack
from emoverse.faces.peak import score
from emoverse.faces.speaker import activity
from emoverse.inference import cast
from emoverse.inference.analysis import Analysis
from emoverse.inference.cast import Sighting
from emoverse.inference.parts import Part
from emoverse.inference.watching import Seen, jpeg

# AU25 + AU26 change by this much a second in a mouth that speaks: people who talk or sing
# measured 2.1 to 6.3, a silent woman whose face moves 0.5 to 1.0.
_SPEAKS = 1.5
# With others in the picture, it must move this many times as much as the next one's.
_CLEARLY = 1.5
_THUMBNAIL_SIDE = 160


def sightings(part: Part, track: FaceTrack) -> list[Sighting]:
    """The persons of a part as they are kept, in order."""
    found = []
    for number, frames in track.curves.items():
        first, last = frames[0], frames[-1]
        assert first.box is not None and last.box is not None
        seen = Sighting(
            track.likenesses[number],
            (part.start + first.timestamp, first.box),
            (part.start + last.timestamp, last.box),
        )
        # Rounded as on disk, so that a run that goes on sees what one without a break sees.
        found.append(cast.load(cast.dump(seen)))
    return found


def at_once(track: FaceTrack) -> list[tuple[int, int]]:
    """Pairs of persons of a part that one picture shows."""
    shown: dict[int, set[int]] = {}
    for frame in track.frames:
        shown.setdefault(frame.frame, set()).add(frame.person)
    return sorted({pair for some in shown.values() for pair in combinations(sorted(some), 2)})


def speaking(track: FaceTrack) -> int | None:
    """Whose mouth moves as if speaking: a person of the part; None when that is not clear."""
    rates = []
    for number, moved in activity(track.frames).items():
        frames = track.curves[number]
        seconds = frames[-1].timestamp - frames[0].timestamp
        rates.append((moved / max(seconds, 0.5), number))
    rates.sort(reverse=True)
    if not rates or rates[0][0] < _SPEAKS:
        return None
    clear = len(rates) == 1 or rates[0][0] >= _CLEARLY * rates[1][0]
    return rates[0][1] if clear else None


def peaking(track: FaceTrack) -> int | None:
    """The person with the peak frame; None without a face."""
    return None if track.peak is None else track.peak.person


def part_row(
    part: Part,
    seen: Seen,
    found: Analysis | None,
    *,
    who: str | None,
    person: int | None,
    numbers: Sequence[int | None],
    sighted: Sequence[Sighting],
    fresh: set[int],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """A part's line.

    Args:
        part: the part.
        seen: what it shows.
        found: the answers; None when nothing could be asked.
        who: the name it counts for, None when nobody knows.
        person: the film's number of who speaks, None when that is not clear.
        numbers: the film's number of every person of the part, persons in order; None for
            faces that were seen too briefly.
        sighted: the same persons as they are kept.
        fresh: numbers of persons without a portrait so far.
        warnings: in place of the analysis's own.
    """
    track = seen.watched.track if seen.watched else None
    curves = track.curves if track else {}
    row: dict[str, Any] = {"kind": "utterance" if part.text else "moment"} | part.to_json()
    row |= {"start": round(part.start, 3), "end": round(part.end, 3), "who": who, "person": person}
    row["people"] = [
        {
            "person": numbers[local],
            "seconds": round(frames[-1].timestamp - frames[0].timestamp, 2),
            "peak": round(max(score(frame) for frame in frames), 2),
            "sighting": cast.dump(sighted[local]),
        }
        | ({"portrait": text_of(seen.portraits[local])} if numbers[local] in fresh else {})
        for local, frames in curves.items()
        if numbers[local] is not None
    ]
    row["at_once"] = [
        [numbers[one], numbers[other]]
        for one, other in (at_once(track) if track else ())
        if numbers[one] is not None and numbers[other] is not None
    ]
    row["answers"] = _answers(found) if found else {}
    row["peak"], row["picture"] = None, None
    if found and found.peak and track and track.peak_image is not None:
        row["peak"] = {
            "seconds": round(part.start + found.peak.timestamp, 3),
            "person": numbers[found.peak.person],
            "score": round(found.peak.score, 3),
            "intensities": {au: round(v, 2) for au, v in found.peak.intensities.items()},
        }
        row["picture"] = text_of(thumbnail(track.peak_image))
    row["warnings"] = list(warnings or (found.warnings if found else ()))
    return row


def thumbnail(image: np.ndarray) -> bytes:
    """A picture, uint8 (height, width, 3) RGB, as a small JPEG."""
    small = Image.fromarray(image)
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return jpeg(np.asarray(small))


def text_of(picture: bytes) -> str | None:
    """A picture as it is kept in JSON, base64; None for an empty one."""
    return base64.b64encode(picture).decode("ascii") if picture else None


def _answers(found: Analysis) -> dict[str, Any]:
    return {
        task: {"text": answer.text, "label": answer.label}
        | ({"probabilities": _rounded(answer.probabilities)} if answer.probabilities else {})
        for task, answer in found.answers.items()
    }


def _rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {label: round(share, 4) for label, share in probabilities.items()}
