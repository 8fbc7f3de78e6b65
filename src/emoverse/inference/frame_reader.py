"""Any image-text-to-text model of transformers as the engine's: whole pictures, frames of clips."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.inference.interview import Question, Watched
from emoverse.inference.reader import Prompt, Seen, Sight
from emoverse.models import processing
from emoverse.models.any_mllm import Mllm
from emoverse.models.llama import FusedLlama
from emoverse.models.sights import FRAMES, sights

_ANY = "?"


class FrameReader:
    """A model with a processor: clips are frames in front of the query, as in training."""

    # A prompt of eight frames is long: more at once would need much memory for little speed.
    together = 8
    abreast = 4

    def __init__(self, model: Mllm, frames: int = FRAMES, *, native: bool = False) -> None:
        """Wrap a loaded model.

        Args:
            model: with its processor.
            frames: taken from a clip.
            native: clips are given to the processor as videos, see the recipe's `videos`.

        Raises:
            EmoVerseError: its chat template does not suit, or its processor takes no videos.
        """
        if native:
            processing.check_clips(model)
        self.model = self.writer = model
        self.frames = frames
        self._native = native
        self._before = processing.chat_ids(model, _ANY)
        last = {self._said(text)[-1] for text in ("a", "b c")}
        # A template that writes no end: the model's own mark is what it stops at.
        self._closing = [] if len(last) == 1 else [model.tokenizer.eos_token_id]
        self.end = last.pop() if not self._closing else self._closing[0]
        if self.end is None:
            raise EmoVerseError(
                f"{model.name}: neither its chat template nor its tokenizer ends an answer with a "
                "mark; use another model."
            )

    def of_records(self, records: Sequence[Record], root: Path | None) -> list[Sight]:
        """The pictures and frames of each record, none where one of its media cannot be had."""
        root = root or Path()
        found: dict[tuple[str, ...], Sight] = {}
        for record in records:
            media = record.media
            if media not in found:
                try:
                    found[media] = sights(root, media, self.frames, native=self._native)
                except EmoVerseError:
                    found[media] = []  # missing or damaged; it is counted
        return [found[record.media] for record in records]

    def of_questions(self, questions: Sequence[Question]) -> list[Sight]:
        """Frames of the clip; for FER, or where there are no frames, the peak frame."""
        found: dict[tuple[int, bool], Sight] = {}
        for question in questions:
            key = id(question.shown), question.record.task == "fer"
            if question.shown is not None and key not in found:
                found[key] = self._shown(question.shown, peak=key[1])
        return [
            found.get((id(question.shown), question.record.task == "fer"), [])
            for question in questions
        ]

    @torch.inference_mode()
    def look(self, sights: Sequence[Sight]) -> tuple[torch.Tensor | None, list[Seen]]:
        """Run processor and visual encoder once over everything that is shown."""
        seen: dict[int, Seen] = {}
        rows: list[torch.Tensor] = []
        start = 0
        for sight in sights:
            if not sight or id(sight) in seen:
                continue
            shown = processing.show(self.model, sight)
            rows.append(self.model.project(processing.look(self.model, shown)))
            end = start + len(rows[-1])
            seen[id(sight)] = Seen([[-1 - row for row in range(start, end)]], shown)
            start = end
        features = torch.cat(rows) if rows else None
        return features, [seen.get(id(sight), Seen()) for sight in sights]

    def prompt(self, query: str, seen: Seen) -> Prompt:
        """See `Reader`."""
        ids = processing.chat_ids(self.model, query, seen.shown)
        tokens = processing.pointing(self.model, ids, seen.ids[0]) if seen.ids else ids
        return Prompt(tokens, processing.positions(self.model, ids, seen.shown))

    def words(self, text: str) -> list[int]:
        """See `Reader`."""
        said = self._said(text)
        return said if self._closing else said[:-1]

    def answer(self, text: str) -> list[int]:
        """See `Reader`."""
        return self._said(text) + self._closing

    @property
    def fused(self) -> FusedLlama | None:
        """None: a second copy of the weights is too large."""
        return None

    def _said(self, text: str) -> list[int]:
        """An answer's tokens as they stand in a chat; tokenizers join them to what is before."""
        ids = processing.chat_ids(self.model, _ANY, answer=text)
        if ids[: len(self._before)] != self._before:
            raise EmoVerseError(
                f"{self.model.name}: its chat template asks for an answer in other words than it "
                "writes one in; use a model with a plain chat template."
            )
        return ids[len(self._before) :]

    def _shown(self, watched: Watched, *, peak: bool) -> Sight:
        image = watched.track.peak_image
        if image is not None and (peak or not watched.frames):
            return [Image.fromarray(image)]
        frames = tuple(_decoded(jpeg, watched.clip) for jpeg in watched.frames)
        if not self._native or len(frames) < 2:
            return list(frames)
        span = watched.track.info.duration
        times = tuple((n + 0.5) * span / len(frames) for n in range(len(frames)))
        return [processing.Clip(frames, times, span)]


def _decoded(jpeg: bytes, clip: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise EmoVerseError(f"{clip}: one of its frames is unreadable ({error}).") from None
