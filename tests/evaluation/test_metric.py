from __future__ import annotations

import pytest

pytest.importorskip(
    "evaluate", reason="needs Hugging Face's evaluate: pip install emoverse[evaluate]"
)

from emoverse.errors import EmoVerseError
from emoverse.evaluation import metric

CASES = {
    "msa": (["Positive.", "-1.5"], ["2.0", "Negative."], {"acc2_np": 100}),
    "er": (["I think joy.", "?"], ["joy", "Sadness."], {"accuracy": 50, "unparseable": 1}),
    "fer": (["Grinning"], ["Grinning; Eyes narrowing"], {"precision": 100, "recall": 50}),
    "eri": (["She won."], ["She won."], {"rouge_l": 100}),
    "ecpe-paper": (["2_joy,1", "3_joy,1"], ["2_joy,1", ""], {"f1": 100, "n": 1}),
    "ecpe-strict": (["2_joy,1", "3_joy,1"], ["2_joy,1", ""], {"precision": 50, "n": 2}),
}


@pytest.mark.parametrize("name", metric.CONFIGURATIONS)
def test_every_configuration_scores(name):
    predictions, references, wanted = CASES[name]
    found = metric.figures(name, references, predictions)
    assert {key: found[key] for key in wanted} == wanted
    first = next(iter(wanted))
    low, high = found[f"{first}_interval"]
    assert low <= found[first] <= high


def test_evaluate_loads_the_module_and_computes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    import evaluate

    loaded = evaluate.load(metric.__file__, "er", cache_dir=str(tmp_path))
    loaded.add_batch(predictions=["Joy."], references=["joy"])
    assert loaded.compute()["weighted_f1"] == 100
    with pytest.raises(EmoVerseError, match="unknown"):
        evaluate.load(metric.__file__, "mood", cache_dir=str(tmp_path))


def test_bare_causes_are_read_by_the_target_of_the_reference():
    found = metric.figures("ecpe-strict", ["5_joy,2", "3_fear,1", ""], ["5,2", "1", "1"])
    assert (found["recall"], found["unparseable"]) == (100, 1)
    with pytest.raises(EmoVerseError, match="2 gold labels but 1"):
        metric.figures("ecpe-paper", ["5_joy,2", ""], ["2"])


def test_an_unreadable_reference_is_named():
    with pytest.raises(EmoVerseError, match="'glee'"):
        metric.figures("er", ["glee"], ["Joy."])
