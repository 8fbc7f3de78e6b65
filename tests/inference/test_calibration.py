from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import calibration
from emoverse.inference.calibration import Calibration, fitted_temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4000, 5))
    honest = np.exp(logits / true)
    honest /= honest.sum(axis=1, keepdims=True)
    gold = [int(rng.choice(5, p=row)) for row in honest]
    told = np.exp(logits)
    told /= told.sum(axis=1, keepdims=True)
    assert fitted_temperature(list(told), gold) == pytest.approx(true, rel=0.08)


def test_a_calibration_is_kept_in_the_models_folder(tmp_path: Path) -> None:
    assert calibration.load(tmp_path) == Calibration()
    fitted = Calibration({"er": 1.7}, 0.35, {"er": 100})
    calibration.save(fitted, tmp_path)
    assert calibration.load(tmp_path) == fitted
    assert (fitted.temperature("er"), fitted.temperature("msa")) == (1.7, 1.0)
    (tmp_path / calibration.FILE).write_text('{"cause_threshold": "high"}', encoding="utf-8")
    with pytest.raises(EmoVerseError, match=r"calibration\.json"):
        calibration.load(tmp_path)
