"""What every corpus reader yields: utterances in dialogues, and the rows it could not read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken turn with its gold labels; a label the corpus lacks is None.

    Attributes:
        id: unique within the corpus, e.g. `dia0_utt3` or `<video>_<clip>`.
        corpus: `meld`, `mosei`, `mosi`, `ecf` or `folder`.
        split: `train`, `valid` or `test`.
        dialogue: id of the dialogue or source video.
        index: 1-based position in the dialogue.
        start, end: seconds in the source video.
        emotion: canonical emotion (`emoverse.tasks.labels.EMOTIONS`).
        score: sentiment in [-3, 3] (MOSEI, MOSI).
        sentiment: `positive`, `neutral` or `negative`.
        causes: 1-based indices of the utterances that caused this one's emotion (ECF); None
            when the corpus does not annotate causes, () when it does and found none.
        clip: the clip's file when it is on disk.
        whole_video: `clip` is the whole source video, of which the utterance is the part from
            `start` to `end`.
        clip_problem: why the clip must not be used (corrupt, badly cut), or None.
    """

    id: str
    corpus: str
    split: str
    dialogue: str
    index: int
    text: str
    speaker: str | None = None
    start: float | None = None
    end: float | None = None
    emotion: str | None = None
    score: float | None = None
    sentiment: str | None = None
    causes: tuple[int, ...] | None = None
    clip: Path | None = None
    clip_problem: str | None = None
    whole_video: bool = False


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation (or one speaker's video) in spoken order."""

    id: str
    corpus: str
    split: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was skipped, and where to find it."""

    file: Path
    line: int | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        return f"{place}: {self.message}"


def dialogues(utterances: Iterable[Utterance]) -> list[Dialogue]:
    """Group utterances by (split, dialogue), each in the order of its indices."""
    groups: dict[tuple[str, str, str], list[Utterance]] = {}
    for utterance in utterances:
        key = (utterance.corpus, utterance.split, utterance.dialogue)
        groups.setdefault(key, []).append(utterance)
    return [
        Dialogue(
            id=dialogue,
            corpus=corpus,
            split=split,
            utterances=tuple(sorted(members, key=lambda member: member.index)),
        )
        for (corpus, split, dialogue), members in groups.items()
    ]
