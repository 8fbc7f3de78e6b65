from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emoverse.commands import evaluate as commands
from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation import floors as module
from emoverse.evaluation.floors import floors, pair_features, plain_floors
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.scored import prepare
from emoverse.tasks.ecpe import Turn

from .made import ecpe_records, er_records, msa_records, talk

REAL = Path(__file__).parents[2] / "../shared/data/ecf2"


def _scored(records, protocol="paper"):
    answers = [Answer(id=r.id, text=r.response) for r in records]
    return prepare(records[0].task, records, answers, protocol)


def test_majority_of_the_set_and_of_a_training_set():
    records = er_records(10)  # joy, neutral 3 times, anger, sadness twice
    here = plain_floors(_scored(records))
    assert here["always joy (most frequent here)"]["accuracy"] == 30
    learnt = plain_floors(_scored(records), ["anger"] * 2 + ["joy"])
    assert learnt["always anger (most frequent in training)"]["accuracy"] == 20
    msa = plain_floors(_scored(msa_records(10)))  # 4 below, 2 zero, 4 above
    assert set(next(iter(msa.values()))) == {"acc2_np", "acc2_nn", "f1_np", "f1_nn"}


def test_no_text_learns_the_made_rule_and_beats_the_rules_of_thumb(tmp_path):
    train = dump_records(tmp_path / "train.jsonl", ecpe_records(range(60)))
    found = floors(_scored(ecpe_records(range(100, 112))), train, tmp_path / "cache")
    assert list(found) == ["cause = target", "target + previous utterance", "no text"]
    assert found["no text"]["f1"] > max(
        found["cause = target"]["f1"], found["target + previous utterance"]["f1"]
    )


def test_the_command_calls_the_learnt_floor_by_its_name():
    assert commands._LEARNT == module.NO_TEXT


def test_answers_are_cached_by_the_data(tmp_path, monkeypatch):
    train = dump_records(tmp_path / "train.jsonl", ecpe_records(range(40)))
    scored = _scored(ecpe_records(range(100, 104)), "strict")
    first = floors(scored, train, tmp_path / "cache")
    monkeypatch.setattr(module, "_learn", lambda *a, **k: pytest.fail("asked to learn again"))
    assert floors(scored, train, tmp_path / "cache") == first
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_evaluated_conversations_never_train_the_floor(tmp_path):
    records = ecpe_records(range(30))
    train = dump_records(tmp_path / "train.jsonl", records)
    with pytest.raises(EmoVerseError, match="found 0"):
        floors(_scored(records), train, tmp_path / "cache")


def test_a_semeval_file_trains_too(tmp_path):
    rows = []
    for number in range(40):
        turns, causes = talk(number)
        rows.append(
            {
                "conversation_ID": number,
                "conversation": [
                    {
                        "utterance_ID": t.index,
                        "text": t.text,
                        "speaker": t.speaker,
                        "emotion": t.emotion,
                    }
                    for t in turns
                ],
                "emotion-cause_pairs": [
                    [f"{target}_{turns[target - 1].emotion}", str(cause)]
                    for target, found in causes.items()
                    for cause in found
                ],
            }
        )
    train = tmp_path / "train.json"
    train.write_text(json.dumps(rows), encoding="utf-8")
    found = floors(_scored(ecpe_records([100, 101])), train, tmp_path / "cache")
    assert "no text" in found


def test_features_do_not_depend_on_which_words_are_said():
    turns, causes = talk(5)
    swapped = [Turn(t.index, t.speaker, t.text[::-1].replace(" ", " "), t.emotion) for t in turns]
    for target in causes:
        features = pair_features(turns, target)
        assert features.shape[0] == target
        assert np.array_equal(features, pair_features(swapped, target))


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the ECF 2.0 corpus is not beside the checkout")
def test_floors_on_the_real_dev_conversations(tmp_path):
    import re

    from emoverse.emt.record import Record
    from emoverse.evaluation.semeval import load_semeval
    from emoverse.tasks import ecpe

    lines = (REAL / "ecf1_dev.txt").read_text(encoding="utf-8").splitlines()
    ids = {found[1] for line in lines if (found := re.fullmatch(r"(\d+) \d+", line.strip()))}
    train = REAL / "Subtask_2_train.json"
    records = [
        Record(ecpe.query(c.turns, t), ecpe.answer(c.causes(t)), "ecpe", id=f"{c.id}_{t}")
        for c in load_semeval(train)
        if c.id in ids
        for t in c.targets
    ]
    found = floors(_scored(records), train, tmp_path)
    assert found["cause = target"]["f1"] == pytest.approx(56.08, abs=0.01)
    assert found["target + previous utterance"]["f1"] == pytest.approx(65.43, abs=0.01)
    assert found["no text"]["f1"] == pytest.approx(70.5, abs=1.0)
