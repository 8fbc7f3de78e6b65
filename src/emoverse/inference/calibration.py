"""Probabilities that mean what they say: one temperature a task, fitted on a valid split.

A temperature divides the log-probabilities of the allowed answers (Guo et al., "On Calibration of
Modern Neural Networks", ICML 2017); it never changes which answer is likeliest. It is stored in
the model's folder as `calibration.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json
from emoverse.inference import causes

FILE = "calibration.json"
_TEMPERATURES = np.geomspace(0.1, 10, 201)  # steps of 2 %


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted for a model.

    Attributes:
        temperatures: task to temperature; 1 for tasks that are not there.
        cause_threshold: ECPE names a cause from this probability on, after the temperature.
        fitted_on: task to the number of records that it was fitted on.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    cause_threshold: float = causes.THRESHOLD
    fitted_on: Mapping[str, int] = field(default_factory=dict)

    def temperature(self, task: str) -> float:
        """The temperature of a task's answers."""
        return self.temperatures.get(task, 1.0)


def load(folder: Path) -> Calibration:
    """Read a model folder's calibration; the neutral one where there is none.

    Raises:
        EmoVerseError: the file is malformed.
    """
    path = folder / FILE
    if not path.is_file():
        return Calibration()
    try:
        return TypeAdapter(Calibration).validate_python(read_json(path))
    except ValidationError as error:
        raise EmoVerseError(
            f"{path}: {error.errors()[0]['msg']}; fit it again with `emoverse calibrate`."
        ) from None


def save(calibration: Calibration, folder: Path) -> Path:
    """Write it into a model's folder."""
    write_json(folder / FILE, asdict(calibration))
    return folder / FILE


def fitted_temperature(probabilities: Sequence[np.ndarray], gold: Sequence[int]) -> float:
    """The temperature that makes the gold answers most likely.

    Args:
        probabilities: per record (answers,) at temperature 1.
        gold: per record the index of the right answer.

    Returns:
        Within 0.1 and 10.
    """
    logs = [np.log(np.maximum(one, 1e-12)) for one in probabilities]

    def loss(temperature: float) -> float:
        total = 0.0
        for values, right in zip(logs, gold, strict=True):
            scaled = values / temperature
            total -= scaled[right] - np.logaddexp.reduce(scaled)
        return total / len(logs)

    return round(float(min(_TEMPERATURES, key=loss)), 3)
