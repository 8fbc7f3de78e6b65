from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.emt.record import Record, dump_records, load_records
from emoverse.errors import EmoVerseError
from emoverse.tasks import TASKS, ecpe, er

# Line separators that Python's splitlines breaks at, and JSON does not.
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from('\u2028\u2029\x85\r\n\x1c"\\'))
PATHS = st.lists(TEXT, max_size=2).map(tuple)
JSON = st.none() | st.floats(allow_nan=False) | TEXT | st.lists(st.integers(-3, 3))
RECORDS = st.builds(
    Record,
    query=TEXT,
    response=TEXT,
    task=st.sampled_from(TASKS),
    id=TEXT,
    images=PATHS,
    videos=PATHS,
    source=TEXT,
    split=TEXT,
    text=st.none() | TEXT,
    label=JSON,
    meta=st.dictionaries(TEXT, JSON, max_size=2),
)


@given(st.lists(RECORDS, max_size=4))
def test_records_come_back_as_they_were_written(records: list[Record]) -> None:
    with TemporaryDirectory() as folder:
        assert load_records(dump_records(Path(folder) / "r.jsonl", records)) == records


def test_a_line_separator_inside_a_text_ends_no_record(tmp_path: Path) -> None:
    record = Record("one\u2028two <emotion> x", "a\u2029b", "er", id="1", text="\x85")
    path = dump_records(tmp_path / "r.jsonl", [record, record])
    assert path.read_bytes().count(b"\n") == 2
    assert load_records(path) == [record, record]


def test_empty_fields_are_left_out(tmp_path: Path) -> None:
    path = dump_records(tmp_path / "r.jsonl", [Record("q", "a", "er", id="1")])
    assert json.loads(path.read_text()) == {"id": "1", "task": "er", "query": "q", "response": "a"}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_the_authors_files_are_read_and_their_tasks_told_from_the_wording(
    tmp_path: Path, suffix: str
) -> None:
    turns = [ecpe.Turn(1, "Ann", "Oh!", "surprise")]
    rows = [
        {"query": er.query("Hi"), "response": "Joy.", "videos": ["a.mp4"]},
        {"query": "Detail the facial expressions used in the image.", "images": "b.png"},
        {"query": ecpe.query(turns, 1), "response": "1_surprise,1"},
    ]
    path = tmp_path / f"authors.{suffix}"
    text = json.dumps(rows, indent=2) if suffix == "json" else "\n\n".join(map(json.dumps, rows))
    path.write_text(text, encoding="utf-8")
    records = load_records(path)
    assert [record.task for record in records] == ["er", "fer", "ecpe"]
    assert [record.id for record in records] == ["0", "1", "2"]
    assert [record.media for record in records] == [("a.mp4",), ("b.png",), ()]
    assert [record.response for record in records] == ["Joy.", "", "1_surprise,1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("7", "line 2: a record needs a text field `query`"),
        ('{"response": "x"}', "line 2: a record needs a text field `query`"),
        ('{"query": "<emotion>", "response": 3}', "line 2: `response` must be text"),
        ('{"query": "<emotion>", "videos": [3]}', "line 2: `videos` must be a list of paths"),
        ('{"query": "hello"}', "line 2: The query 'hello' shows no task"),
        ('{"query": "x", "task": "joy"}', "line 2: task 'joy' is unknown; use one of msa"),
    ],
)
def test_a_malformed_record_is_told_by_file_and_line(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"query": "<emotion> x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(EmoVerseError, match=f"bad.jsonl, {message}"):
        load_records(path)


def test_a_malformed_list_is_told_by_record(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('[{"query": "<emotion> x"}, {}]', encoding="utf-8")
    with pytest.raises(EmoVerseError, match="record 2"):
        load_records(path)
    path.write_text('[{"query": "<emotion> x"},\n', encoding="utf-8")
    with pytest.raises(EmoVerseError, match="line 2: not valid JSON"):
        load_records(path)
