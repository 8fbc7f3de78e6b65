"""The engine over models with a processor: its answers are those of their own forward pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emoverse.emt.record import Record
from emoverse.faces import FaceTrack
from emoverse.faces.spread import jpegs
from emoverse.faces.video import VideoInfo
from emoverse.inference import scoring
from emoverse.inference.engine import Engine
from emoverse.inference.generation import generate
from emoverse.inference.interview import Question, Watched
from emoverse.inference.questions import pose
from emoverse.models import any_mllm, processing
from emoverse.models.decoder import Branch
from emoverse.models.internvl2.convert import convert
from emoverse.models.sights import sights
from emoverse.tasks import ecpe, er, eri, fer, labels, msa

from ..faces import clips
from ..models.families import FAMILIES
from ..models.internvl2 import published

CONVERTED = ("phi3", "internlm2", "qwen2")
TURNS = [ecpe.Turn(1, "A", "x", "joy"), ecpe.Turn(2, "B", "y", "fear")]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Engine]:
    """Engines by name: a family, or the backbone of a converted InternVL2."""

    @cache
    def made(name: str) -> Engine:
        if name in FAMILIES:
            return Engine(any_mllm.prepare(name, *FAMILIES[name]()))
        pytest.importorskip("sentencepiece", reason="makes the small tokenizers")
        folder = tmp_path_factory.mktemp(name)
        published.checkpoint(folder / "published", name)
        _lengthen(folder / "published" / "config.json")
        convert(folder / "published", folder / "converted")
        return Engine(any_mllm.load(str(folder / "converted"), dtype=torch.float32))

    return made


def _lengthen(path: Path) -> None:
    """Rotary angles that change with a pass's longest sequence begin beyond these prompts, as in
    the published sizes."""
    config = json.loads(path.read_text())
    config["llm_config"]["max_position_embeddings"] = 8192
    if "original_max_position_embeddings" in config["llm_config"]:
        config["llm_config"]["original_max_position_embeddings"] = 4096
    path.write_text(json.dumps(config))


@pytest.fixture(params=[*CONVERTED, *FAMILIES])
def engine(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    return engines(request.param)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8)).save(folder / "a.png")
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(12)]
    clips.write(folder / "b.mp4", noise, fps=6)
    return folder


def records() -> list[Record]:
    """Every task, with a clip, a picture and nothing to see."""
    clip, still = ("b.mp4",), ("a.png",)
    return [
        Record(er.query("Hi"), "", "er", id="er", videos=clip),
        Record(msa.query("Hi"), "", "msa", id="msa", videos=clip),
        Record(msa.query("Hi"), "", "msa", id="plain"),
        Record(fer.query(), "", "fer", id="fer", images=still),
        Record(eri.query("Hi"), "", "eri", id="eri", videos=clip),
        Record(ecpe.query(TURNS, 2), "", "ecpe", id="ecpe"),
        Record(er.query("Ho", wording="mosei"), "", "er", id="mosei", images=still),
        Record(er.query("Hi"), "", "er", id="gone", videos=("gone.mp4",)),
    ]


def _own(engine: Engine, record: Record, answers: Sequence[str], root: Path) -> np.ndarray:
    """Log-probabilities of the answers by the processor's and the model's own path.

    Each answer counts up to the token that tells it from the others.
    """
    model = engine.reader.model
    shown = sights(root, record.media, 8)
    found = []
    whole = [engine.reader.answer(answer) for answer in answers]
    for answer, tokens, cut in zip(answers, whole, scoring.deciding(whole), strict=True):
        ((losses, _),) = processing.own_losses(model, [(record.query, answer, shown)])
        found.append(-float(losses[-len(tokens) :][: len(cut)].sum()))
    return np.array(found)


def test_the_likeliest_answer_is_that_of_the_models_own_path(engine: Engine, root: Path) -> None:
    asked = [record for record in records() if record.task in ("er", "msa") and record.id != "gone"]
    for record, (posed, logs) in zip(asked, engine.weigh(asked, root), strict=True):
        own = _own(engine, record, posed.answers, root)
        np.testing.assert_allclose(logs, own, atol=5e-3, rtol=1e-3)
        assert np.ptp(own) > 0.05  # or the test would say nothing


def test_all_five_tasks_are_answered_in_order(engine: Engine, root: Path) -> None:
    found = list(engine.answer(records(), root))
    assert [one.id for one in found] == [record.id for record in records()]
    assert [one.media_missing for one in found] == [False] * 7 + [True]
    by_id = {one.id: one for one in found}
    assert by_id["er"].label in labels.EMOTIONS
    assert by_id["msa"].label in labels.SENTIMENTS
    assert by_id["mosei"].text in er.choices("mosei")
    assert by_id["fer"].text == fer.answer(by_id["fer"].text.split("; "))
    assert 1 <= len(fer.parse(by_id["fer"].text)) <= 5
    assert all(pair[:2] == [2, "fear"] and pair[2] in (1, 2) for pair in by_id["ecpe"].label)
    (alone,) = engine.answer([records()[0]], root)
    for emotion, probability in alone.probabilities.items():
        assert probability == pytest.approx(by_id["er"].probabilities[emotion], abs=1e-3)
    seen, unseen = (by_id[name].probabilities for name in ("er", "gone"))
    assert any(abs(seen[emotion] - unseen[emotion]) > 1e-3 for emotion in labels.EMOTIONS)


def test_text_is_written_as_the_model_itself_writes_it(engine: Engine, root: Path) -> None:
    """Greedy, token by token, behind eight frames and behind words alone."""
    model, reader = engine.reader.model, engine.reader
    asked = [records()[4], Record(eri.query("A much longer text than the other."), "", "eri")]
    shown = reader.of_records(asked, root)
    features, seen = reader.look(shown)
    questions = [pose(reader, r, s).question for r, s in zip(asked, seen, strict=True)]
    branches = scoring.read(model, questions, features)
    assert all(isinstance(branch, Branch) for branch in branches)
    written = generate(model, branches, end=-1, most=8)  # type: ignore[arg-type]
    for record, frames, tokens in zip(asked, shown, written, strict=True):
        text = processing.chat(model, record.query, len(frames))
        inputs = model.processor(
            text=[text],
            **processing.media(model, [frames]),
            return_tensors="pt",
            add_special_tokens=processing._adds_special(model, text),
        )
        model.network.generation_config.eos_token_id = None
        own = model.network.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
        assert tokens == own[0, inputs["input_ids"].shape[1] :].tolist()


def test_a_watched_clip_shows_its_frames_and_for_fer_its_peak(
    engines: Callable[[str], Engine], root: Path
) -> None:
    engine = engines("idefics3")
    peak = np.zeros((48, 64, 3), np.uint8)
    info = VideoInfo(root / "b.mp4", 64, 48, 6.0, 2.0, 12, 0, False)
    track = FaceTrack(info, peak_image=peak, peak_landmarks=np.zeros((478, 3), np.float32))
    watched = Watched("b.mp4", track, jpegs(root / "b.mp4", 8))
    asked = [
        Question(Record(er.query("Hi"), "", "er"), watched),
        Question(Record(fer.query(), "", "fer"), watched),
        Question(Record(eri.query("Hi"), "", "eri"), watched),
        Question(Record(eri.query("Hi"), "", "eri")),
        Question(Record(er.query("Hi"), "", "er"), Watched("b.mp4", track)),
    ]
    frames, still, again, nothing, only = engine.reader.of_questions(asked)
    assert [len(frames), len(still), len(nothing), len(only)] == [8, 1, 0, 1]
    assert again is frames
    assert np.asarray(still[0]).max() == 0
    own = sights(root, ["b.mp4"], 8)
    assert max(_apart(a, b) for a, b in zip(frames, own, strict=True)) < 12  # JPEG
    heard: list[tuple[int, str]] = []
    found = engine.ask(asked, lambda place, text: heard.append((place, text)) or True)
    assert len(found) == 5
    assert {place for place, _ in heard} == {1, 2, 3}


def test_told_places_count_over_all_questions(engines: Callable[[str], Engine]) -> None:
    engine = engines("internvl")
    count = engine.reader.together + 2
    asked = [Question(Record(eri.query(f"No {n}"), "", "eri")) for n in range(count)]
    places: set[int] = set()
    engine.ask(asked, lambda place, _: places.add(place) or False)
    assert places == set(range(count))


def _apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())
