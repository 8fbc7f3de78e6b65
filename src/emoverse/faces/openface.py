"""OpenFace 2's CSV files, in every dialect its tools and users write.

Source: OpenFace wiki, "Output Format". FeatureExtraction, FaceLandmarkVidMulti (several faces,
rows grouped by frame or by face) and FaceLandmarkImg (no frame, a `face` column); headers with or
without spaces; comma, semicolon or tab; older versions without `face_id`.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.faces.records import AUFrame, Box
from emoverse.files import read_text

_INTENSITY = re.compile(r"(AU[0-9]{2})_r$")
_PRESENCE = re.compile(r"(AU[0-9]{2})_c$")


def read(
    path: Path | str, *, fps: float = 30.0, problems: list[Problem] | None = None
) -> list[AUFrame]:
    """Read an OpenFace CSV.

    Args:
        path: the file, UTF-8.
        fps: frames a second, used for files without a `timestamp` column.
        problems: malformed rows are skipped and appended here with file and line; without a list
            they are reported as Python warnings.

    Returns:
        One entry a row in file order, none for a clip without a face: frame 0-based (OpenFace
        counts from 1), person = `face_id` or 0, intensities clipped to 0..5, box around the 2D
        landmarks when the file has them. Rows that OpenFace itself calls failed are kept with
        `success` False.

    Raises:
        EmoVerseError: the file is missing, has no AU columns, or no row of it can be read.
    """
    path = Path(path)
    text = read_text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    names = [name.strip() for name in next(rows, [])]
    if not any(map(_INTENSITY.match, names)):
        raise EmoVerseError(
            f"{path} has no AU intensity columns such as AU12_r; run OpenFace with -aus."
        )
    found: list[AUFrame] = []
    wrong: list[Problem] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            found.append(_row(names, row, delimiter, len(found) + len(wrong), fps))
        except ValueError as error:
            wrong.append(Problem(path, rows.line_num, f"{error}; the row was skipped."))
    if wrong and not found:
        raise EmoVerseError(f"{path}: none of its {len(wrong)} rows can be read, e.g. {wrong[0]}")
    if problems is not None:
        problems.extend(wrong)
    else:
        for problem in wrong:
            warnings.warn(str(problem), stacklevel=2)
    return found


def _row(names: list[str], row: list[str], delimiter: str, position: int, fps: float) -> AUFrame:
    # A trailing delimiter makes one empty cell too many.
    if len(row) == len(names) + 1 and not row[-1].strip():
        row = row[:-1]
    if len(row) != len(names):
        raise ValueError(f"{len(row)} cells where the header has {len(names)}")
    cells = dict(zip(names, (cell.strip() for cell in row), strict=True))
    if delimiter == ";":  # the decimal comma goes with it
        cells = {name: cell.replace(",", ".") for name, cell in cells.items()}
    frame = int(_number(cells, "frame", position + 1)) - 1
    person = _number(cells, "face_id", _number(cells, "face", 0))
    success = _number(cells, "success", 1) >= 0.5
    return AUFrame(
        # Images of FaceLandmarkImg hold many faces but only one frame.
        frame=frame if "frame" in cells or "face" not in cells else 0,
        timestamp=_number(cells, "timestamp", max(0, frame) / fps if "face" not in cells else 0),
        person=int(person),
        confidence=_number(cells, "confidence", 1.0),
        intensities={
            match[1]: min(5.0, max(0.0, _number(cells, name)))
            for name in names
            if (match := _INTENSITY.match(name))
        },
        box=_box(cells),
        success=success,
        presences={
            match[1]: _number(cells, name) >= 0.5
            for name in names
            if (match := _PRESENCE.match(name))
        },
    )


def _number(cells: Mapping[str, str], name: str, default: float | None = None) -> float:
    if name not in cells and default is not None:
        return default
    try:
        value = float(cells[name])
    except ValueError:
        raise ValueError(f"{name} is {cells[name]!r}, not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {cells[name]!r}, not a finite number")
    return value


def _box(cells: Mapping[str, str]) -> Box | None:
    if "x_0" not in cells or "y_0" not in cells:
        return None
    xs = [_number(cells, f"x_{i}") for i in range(68) if f"x_{i}" in cells]
    ys = [_number(cells, f"y_{i}") for i in range(68) if f"y_{i}" in cells]
    return min(xs), min(ys), max(xs), max(ys)
