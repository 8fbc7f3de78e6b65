"""What the shipped compact model answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.inference.engine import Engine, load_model
from emoverse.inference.interview import Question
from emoverse.models import compact
from emoverse.tasks import er, eri, labels

from ..faces.clips import write, write_audio

pytestmark = pytest.mark.slow

TURNS = [
    {"speaker": "Ann", "text": "I am pregnant!", "emotion": "joy"},
    {"speaker": "Bob", "text": "What? Really? Oh my God!", "emotion": "surprise"},
    {"speaker": "Ann", "text": "Yes, we are having a baby."},
]


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    if not (compact.SHIPPED / "adapter_model.safetensors").is_file():
        pytest.skip(f"needs the trained compact weights in {compact.SHIPPED}; none are there yet")
    request.getfixturevalue("compact_weights")
    return load_model()


@pytest.fixture(scope="module")
def faceless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clips") / "grey.mp4", count=6)


@pytest.mark.parametrize(
    ("text", "sentiment", "emotions"),
    [
        ("I love this movie, it is wonderful.", "positive", ("joy",)),
        ("This is awful, I hate it.", "negative", ("anger", "disgust", "sadness")),
    ],
)
def test_plain_sentences_are_read_and_a_missing_face_is_told(
    engine: Engine, faceless: Path, text: str, sentiment: str, emotions: tuple[str, ...]
) -> None:
    found = engine.analyze(faceless, text, tasks=["msa", "er"])
    assert found.answers["msa"].label == sentiment
    feelings = found.answers["er"].probabilities
    assert set(feelings) == set(labels.EMOTIONS)
    assert sum(feelings.values()) == pytest.approx(1)
    bright, dark = feelings["joy"], sum(feelings[e] for e in ("anger", "disgust", "sadness"))
    assert (bright > dark) == (emotions == ("joy",))
    assert any("No face" in warning for warning in found.warnings)


def test_someone_who_says_happy_is_asked_in_the_same_words(engine: Engine) -> None:
    said = "I am so happy, really."
    queries = [er.query(said), er.query("Good.", context=[("Ann", said)])]
    for found in engine.ask([Question(Record(query, "", "er")) for query in queries]):
        assert found.text in er.choices("meld")
        assert found.probabilities["joy"] > 0.5
    (other,) = engine.ask([Question(Record(er.query(said, wording="mosei"), "", "er"))])
    assert other.text in er.choices("mosei")


def test_a_reason_is_prose(engine: Engine) -> None:
    asked = Question(Record(eri.query("I lost my dog yesterday."), "", "eri"))
    (answer,) = engine.ask([asked])
    assert len(answer.text.split()) > 5
    assert "<" not in answer.text


def test_neither_face_nor_words_is_an_error(engine: Engine, faceless: Path) -> None:
    with pytest.raises(EmoVerseError, match="no face was found and no text was given"):
        engine.analyze(faceless)


@pytest.mark.parametrize("form", ["turns", "conversation"])
def test_a_dialogues_pairs_name_its_own_utterances(
    engine: Engine, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "dialogue.json"
    path.write_text(json.dumps({form: TURNS}), encoding="utf-8")
    found = engine.analyze_dialogue(path)
    assert [turn["emotion"] for turn in found.turns[:2]] == ["joy", "surprise"]
    emotions = {turn["index"]: turn["emotion"] for turn in found.turns}
    for index, emotion, cause in found.pairs:
        assert emotions[index] == emotion != "neutral"
        assert 1 <= cause <= index
    assert found.pairs


@pytest.mark.parametrize("kind", ["missing", "empty", "corrupt", "audio"])
def test_a_bad_video_is_told_in_one_sentence(engine: Engine, tmp_path: Path, kind: str) -> None:
    clip = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        clip.touch()
    elif kind == "corrupt":
        clip.write_bytes(write(clip).read_bytes()[:300])
    elif kind == "audio":
        write_audio(clip)
    with pytest.raises(EmoVerseError) as caught:
        engine.analyze(clip, "some words")
    assert clip.name in str(caught.value)
    assert "\n" not in str(caught.value)
