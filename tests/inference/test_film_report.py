from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from emoverse.inference.film_report import print_film, write_page
from emoverse.inference.journal import Journal, journal
from emoverse.inference.timeline import film_result

SAID = "<script>alert('x')</script> & [bold]more[/bold]"


def _picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 9), (200, 20, 20)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def _row(number: int, who: str | None, text: str | None, emotion: str | None) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if emotion:
        answers["er"] = {"text": emotion, "label": emotion, "probabilities": {emotion: 0.62}}
        answers["msa"] = {"text": "Positive.", "label": "positive"}
    return {
        "kind": "utterance" if text else "moment",
        "number": number,
        "start": 20.0 * number,
        "end": 20.0 * number + 3,
        "text": text,
        "speaker": who,
        "conversation": 1,
        "who": who,
        "person": None,
        "people": [],
        "at_once": [],
        "answers": answers,
        "peak": None,
        "picture": _picture(),
        "warnings": [],
    }


def _book(path: Path, rows: list[dict[str, Any]], parts: int) -> Journal:
    film = {
        "path": "movies/a & b.mp4",
        "width": 640,
        "height": 360,
        "fps": 25.0,
        "duration": 7200.0,
        "frames": 180_000,
        "rotation": 0,
        "has_audio": True,
    }
    with journal(path, "film", {}) as book:
        plan = {"kind": "plan", "film": film, "parts": [{}] * parts, "cuts": [], "warnings": []}
        for row in (plan, *rows):
            book.add(row)
    return book


@pytest.fixture
def book(tmp_path: Path) -> Journal:
    rows = [
        _row(1, "Ann", SAID, "joy"),
        _row(2, "Bob", "No.", "anger"),
        _row(3, None, "Well.", "neutral"),
        _row(4, None, None, None),
        {"kind": "causes", "conversation": 1, "window": 0, "pairs": [[2, "anger", 1]]},
    ]
    return _book(tmp_path / "film.jsonl", rows, parts=6)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_says_what_was_said_as_text(
    book: Journal, tmp_path: Path
) -> None:
    found = film_result(book, "compact")
    html = write_page(found, book, tmp_path / "film.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    sources = [attrs.get("src") or attrs.get("href") or "" for _, attrs in page.tags]
    assert all(source.startswith(("data:image/jpeg;base64,", "#", "")) for source in sources)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html) and "@import" not in html
    assert "&lt;script&gt;alert" in html and SAID not in html
    assert len([1 for tag, attrs in page.tags if tag == "img"]) == 4
    # Links of the timeline and of causes lead somewhere.
    ids = {attrs.get("id") for _, attrs in page.tags}
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert links == {"#u1", "#u2", "#u3"} and {link[1:] for link in links if link} <= ids
    assert "2 parts are not read yet" in html


def test_bars_lie_where_the_utterances_are(book: Journal, tmp_path: Path) -> None:
    html = write_page(film_result(book, "m"), book, tmp_path / "a.html").read_text()
    assert re.search(r'class="joy" href="#u1"[^>]*\s+style="left: 0.278%; width: 0.042%"', html)


def test_the_graph_of_a_long_film_keeps_its_most_frequent_arrows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [_row(n, f"P{n % 40}", "Hm.", "joy") for n in range(1, 401)]
    pairs = [[n, "joy", n - 1] for n in range(2, 401)] + [[n, "joy", n] for n in (41, 81, 121)]
    rows.append({"kind": "causes", "conversation": 1, "window": 0, "pairs": pairs})
    book = _book(tmp_path / "film.jsonl", rows, parts=400)
    html = write_page(film_result(book, "m"), book, tmp_path / "a.html").read_text()
    assert 10 <= html.count('<g class="joy">') <= 16
    assert "28 more" in html  # lines of the timeline


def test_the_terminal_shows_text_as_it_is(book: Journal) -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    print_film(console, film_result(book, "compact"))
    shown = console.export_text()
    assert "Ann" in shown and "joy 1" in shown and "3 utterances" in shown
    assert "not of what a person feels" in shown
