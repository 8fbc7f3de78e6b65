"""Action units from py-feat (Cheong et al., Affective Science 2023), an optional extra.

Its classic detector is used, `Detectorv1` since py-feat 2. The AU networks give 0..1, how surely
the unit is there; that is stretched to 0..5 and is no FACS intensity. py-feat measures closed eyes
(AU43) and not blinks (AU45).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.faces.action_units import FULL
from emoverse.faces.openface_people import by_boxes
from emoverse.faces.records import AUS, AUFrame

_COLUMNS = {code: "AU43" if code == "AU45" else code for code in AUS}
_RECTANGLE = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")


def find() -> Any:
    """py-feat's detector class.

    Raises:
        EmoVerseError: py-feat is not installed, or is another version than ours.
    """
    try:
        from feat import Detectorv1
    except ModuleNotFoundError as error:
        if error.name != "feat":
            raise EmoVerseError(f"py-feat lacks a library ({error}); install that too.") from None
        raise EmoVerseError(
            "AU source pyfeat needs py-feat, on Python 3.11 or newer; install it with "
            "`pip install emoverse[pyfeat]`."
        ) from None
    except ImportError as error:
        raise EmoVerseError(
            f"AU source pyfeat needs version 2 of py-feat ({error}); install it with "
            "`pip install 'py-feat>=2,<3'`."
        ) from None
    return Detectorv1


def measure(clip: Path | str, *, fps: float) -> list[AUFrame]:
    """Run py-feat's detector on a video or a picture.

    Args:
        clip: the file.
        fps: frames a second, for the times; 0 for a picture.

    Returns:
        One entry a face, persons by where faces lie.

    Raises:
        EmoVerseError: py-feat cannot be used, see `find`.
    """
    detector = find()
    if not Path(clip).is_file():
        raise EmoVerseError(f"{clip}: no such file; check the path.")
    kind = "video" if fps else "image"
    table: Any = detector().detect(str(clip), data_type=kind, progress_bar=False)
    rows = [_row(row, fps) for row in table.to_dict("records")]
    return by_boxes([row for row in rows if row is not None])


def _row(row: Mapping[str, Any], fps: float) -> AUFrame | None:
    place = [float(row[name]) for name in _RECTANGLE]
    if any(map(math.isnan, place)):
        return None  # a frame without a face has a row of blanks
    frame = int(row.get("frame", 0))
    values = {code: float(row[column]) for code, column in _COLUMNS.items() if column in row}
    return AUFrame(
        frame=frame,
        timestamp=frame / fps if fps else 0.0,
        person=0,
        confidence=float(row["FaceScore"]),
        intensities={c: FULL * min(1.0, max(0.0, v)) for c, v in values.items()},
        box=(place[0], place[1], place[0] + place[2], place[1] + place[3]),
        success=not any(map(math.isnan, values.values())),
    )
