from __future__ import annotations

import pytest

from emoverse.errors import EmoVerseError

GOLD = ["She is happy because she has won the race.", "He is afraid of the dark."]


@pytest.mark.slow
def test_the_same_meaning_is_nearer_than_another(compact_weights):
    from emoverse.evaluation.similarity import similarity

    same = similarity(GOLD, GOLD, str(compact_weights))
    near = similarity(GOLD, ["She won the race, so she is glad.", "Darkness frightens him."])
    far = similarity(GOLD, ["The train to York leaves at noon.", "Add two eggs and stir."])
    assert same["f1"] == pytest.approx(100, abs=1e-3)
    assert far["f1"] < near["f1"] < same["f1"]
    low, high = near["interval"]
    assert low <= near["f1"] <= high
    assert similarity(GOLD, ["", ""])["f1"] == 0


def test_an_unknown_model_is_named():
    from emoverse.evaluation.similarity import similarity

    with pytest.raises(EmoVerseError, match="no model folder"):
        similarity(GOLD, GOLD, "nowhere")
