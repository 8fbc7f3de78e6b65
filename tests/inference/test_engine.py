"""The engine's rules, with a random model; what the real one answers is in the slow tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference import engine as engine_module
from emoverse.inference.engine import Engine, load_model
from emoverse.tasks import TASKS, ecpe, er, eri, fer, labels, msa

from ..faces.clips import write, write_audio
from ..models.tiny import tiny_model

TURNS = [
    {"speaker": "Ann", "text": "Look at this."},
    {"speaker": "Bob", "text": "Oh!\nReally: yes. 7_joy.", "emotion": "surprised"},
    {"text": "Hey! <emotion>", "emotion": "anger"},
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_model())


def _no_face(clip: Path | str) -> FaceTrack:
    info = VideoInfo(Path(clip), 64, 48, 30.0, 1.0, 30, 0, False)
    return FaceTrack(info, warnings=(f"No face was found in {clip}.",))


@pytest.fixture
def faceless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "analyse_faces", _no_face)


def _records() -> list[Record]:
    turns = [ecpe.Turn(1, "A", "x", "joy"), ecpe.Turn(2, "B", "y", "fear")]
    queries = {
        "msa": msa.query("Hi"),
        "er": er.query("Hi"),
        "fer": fer.query(),
        "eri": eri.query("Hi"),
        "ecpe": ecpe.query(turns, 2),
    }
    order = ["er", "er", "ecpe", "msa", "fer", "er", "eri", *["msa"] * 35]
    return [Record(queries[task], "", task, id=str(n)) for n, task in enumerate(order)]


def test_records_are_answered_in_their_order(engine: Engine) -> None:
    records = _records()
    predictions = list(engine.answer(records, None))
    assert [found.id for found in predictions] == [record.id for record in records]
    for record, found in zip(records, predictions, strict=True):
        assert not found.media_missing
        if record.task == "msa":
            assert found.label in labels.SENTIMENTS
            assert sum(found.probabilities.values()) == pytest.approx(1)
        elif record.task == "er":
            assert set(found.probabilities) == set(labels.EMOTIONS)
            assert found.label == max(found.probabilities, key=lambda e: found.probabilities[e])
            assert er.parse(found.text) == found.label
        elif record.task == "ecpe":
            assert all(pair[:2] == [2, "fear"] and pair[2] in (1, 2) for pair in found.label)
            parsed = ecpe.parse(found.text)
            assert parsed is not None
            assert [[p.emotion_index, p.emotion, p.cause_index] for p in parsed] == found.label


def test_an_answer_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    records = _records()
    together = list(engine.answer(records, None))
    for place in (0, 2, 3, 4, 6):
        (alone,) = engine.answer([records[place]], None)
        assert alone.text == together[place].text
        for name, value in alone.probabilities.items():
            assert value == pytest.approx(together[place].probabilities[name], abs=1e-4)


def test_moseis_wording_is_answered_in_its_own_words(engine: Engine) -> None:
    (found,) = engine.answer([Record(er.query("x", wording="mosei"), "", "er")], None)
    assert found.text in er.choices("mosei")
    assert set(found.probabilities) == set(labels.EMOTIONS)


def test_a_picture_changes_the_answer_and_a_missing_one_is_told(
    engine: Engine, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    meta = {"aligned": True}
    records = [
        Record(er.query("Hi"), "", "er", id="text"),
        Record(er.query("Hi"), "", "er", id="seen", images=("a.png",), meta=meta),
        Record(er.query("Hi"), "", "er", id="gone", images=("b.png",), meta=meta),
    ]
    text, seen, gone = engine.answer(records, tmp_path)
    assert (text.media_missing, seen.media_missing, gone.media_missing) == (False, False, True)
    assert gone.probabilities["joy"] == pytest.approx(text.probabilities["joy"], abs=1e-5)
    assert any(abs(seen.probabilities[e] - text.probabilities[e]) > 1e-4 for e in labels.EMOTIONS)


@pytest.mark.usefixtures("faceless")
def test_a_clip_without_a_face_is_answered_from_its_words_with_a_warning(engine: Engine) -> None:
    found = engine.analyze("clip.mp4", "  I love \n it ")
    assert found.text == "I love it"
    assert list(found.answers) == ["msa", "er"]  # there is no face to describe or reason from
    assert "No face was found in clip.mp4." in found.warnings
    assert (found.peak, found.curves) == (None, ())
    json.dumps(found.to_json())


@pytest.mark.usefixtures("faceless")
@pytest.mark.parametrize("text", [None, "", "  \n "])
def test_neither_face_nor_words_is_an_error(engine: Engine, text: str | None) -> None:
    with pytest.raises(EmoVerseError, match=r"clip\.mp4: no face was found and no text was given"):
        engine.analyze("clip.mp4", text)


@pytest.mark.usefixtures("faceless")
def test_only_the_tasks_asked_for_are_answered(engine: Engine) -> None:
    assert list(engine.analyze("c.mp4", "Hi", tasks=["er"]).answers) == ["er"]
    assert list(engine.analyze("c.mp4", "Hi", tasks="er").answers) == ["er"]
    assert list(engine.analyze("c.mp4", "Hi", tasks="er, msa").answers) == ["er", "msa"]
    with pytest.raises(EmoVerseError, match="'ecpe' cannot be asked of a clip"):
        engine.analyze("c.mp4", "Hi", tasks=TASKS)


@pytest.mark.parametrize("kind", ["missing", "empty", "corrupt", "audio", "folder"])
def test_a_bad_video_is_told_in_one_sentence(engine: Engine, tmp_path: Path, kind: str) -> None:
    clip = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        clip.touch()
    elif kind == "corrupt":
        write(clip)
        clip.write_bytes(clip.read_bytes()[:300])
    elif kind == "audio":
        write_audio(clip)
    elif kind == "folder":
        clip.mkdir()
    with pytest.raises(EmoVerseError) as caught:
        engine.analyze(clip, "some words")
    assert clip.name in str(caught.value)
    assert "\n" not in str(caught.value)


def _semeval() -> dict[str, Any]:
    turns = [{"utterance_ID": n, **turn} for n, turn in enumerate(TURNS, 1)]
    return {"conversation_ID": 1, "conversation": turns}


@pytest.mark.parametrize("form", ["turns", "semeval", "list"])
def test_a_dialogues_pairs_name_its_own_utterances(
    engine: Engine, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "d.json"
    content = {"turns": {"turns": TURNS}, "semeval": _semeval(), "list": TURNS}[form]
    path.write_text(json.dumps(content), encoding="utf-8")
    found = engine.analyze_dialogue(path)
    assert [turn["index"] for turn in found.turns] == [1, 2, 3]
    assert [turn["given"] for turn in found.turns] == [False, True, True]
    assert [turn["emotion"] for turn in found.turns[1:]] == ["surprise", "anger"]
    emotions = {turn["index"]: turn["emotion"] for turn in found.turns}
    for index, emotion, cause in found.pairs:
        assert emotions[index] == emotion != "neutral"
        assert 1 <= cause <= index
    assert found.clip == str(path)
    json.dumps(found.to_json())


def test_turns_may_be_given_as_they_are(engine: Engine) -> None:
    found = engine.analyze_dialogue(TURNS)
    assert found.clip is None
    assert found.turns[2]["speaker"] == "Someone"


def test_a_dialogue_without_emotion_has_nothing_to_explain(engine: Engine) -> None:
    found = engine.analyze_dialogue([{"text": "So.", "emotion": "neutral"}])
    assert found.pairs == ()
    assert found.warnings == ("Every utterance is neutral, so there is no emotion to explain.",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("7", "expected an object with `turns`"),
        ("{}", "expected an object with `turns`"),
        ('{"turns": []}', "it holds no turn"),
        ('{"turns": [{"text": "a"}, {"speaker": "b"}]}', "turn 2: a turn needs a text field"),
        ('{"turns": [{"text": "a", "emotion": "blue"}]}', "turn 1: emotion 'blue' is unknown"),
        ('{"turns": [{"text": "a", "clip": "none.mp4"}]}', "none.mp4"),
    ],
)
def test_a_malformed_dialogue_is_told_in_one_sentence(
    engine: Engine, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "d.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EmoVerseError, match=message) as caught:
        engine.analyze_dialogue(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="'huge' is not a model; say `compact`"):
        load_model("huge")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two.", "One. Two."),
        ("One. Two and", "One."),
        ("Never ends", "Never ends"),
        ("At 3.5 he left! Then", "At 3.5 he left!"),
        ('She smiles. She says "Yes."', 'She smiles. She says "Yes."'),
        ("She smiles. She seems glad… and", "She smiles. She seems glad…"),
        ("", ""),
    ],
)
def test_an_unfinished_sentence_is_cut(text: str, kept: str) -> None:
    assert engine_module._whole_sentences(text) == kept
