from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoverse.corpora import merr
from emoverse.errors import EmoVerseError


def _entry(**changes: Any) -> dict[str, Any]:
    return {
        "AU_list": ["AU04", "AU5"],
        "visual_prior_list": ["Frowns furrowed", "Eyes widened"],
        "audio_prior_list": "speaks low.",
        "peak_index": "3",
        "peak_AU_list": ["AU04", "AU05", "AU25"],
        "pseu_emotion": "angry",
        "text": "No more.",
        "smp_reason_caption": "A man frowns.",
    } | changes


def _write(file: Path, data: Any) -> Path:
    file.write_text(json.dumps(data, indent=0))
    return file


def test_an_entry_keeps_its_own_word_and_ours(tmp_path: Path) -> None:
    (reason,), problems = merr.read(_write(tmp_path / "m.json", {"sample_1": _entry()}))
    assert problems == []
    assert (reason.id, reason.text, reason.emotion, reason.label) == (
        "sample_1",
        "No more.",
        "anger",
        "angry",
    )
    assert reason.aus == ("AU04", "AU05")
    assert reason.peak_aus == ("AU04", "AU05", "AU25")
    assert reason.phrases == ("Frowns furrowed", "Eyes widened")
    assert reason.caption == "A man frowns."


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("sad", "sadness"),
        ("worried", "fear"),
        ("happy", "joy"),
        ("doubt", None),
        ("contempt", None),
    ],
)
def test_words_without_a_canonical_emotion_stay(
    tmp_path: Path, word: str, emotion: str | None
) -> None:
    (reason,), _ = merr.read(_write(tmp_path / "m.json", {"a": _entry(pseu_emotion=word)}))
    assert (reason.label, reason.emotion) == (word, emotion)


def test_annotation_files_are_read_too(tmp_path: Path) -> None:
    entry = {
        "video_id": "dia1_utt2.mp4",
        "transcript": "Fine.",
        "visual_expression_description": ["slightly Jaw Drop"],
        "raw_AU_values_at_peak": {"AU01": 0.0, "AU26": 1.5},
        "fine-grained_summary": "She is sad.",
        "true_label": "sadness",
    }
    (reason,), _ = merr.read(_write(tmp_path / "m.json", [entry]))
    assert (reason.id, reason.peak_aus, reason.caption) == (
        "dia1_utt2.mp4",
        ("AU26",),
        "She is sad.",
    )


def test_about_one_in_twenty_is_valid_and_always_the_same(tmp_path: Path) -> None:
    data = {f"sample_{number}": _entry() for number in range(500)}
    file = _write(tmp_path / "m.json", data)
    first = {reason.id: reason.split for reason in merr.read(file)[0]}
    again = {reason.id: reason.split for reason in merr.read(file)[0]}
    assert first == again
    assert 10 <= list(first.values()).count("valid") <= 45
    assert set(first.values()) == {"train", "valid"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smp_reason_caption": ""}, "no smp_reason_caption"),
        ({"pseu_emotion": None}, "no pseu_emotion"),
        ({"text": 3}, "text is not text"),
        ({"AU_list": ["brow"]}, "are not a list like"),
        ({"visual_prior_list": [1]}, "visual_prior_list is not a list of phrases"),
    ],
)
def test_a_malformed_entry_is_reported_and_skipped(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = _write(tmp_path / "m.json", {"good": _entry(), "bad": _entry(**changes)})
    reasons, problems = merr.read(file)
    assert [reason.id for reason in reasons] == ["good"]
    assert message in problems[0].message
    assert problems[0].line is not None
    assert '"bad"' in file.read_text().split("\n")[problems[0].line - 1]


@pytest.mark.parametrize("data", [{}, [], 3, [{"x": 1}], {"a": "b"}])
def test_a_file_without_entries_is_an_error(tmp_path: Path, data: Any) -> None:
    with pytest.raises(EmoVerseError, match="no MERR entry"):
        merr.read(_write(tmp_path / "m.json", data))


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"a":\n}')
    with pytest.raises(EmoVerseError, match="line 2: not valid JSON"):
        merr.read(tmp_path / "m.json")
