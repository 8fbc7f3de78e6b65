from __future__ import annotations

import random

import numpy as np
import pytest

from emoverse.emt.record import Record
from emoverse.models.emoverse import EmoVerse
from emoverse.tasks import ecpe, er, msa
from emoverse.training.rows import Row, Sample, batches, rows, sample_of

from ..models.tiny import picture_ids, tiny_model

TURNS = [
    ecpe.Turn(1, "Ann", "Well.", "neutral"),
    ecpe.Turn(2, "Bob", "No!", "surprise"),
    ecpe.Turn(3, "Ann", "Yes!", "anger"),
]


@pytest.fixture(scope="module")
def model() -> EmoVerse:
    return tiny_model()


def records() -> list[Record]:
    """Samples with and without a picture, and a conversation that two targets share."""
    talk = {"dialogue": "ecf/train/1"}
    return [
        Record(er.query("Go"), "Anger.", "er", id="er", images=("a.png",)),
        Record(er.query("Stay"), "Joy.", "er", id="er2", images=("b.png",)),
        Record(er.query(), "Fear.", "er", id="er3", images=("a.png",)),
        Record(msa.query("Go"), "Negative.", "msa", id="msa"),
        Record(msa.query("Gone"), "Positive.", "msa", id="msa2", images=("gone.png",)),
        Record(ecpe.query(TURNS, 2), "2_surprise,1;2_surprise,2", "ecpe", id="c1", meta=talk),
        Record(ecpe.query(TURNS, 3), "", "ecpe", id="c2", meta=talk),
    ]


def samples(model: EmoVerse) -> list[Sample]:
    features = {"a.png": picture_ids(model, 0), "b.png": picture_ids(model, 1)}
    return [sample_of(record, model.tokenizer, features) for record in records()]


def _learnt(model: EmoVerse, sample: Sample) -> str:
    return str(model.tokenizer.decode([sample.tokens[place] for place in sample.learnt]))


def test_only_the_answer_is_learnt_and_not_what_the_grammar_dictates(model: EmoVerse) -> None:
    told = {sample.record.id: _learnt(model, sample) for sample in samples(model)}
    assert told["er"] == "Anger.<|im_end|>"
    assert told["c1"] == "21;2<|im_end|>"  # the first token says that there is a cause
    assert told["c2"] == "<|im_end|>"


def test_a_picture_that_is_not_there_is_left_out(model: EmoVerse) -> None:
    by_id = {sample.record.id: sample for sample in samples(model)}
    assert [token for token in by_id["er2"].tokens if token < 0] == picture_ids(model, 1)
    assert min(by_id["msa2"].tokens) >= 0


@pytest.mark.parametrize("row_tokens", [1, 150, 10_000])
def test_every_learnt_token_is_trained_once_wherever_its_sample_lies(
    model: EmoVerse, row_tokens: int
) -> None:
    given = samples(model)
    found = rows(given, row_tokens, random.Random(0))
    assert sorted(s.record.id for row in found for s in row.samples) == sorted(
        s.record.id for s in given
    )
    for row in found:
        for owner, sample in enumerate(row.samples):
            mine = row.owners == owner
            assert row.targets[mine].tolist() == [sample.tokens[n] for n in sample.learnt]
            path = row.tree.paths[owner]
            assert row.nodes[mine].tolist() == [path[n - 1] for n in sample.learnt]
            assert row.tree.tokens[path].tolist() == sample.tokens
            assert row.weights[mine].sum() == pytest.approx(len(sample.learnt) ** 0.5)
        loose = "dialogue" not in row.samples[0].record.meta
        if loose and len(row.samples) > 1:
            assert len(row.tree.tokens) <= row_tokens


def test_a_conversation_stays_together_and_is_run_once(model: EmoVerse) -> None:
    found = rows(samples(model), 1, random.Random(0))
    (talk,) = [row for row in found if row.samples[0].record.task == "ecpe"]
    assert [sample.record.id for sample in talk.samples] == ["c1", "c2"]
    longest = max(len(sample.tokens) for sample in talk.samples)
    assert len(talk.tree.tokens) < 1.5 * longest


def test_the_tasks_of_a_clip_share_its_frames_also_where_its_dialogue_is_known() -> None:
    def asked(clip: int, task: str, meta: dict[str, str]) -> Sample:
        frames = list(range(-100 * clip - 40, -100 * clip))
        words = [ord(letter) for letter in task]
        record = Record(task, "x", task, id=f"{clip}/{task}", videos=(f"{clip}.mp4",), meta=meta)
        return Sample(record, [1, *frames, *words, 2], [40 + len(words)])

    tokens = []
    for meta in ({}, {"dialogue": "1"}):
        given = [asked(clip, task, meta) for clip in range(1, 5) for task in ("er", "msa", "eri")]
        found = rows(given, 200, random.Random(0))
        tokens.append(sum(len(row.tree.tokens) for row in found))
    assert tokens[0] == tokens[1] < 4 * 60


def _padded(batch: list[Row]) -> int:
    return len(batch) * max(len(row.tree.tokens) for row in batch)


def test_batches_hold_every_row_once_within_the_limit(model: EmoVerse) -> None:
    found = rows(samples(model) * 3, 1, random.Random(0))
    dealt = batches(found, 600, random.Random(0))
    assert sorted(map(id, (row for batch in dealt for row in batch))) == sorted(map(id, found))
    assert all(len(batch) == 1 or _padded(batch) <= 600 for batch in dealt)
    assert any(len(batch) > 1 for batch in dealt)


def test_the_same_seed_gives_the_same_batches(model: EmoVerse) -> None:
    def order(seed: int) -> list[list[int]]:
        rng = random.Random(seed)
        dealt = batches(rows(samples(model), 200, rng), 600, rng)
        return [np.concatenate([row.tree.tokens for row in batch]).tolist() for batch in dealt]

    assert order(1) == order(1)
    assert any(order(1) != order(seed) for seed in range(2, 9))
