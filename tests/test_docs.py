"""The documentation builds, with warnings as errors."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class _Links(HTMLParser):
    """Addresses that a page leads to or shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the `docs` extra")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in (root / "docs").glob("*.md"):
        assert (tmp_path / f"{page.stem}.html").is_file()
    assert "load_model" in (tmp_path / "api.html").read_text(encoding="utf-8")
    for page in tmp_path.rglob("*.html"):
        if page.name != "404.html":  # shown at any address, so its links begin at the root
            assert _broken(page) == [], page


def test_pictures_written_as_html_are_found_in_the_sources(root: Path) -> None:
    for page in (root / "docs").glob("*.md"):
        for picture in re.findall(r'<img src="([^"]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), (page, picture)


def _broken(page: Path) -> list[str]:
    links = _Links()
    links.feed(page.read_text(encoding="utf-8"))
    parts = [urlsplit(link) for link in links.found]
    own = [part.path for part in parts if not part.scheme and not part.netloc and part.path]
    return [path for path in own if not (page.parent / unquote(path)).exists()]
