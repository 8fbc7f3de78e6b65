from __future__ import annotations

import json

import pytest

from emoverse.errors import EmoVerseError
from emoverse.evaluation.score import score_files
from emoverse.evaluation.semeval import load_semeval, score_semeval


def _write(path, conversations):
    path.write_text(json.dumps(conversations), encoding="utf-8")
    return path


def _conversation(number, pairs, emotions=("joy", "neutral", "anger")):
    turns = [
        {"utterance_ID": i, "text": f"t{i}", "speaker": "A", "emotion": e}
        for i, e in enumerate(emotions, 1)
    ]
    return {"conversation_ID": number, "conversation": turns, "emotion-cause_pairs": pairs}


def test_scores_as_the_official_script(tmp_path):
    gold = _write(
        tmp_path / "gold.json",
        [
            _conversation(1, [["1_joy", "1"], ["3_anger", "1"], ["3_anger", "2"]]),
            _conversation(2, [["1_joy", "1"]]),
        ],
    )
    pred = _write(
        tmp_path / "pred.json",
        [
            # right; right, twice; wrong emotion; a neutral pair, which counts nowhere
            {
                "conversation_ID": 1,
                "emotion-cause_pairs": [
                    ["1_joy", "1"],
                    ["3_anger", "2"],
                    ["3_anger", "2"],
                    ["3_sadness", "1"],
                    ["2_neutral", "1"],
                ],
            },
            {"conversation_ID": 2, "emotion-cause_pairs": []},
            {"conversation_ID": 99, "emotion-cause_pairs": [["1_joy", "1"]]},
        ],
    )
    figures = score_semeval(load_semeval(gold), load_semeval(pred))
    # micro: 2 hits, 3 predicted, 4 gold; joy F1 2/3 (2 gold), anger 2/3 (2 gold)
    assert figures["precision"] == pytest.approx(200 / 3)
    assert figures["recall"] == pytest.approx(50)
    assert figures["f1"] == pytest.approx(400 / 7)
    assert figures["weighted_f1"] == pytest.approx(200 / 3)
    assert figures["extra_conversations"] == 1
    block = score_files("ecpe", gold, pred, "semeval")
    assert block["headline"]["weighted_f1"] == figures["weighted_f1"]
    assert block["n"] == 2
    assert "cause = target (gold emotions)" in block["floors"]
    low, high = block["intervals"]["f1"]
    assert low <= figures["f1"] <= high


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"conversation_ID": 2, "emotion-cause_pairs": []}], "Conversation 1 has no prediction"),
        ([{"conversation_ID": 1}], "emotion-cause_pairs"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": [["joy", "1"]]}], "malformed"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": [["1_glee", "1"]]}], "glee"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": []}] * 2, "comes twice"),
        ([{"id": 1}], "not a SemEval file"),
    ],
)
def test_a_bad_prediction_file_is_told_in_one_sentence(tmp_path, content, told):
    gold = _write(tmp_path / "gold.json", [_conversation(1, [["1_joy", "1"]])])
    pred = _write(tmp_path / "pred.json", content)
    with pytest.raises(EmoVerseError, match=told):
        score_files("ecpe", gold, pred, "semeval")


def test_protocols_and_formats_must_fit(tmp_path):
    gold = _write(tmp_path / "gold.json", [_conversation(1, [["1_joy", "1"]])])
    with pytest.raises(EmoVerseError, match="semeval"):
        score_files("ecpe", gold, gold, "paper")
    with pytest.raises(EmoVerseError, match="is for ecpe"):
        score_files("er", gold, gold, "semeval")
    with pytest.raises(EmoVerseError, match="unknown"):
        score_files("er", gold, gold, "loose")
