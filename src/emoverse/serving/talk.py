"""A long video's transcript, read utterance by utterance as `emoverse analyze` does.

What is asked about an utterance rests on those before it, and causes on windows of a conversation
(`emoverse.inference.conversation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis
from emoverse.inference.conversation import CONTEXT, Window, windows
from emoverse.inference.dialogue import dialogue_interview
from emoverse.inference.interview import Interview, Watched, clip_interview
from emoverse.inference.parts import Part, parts_of
from emoverse.inference.transcripts import Cue

_NOBODY = "Someone"  # as in training
MOST_CONTEXT = 8000
"""Characters of the earlier turns that stand before an utterance."""


class Talk:
    """How far a transcript is read.

    Attributes:
        late: what is said after the video's end, in order of time; it is not read.
    """

    def __init__(
        self,
        lines: Sequence[Mapping[str, Any]],
        tasks: Sequence[str],
        model: str,
        duration: float = math.inf,
    ) -> None:
        """Begin at the first utterance.

        Args:
            lines: start and end in seconds, text, and perhaps a speaker.
            tasks: what is asked of each.
            model: who answers.
            duration: seconds of the video; lines after its end are left out.

        Raises:
            EmoVerseError: no line says anything, or all come after the video's end.
        """
        cues = [
            Cue(line["start"], line["end"], line["text"], line.get("speaker"))
            for line in lines
            if line["text"].strip() and line["start"] < line["end"]
        ]
        if not cues:
            raise EmoVerseError("The transcript has no line with words, a start and a later end.")
        self._parts, _ = parts_of(cues, (), duration)
        self.late = sorted(
            (cue for cue in cues if cue.start >= duration), key=lambda cue: (cue.start, cue.end)
        )
        self._tasks, self._model = tasks, model
        self._emotions: list[str] = []

    @property
    def count(self) -> int:
        """How many utterances are read in all."""
        return len(self._parts)

    def following(self) -> Part | None:
        """The utterance that is read next; None after the last."""
        read = len(self._emotions)
        return self._parts[read] if read < len(self._parts) else None

    def take(self, part: Mapping[str, Any]) -> None:
        """Learn what was found in that utterance."""
        answers = (part.get("analysis") or {}).get("answers", {})
        self._emotions.append(str((answers.get("er") or {}).get("label") or "neutral"))

    def ask(self, watched: Watched) -> Interview:
        """What is asked about the utterance that is read next."""
        at = self._parts[len(self._emotions)]
        before = [part for part in self._read() if part.conversation == at.conversation]
        context = _newest(before[-CONTEXT:])
        return clip_interview(
            watched, at.text, self._tasks, self._model, speaker=at.speaker, context=context
        )

    def ask_causes(self) -> Interview | None:
        """What is asked of a window that the last utterance completed; None when it did not."""
        shown, window = self._completed()
        emotions = {part.number: e for part, e in zip(self._parts, self._emotions, strict=False)}
        if window is None:
            return None
        asked = window.asked - window.first
        if all(emotions[part.number] == "neutral" for part in shown[asked:]):
            return None
        turns = [
            {"speaker": part.speaker, "text": part.text, "emotion": emotions[part.number]}
            for part in shown
        ]
        return dialogue_interview(turns, _unseen, self._model, asked=asked)

    def pairs(self, found: Analysis) -> list[tuple[int, str, int]]:
        """A window's causes, by the numbers of its parts."""
        shown, _ = self._completed()
        return [
            (shown[target - 1].number, emotion, shown[cause - 1].number)
            for target, emotion, cause in found.pairs
        ]

    def _read(self) -> list[Part]:
        return self._parts[: len(self._emotions)]

    def _completed(self) -> tuple[list[Part], Window | None]:
        """The window that ends with the last utterance that was read, if one does."""
        if "er" not in self._tasks or not self._emotions:
            return [], None
        conversation = self._read()[-1].conversation
        turns = [part for part in self._parts if part.conversation == conversation]
        read = sum(part.conversation == conversation for part in self._read())
        window = next((one for one in windows(len(turns)) if one.stop == read), None)
        return ([], None) if window is None else (turns[window.first : window.stop], window)


def _newest(before: Sequence[Part]) -> list[tuple[str, str]]:
    """Speakers and texts of the last of some utterances, as many as may stand before one."""
    sizes = accumulate(len(part.text or "") for part in reversed(before))
    count = sum(size <= MOST_CONTEXT for size in sizes)
    return [(part.speaker or _NOBODY, part.text or "") for part in before[len(before) - count :]]


def _unseen(clip: str) -> Watched:
    raise EmoVerseError(f"{clip}: an utterance of a job has no clip of its own.")
