"""A film read by the shipped compact model."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.inference.engine import load_model
from emoverse.inference.film import read_film
from emoverse.inference.journal import journal
from emoverse.inference.timeline import film_result
from emoverse.inference.transcripts import Cue
from emoverse.models import compact
from emoverse.tasks import labels

from .film_made import film

pytestmark = pytest.mark.slow

CUES = (
    Cue(0.5, 3.5, "I am so happy, this is wonderful!", "Ann"),
    Cue(4.5, 7.5, "What? Oh my God! Really?", "Bob"),
    Cue(8.5, 11.5, "Yes, we are having a baby!", "Ann"),
)


def test_the_compact_model_reads_a_film(
    tmp_path: Path, compact_weights: Path, landmarker: Path
) -> None:
    if not (compact.SHIPPED / "adapter_model.safetensors").is_file():
        pytest.skip(f"needs the trained compact weights in {compact.SHIPPED}; none are there yet")
    engine = load_model()
    clip = film(tmp_path / "movie.mp4")
    with journal(tmp_path / "film.jsonl", "film", {}) as book:
        read_film(clip, book, engine.ask, engine.name, listen=lambda: CUES, workers=1)
        found = film_result(book, engine.name)
    assert found["unfinished"] == 0 and found["model"] == "compact"
    one, two, three = found["utterances"]
    assert one["person"] == three["person"] != two["person"]
    for row in found["utterances"]:
        assert set(row["answers"]) == {"msa", "er", "fer", "eri"}
        assert row["answers"]["er"]["label"] in labels.EMOTIONS
        assert sum(row["answers"]["er"]["probabilities"].values()) == pytest.approx(1, abs=0.001)
        assert len(row["answers"]["eri"]["text"].split()) > 5
    assert one["answers"]["msa"]["label"] == "positive"
    emotions = {row["number"]: row["answers"]["er"]["label"] for row in found["utterances"]}
    assert any(emotion != "neutral" for emotion in emotions.values())
    for number, emotion, cause in found["pairs"]:
        assert emotions[number] == emotion != "neutral" and 1 <= cause <= number
