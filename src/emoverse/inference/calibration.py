"""Probabilities that mean what they say: a temperature a task and a bias an answer.

A model that was trained on a mix of corpora leans to some answers and is surer, or less sure, than
it should be. Both are mended on its log-probabilities l of the allowed answers a,

    p(a) = softmax(l(a) / temperature + bias(a)),

"bias-corrected temperature scaling" (Alexandari et al., "Maximum Likelihood with Bias-Corrected
Calibration", ICML 2020; without biases Guo et al., "On Calibration of Modern Neural Networks", ICML
2017). What is told of causes is joined with what the conversation's form says (`cause_form`).
`emoverse calibrate` fits all of it; `calibration.json` in the model's folder holds it.
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
from emoverse.inference.cause_form import CauseForm
from emoverse.tasks.ecpe import Turn

FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted for a model.

    Attributes:
        temperatures: task to temperature; 1 for tasks that are not there.
        biases: task to answer to what is added to its log-probability; 0 for what is not there.
        cause_threshold: ECPE names a cause from this probability on, after all else.
        cause_form: ECPE's second witness; None leaves the model alone.
        fitted_on: task to the number of records that it was fitted on.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cause_threshold: float = causes.THRESHOLD
    fitted_on: Mapping[str, int] = field(default_factory=dict)
    cause_form: CauseForm | None = None

    def probabilities(
        self, task: str, answers: Sequence[str], log_probabilities: np.ndarray
    ) -> np.ndarray:
        """What the scores of a question's allowed answers mean.

        Args:
            task: of the question.
            answers: the allowed answers in words.
            log_probabilities: (answers,), not normalised.

        Returns:
            (answers,) float64, summing to 1.
        """
        biases = self.biases.get(task, {})
        if any(answer not in biases for answer in answers):
            biases = {}  # another wording's: some of them would tip the scales
        added = np.array([biases.get(answer, 0.0) for answer in answers])
        logs = log_probabilities / self.temperatures.get(task, 1.0) + added
        shifted = np.exp(logs - logs.max())
        normalised: np.ndarray = shifted / shifted.sum()
        return normalised

    def causes(
        self,
        turns: Sequence[Turn],
        target: int,
        sets: Sequence[tuple[int, ...]],
        probabilities: np.ndarray,
    ) -> tuple[dict[int, float], tuple[int, ...]]:
        """What the probabilities of ECPE's allowed answers say of each cause.

        Args:
            turns: the conversation.
            target: `Turn.index` of the target utterance.
            sets: the causes that each answer names.
            probabilities: (sets,) summing to 1.

        Returns:
            By `Turn.index` each candidate's probability, and the causes to name.
        """
        found = causes.marginals(sets, probabilities)
        if self.cause_form:
            found = self.cause_form.joined(found, turns, target)
        none = causes.without(sets, probabilities)
        return found, causes.chosen(found, none, self.cause_threshold)


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
