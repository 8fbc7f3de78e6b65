from __future__ import annotations

import os
from pathlib import Path

from emoverse.files import read_json, read_text, write_json, write_text


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path: Path) -> None:
    value = {os.fsdecode(b"caf\xe9.mp4"): ["hi \ud83d you", "schön 😀"]}
    file = write_json(tmp_path / "a.json", value)
    assert read_json(file) == value
    assert "schön 😀" in read_text(file)
    assert read_text(write_text(tmp_path / "a.txt", "caf\udce9 é")) == "caf\\udce9 é"
