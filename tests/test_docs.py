"""The documentation builds, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_site_builds_without_a_warning(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the `docs` extra")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in (root / "docs").glob("*.md"):
        made = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (tmp_path / made).is_file()
    assert "load_model" in (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
