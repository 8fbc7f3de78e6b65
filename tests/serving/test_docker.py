"""The image's entry point, run without Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_follows_the_images_name_goes_to_the_server(tmp_path: Path) -> None:
    command = tmp_path / "emoverse"
    command.write_text('#!/bin/sh\nfor word in "$@"; do printf "[%s]" "$word"; done; echo\n')
    command.chmod(0o755)
    (found,) = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        [*json.loads(found), "--model", "/my model"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.splitlines() == [
        "[pull][compact]",
        "[serve][--host][0.0.0.0][--folder][/data/server][--model][/my model]",
    ]
