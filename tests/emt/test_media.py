"""Where the media of records are."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.emt.media import root_of
from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError

SEEN = Record("q", "", "er", videos=("gone.mp4", "clips/a.mp4"))
SAID = Record("q", "", "er")


def test_media_are_looked_for_beside_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "EMT" / "eval" / "valid.jsonl"
    work = tmp_path / "work"
    for folder in (data.parent, work):
        folder.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert root_of([SEEN], data) == data.parent  # nowhere: that is where they are missed
    for folder in (work, data.parent.parent, data.parent):
        (folder / "clips").mkdir()
        (folder / "clips" / "a.mp4").touch()
        assert root_of([SAID, SEEN], data) == folder


def test_a_named_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert root_of([SEEN], "data.jsonl", tmp_path) == tmp_path
    assert root_of([SAID], "data.jsonl", tmp_path) == tmp_path
    assert root_of([SAID], "data.jsonl") is None
    with pytest.raises(EmoVerseError, match="nowhere: no such folder"):
        root_of([SEEN], "data.jsonl", tmp_path / "nowhere")
