from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import calibration
from emoverse.inference.calibration import Calibration
from emoverse.inference.cause_form import CauseForm
from emoverse.tasks import er

LOGS = np.log([0.5, 0.3, 0.2])
WORDS = ("Joy.", "Anger.", "Fear.")


def test_without_a_fit_the_probabilities_are_the_models_own() -> None:
    assert Calibration().probabilities("er", WORDS, LOGS) == pytest.approx([0.5, 0.3, 0.2])
    tiny = Calibration().probabilities("er", WORDS[:2], np.array([-1000.0, -1001.0]))
    assert tiny[0] / tiny[1] == pytest.approx(np.e)


def test_a_temperature_makes_less_sure_and_a_bias_more_likely() -> None:
    biases = dict.fromkeys(WORDS, 0.0) | {"Anger.": 1.0}
    warm = Calibration({"er": 2.0}, {"er": biases})
    chances = warm.probabilities("er", WORDS, LOGS)
    assert chances.sum() == pytest.approx(1)
    assert chances[0] / chances[2] == pytest.approx(2.5**0.5)
    assert chances[1] / chances[2] == pytest.approx(1.5**0.5 * np.e)
    assert warm.probabilities("msa", WORDS, LOGS) == pytest.approx([0.5, 0.3, 0.2])


def test_biases_of_another_wording_do_not_tip_the_scales() -> None:
    fitted = Calibration(biases={"er": {answer: 1.0 for answer in er.choices("meld")}})
    logs = np.log(np.full(7, 1 / 7))
    for wording in ("meld", "mosei"):
        found = fitted.probabilities("er", er.choices(wording), logs)
        assert found == pytest.approx(np.full(7, 1 / 7))


def test_a_calibration_is_kept_in_the_models_folder(tmp_path: Path) -> None:
    assert calibration.load(tmp_path) == Calibration()
    form = CauseForm({"distance 1, words 2": 0.5}, 0.7, 0.4, -0.1)
    fitted = Calibration({"er": 1.7}, {"er": {"Joy.": -0.2}}, 0.35, {"er": 100}, form)
    calibration.save(fitted, tmp_path)
    assert calibration.load(tmp_path) == fitted
    (tmp_path / calibration.FILE).write_text('{"cause_threshold": "high"}', encoding="utf-8")
    with pytest.raises(EmoVerseError, match=r"calibration\.json"):
        calibration.load(tmp_path)
