from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference.journal import journal

BASIS = {"video": "abc", "tasks": ["er", "msa"]}


def test_lines_are_there_for_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "new" / "film.jsonl"
    with journal(file, "film", BASIS) as book:
        assert list(book.rows()) == []
        book.add({"number": 1, "text": "schön\u2028"})
    with journal(file, "film", dict(BASIS)) as book:
        book.add({"number": 2})
        assert [row["number"] for row in book.rows()] == [1, 2]
        assert next(book.rows())["text"] == "schön\u2028"


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "film.jsonl"
    name = os.fsdecode(b"caf\xe9.mp4")
    for _ in range(2):
        with journal(file, "folder", {"folder": name}) as book:
            book.add({"clip": name})
            assert [row["clip"] for row in book.rows()][-1] == name
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("torn", ['{"number": 3', '{"number": 3, "text": "' + "x" * 200_000, "{"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "film.jsonl"
    with journal(file, "film", BASIS) as book:
        book.add({"number": 1})
    with open(file, "a", encoding="utf-8") as sink:
        sink.write(torn)
    with journal(file, "film", BASIS) as book:
        book.add({"number": 2})
        assert [row["number"] for row in book.rows()] == [1, 2]


@pytest.mark.parametrize("left", [1, 5, 21, -2, -1])
def test_a_torn_first_line_begins_anew(tmp_path: Path, left: int) -> None:
    file = tmp_path / "film.jsonl"
    with journal(file, "film", BASIS):
        pass
    file.write_bytes(file.read_bytes()[:left])
    with journal(file, "film", BASIS) as book:
        book.add({"number": 1})
    assert len(file.read_text().splitlines()) == 2


def test_what_rests_on_something_else_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "film.jsonl"
    with journal(file, "film", BASIS):
        pass
    with (
        pytest.raises(EmoVerseError, match=r"other settings \(model, video\); delete it"),
        journal(file, "film", BASIS | {"video": "def", "model": "big"}),
    ):
        pass
    with (
        pytest.raises(EmoVerseError, match="something else than answers about a folder"),
        journal(file, "folder", BASIS),
    ):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01 a film \xff" * 50,
        b"one\ntwo",
        b'{"a": 1}\n{',
        b'{"kind": "Deployment", "metadata": {"name": "x"}}',
        b'{"kind": "film", "ver": 1',
        b'{"version": 1, "kind": "film", "basis": {"video": "abc", "tasks": ["er", "msa"]}}',
        b'{"kind": "film", "text": "' + b"a" * (1 << 21) + b'"}\n{"number": 1}\n',
    ],
    ids=["binary", "text", "json", "no line break", "another head", "other order", "a long line"],
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "movie.mp4"
    file.write_bytes(content)
    with pytest.raises(EmoVerseError, match="holds something else"), journal(file, "film", BASIS):
        pass
    assert file.read_bytes() == content


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "film.jsonl"
    with journal(file, "film", BASIS) as book:
        book.add({"number": 1})
        with open(file, "a", encoding="utf-8") as sink:
            sink.write("oops\n")
        with pytest.raises(EmoVerseError, match="line 3"):
            list(book.rows())


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="--jsonl"), journal(tmp_path, "film", BASIS):
        pass


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "film.jsonl"
    script = (
        "import sys\n"
        "from emoverse.inference.journal import journal\n"
        "with journal(sys.argv[1], 'film', {}):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(EmoVerseError, match="another run"), journal(file, "film", {}):
            pass
        other.kill()
    with journal(file, "film", {}) as book:  # the dead hold nothing
        book.add({"number": 1})
    assert json.loads(file.read_text().splitlines()[-1]) == {"number": 1}
