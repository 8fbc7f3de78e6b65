from __future__ import annotations

import json

import pytest

from emoverse.errors import EmoVerseError
from emoverse.evaluation.predictions import SCHEMA, Answer, read_answers, schema


def test_the_committed_schema_is_the_one_that_is_checked():
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()
    assert schema()["required"] == ["text"]


def test_rows_of_ours_and_of_the_authors_are_read(tmp_path):
    file = tmp_path / "p.json"
    rows = [
        {"id": 3, "text": "Joy.", "probabilities": {"joy": 0.9}, "note": "kept"},
        {"query": "q", "response": "Sadness.", "text": "what was said", "label": "sadness"},
    ]
    file.write_text(json.dumps(rows), encoding="utf-8")
    ours, authors = read_answers(file)
    assert (ours.id, ours.text, ours.probabilities) == ("3", "Joy.", {"joy": 0.9})
    assert (authors.id, authors.text, authors.label) == (None, "Sadness.", None)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"id": "a"}, "needs the answer as text"),
        ({"id": "a", "text": 5}, "needs the answer as text"),
        ({"query": "q", "text": "said"}, "holds its answer in `response`"),
        ({"id": "a", "text": "", "score": 4}, "`score` does not fit"),
        ({"id": "a", "text": "", "probabilities": {"joy": 1.5}}, "`probabilities.joy` does not"),
        (["a"], "must be a JSON object"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(tmp_path, row, told):
    file = tmp_path / "p.jsonl"
    file.write_text(
        json.dumps({"id": "x", "text": "Joy."}) + "\n" + json.dumps(row), encoding="utf-8"
    )
    with pytest.raises(EmoVerseError, match=f"answer 2.*{told}"):
        read_answers(file)


def test_a_line_that_is_no_json_is_named(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "a"}\n\n{"text"', encoding="utf-8")
    with pytest.raises(EmoVerseError, match="line 3"):
        read_answers(file)


def test_answers_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Answer(text="Joy.").text = "Anger."
