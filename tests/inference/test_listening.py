"""A film's words, recognised into its journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from emoverse.inference import listening
from emoverse.inference.film import read_film
from emoverse.inference.journal import journal
from emoverse.inference.listening import hear_film
from emoverse.inference.speech import Recogniser, Samples, sound
from emoverse.inference.timeline import film_result
from emoverse.inference.transcripts import Cue

from ..faces.clips import write
from .film_made import Model
from .hearing_made import Hears


class Ended(Hears):
    """Is ended after three pieces."""

    def said(self, start: float, samples: Samples) -> list[Cue]:
        if len(self.whisper) > 3:
            raise KeyboardInterrupt
        return super().said(start, samples)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("film") / "movie.mp4", count=120, fps=10, audio=12)


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PIECE", 2.0)


def test_what_was_heard_is_not_heard_again(movie: Path, tmp_path: Path) -> None:
    whole = Hears([])
    with journal(tmp_path / "whole.jsonl", "film", {}) as book:
        told: list[tuple[str, int, int]] = []
        expected = hear_film(movie, book, whole, "en", lambda *news: told.append(news))
    assert len(expected) >= 6
    assert told[0] == ("Listening", 0, 12) and told[-1] == ("Listening", 12, 12)

    lines = tmp_path / "killed.jsonl"
    ended = Ended([])
    with pytest.raises(KeyboardInterrupt), journal(lines, "film", {}) as book:
        hear_film(movie, book, ended, "en")
    again = Hears([])
    with journal(lines, "film", {}) as book:
        found = hear_film(movie, book, again, "en")
    assert found == expected
    heard = [*ended.whisper[:3], *again.whisper]
    assert len(heard) == len(whole.whisper) and {language for _, language, _ in heard} == {"en"}
    ((_, samples),) = sound(movie, end=12.0)  # as long as the picture
    np.testing.assert_array_equal(np.concatenate([part for *_, part in heard]), samples)


def test_what_was_heard_is_what_the_film_is_read_by(movie: Path, tmp_path: Path) -> None:
    lines, ears = tmp_path / "film.jsonl", Hears([])

    def read(ears: Recogniser) -> Sequence[str]:
        with journal(lines, "film", {}) as book:
            read_film(
                movie,
                book,
                Model(),
                "stand-in",
                listen=lambda: hear_film(movie, book, ears),
                tasks=("er",),
                workers=0,
            )
            return [row["text"] for row in film_result(book, "stand-in")["utterances"]]

    texts = read(ears)
    assert len(texts) == len(ears.whisper) >= 6
    assert read(Hears([])) == texts
