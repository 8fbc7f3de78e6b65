from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.evaluation.score import score_files
from emoverse.evaluation.semeval import Conversation, load_semeval, score_semeval
from emoverse.tasks.ecpe import Pair


def _write(path, conversations):
    text = conversations if isinstance(conversations, str) else json.dumps(conversations)
    path.write_text(text, encoding="utf-8")
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
        ([], "not a SemEval file"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": [["joy", "1"]]}], "malformed"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": [["1_glee", "1"]]}], "glee"),
        ([{"conversation_ID": 1, "emotion-cause_pairs": []}] * 2, "comes twice"),
        ([{"id": 1}], "not a SemEval file"),
        ('{"query": "q"}\n{"query": "q"}\n', "not a SemEval file"),
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


NAMES = ("neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise")


def _official(gold: dict, pred: dict) -> dict[str, float]:
    """The organisers' arithmetic, written anew: a 7 x 7 table and 1e-8 under every division."""
    rows: list[list] = [[], []]
    for which, given_pairs in enumerate((gold, pred)):
        for name in gold:
            for index, emotion, cause in given_pairs[name]:
                row = [name, index, cause, NAMES.index(emotion)]
                if row not in rows[which]:
                    rows[which].append(row)
    table = np.zeros((7, 7))
    for row in rows[1]:
        table[row[3] if row in rows[0] else 0, row[3]] += 1
    for row in rows[0]:
        if row not in rows[1]:
            table[row[3], 0] += 1
    down, across = table.sum(axis=0), table.sum(axis=1)
    precision = np.diagonal(table) / (down + 1e-8)
    recall = np.diagonal(table) / (across + 1e-8)
    f1 = 2 * precision * recall / (precision + recall + 1e-8)
    weight = across[1:] / across[1:].sum()
    hits = np.diagonal(table)[1:].sum()
    micro_p, micro_r = hits / (down[1:].sum() + 1e-8), hits / (across[1:].sum() + 1e-8)
    return {
        "precision": micro_p,
        "recall": micro_r,
        "f1": 2 * micro_p * micro_r / (micro_p + micro_r + 1e-8),
        "weighted_precision": (precision[1:] * weight).sum(),
        "weighted_recall": (recall[1:] * weight).sum(),
        "weighted_f1": (f1[1:] * weight).sum(),
    }


PAIRS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(NAMES), st.integers(1, 3)), max_size=6
)


@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=4), PAIRS)
def test_equals_the_official_arithmetic_to_1e_9(items, extra):
    gold = {str(n): pairs for n, (pairs, _) in enumerate(items)}
    gold["last"] = [(1, "joy", 1)]  # the official weights are undefined without any gold pair
    pred = {str(n): pairs for n, (_, pairs) in enumerate(items)} | {"last": [], "extra": extra}

    def conversations(source):
        return [
            Conversation(name, (), tuple(dict.fromkeys(Pair(*pair) for pair in pairs)))
            for name, pairs in source.items()
        ]

    figures = score_semeval(conversations(gold), conversations(pred))
    for name, value in _official(gold, pred).items():
        assert figures[name] / 100 == pytest.approx(value, abs=1e-9), name
    assert figures["extra_conversations"] == 1


def test_what_extra_conversations_hold_is_not_looked_at(tmp_path):
    gold = _write(tmp_path / "gold.json", [_conversation(1, [["1_joy", "1"]])])
    strange = {"conversation_ID": 7, "emotion-cause_pairs": [["x", "y", "z"]], "conversation": 3}
    pred = _write(
        tmp_path / "pred.json",
        [{"conversation_ID": 1, "emotion-cause_pairs": [["1_joy", "1"]]}, strange],
    )
    block = score_files("ecpe", gold, pred, "semeval")
    assert block["headline"]["f1"] == pytest.approx(100, abs=1e-5)
    assert block["scores"]["extra_conversations"] == 1
    assert len(block["data_sha256"]) == len(block["predictions_sha256"]) == 64
