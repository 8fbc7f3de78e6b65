"""A film in parts that are read one by one: its utterances, and its shots without words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from typing import Any

from emoverse.counts import number_of
from emoverse.errors import EmoVerseError
from emoverse.inference.transcripts import Cue

# A longer pause ends a conversation: of the pauses within MELD's dialogues 98 in 100 are shorter.
PAUSE = 10.0
# Subtitles linger: an edge that lies this little beyond a cut belongs to the cut.
_LINGER = 0.4
# Shorter utterances are widened, for a face needs time to show something.
_LEAST = 1.0
# Nobody speaks from this many seconds between utterances on; shots are read in pieces up to the
# longest.
_SILENCE = 2.0
_LONGEST = 10.0


@dataclass(frozen=True, slots=True)
class Part:
    """What is read at once.

    Attributes:
        number: from 1 on, in order of time.
        start, end: seconds.
        text: what is said in it; None where nobody speaks, or no word is known.
        speaker: as the transcript names them, None when it does not.
        conversation: from 1 on; 0 where nobody speaks.
    """

    number: int
    start: float
    end: float
    text: str | None = None
    speaker: str | None = None
    conversation: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values that `Part(**values)` takes."""
        return asdict(self)


def parts_of(
    cues: Iterable[Cue], cuts: Sequence[float], duration: float, *, silences: bool = False
) -> tuple[list[Part], list[str]]:
    """Cut a film into parts.

    An utterance's edges move to a hard cut that they lie just beyond, so that its face is not
    looked for in the next shot. A pause of more than `PAUSE` seconds ends a conversation.

    Args:
        cues: what is said when.
        cuts: seconds of hard cuts, rising.
        duration: of the film, in seconds.
        silences: also make parts of the shots between utterances, at most 10 s each.

    Returns:
        The parts in order of time, and warnings in plain sentences.

    Raises:
        EmoVerseError: every utterance lies after the film's end, so that they are another film's.
    """
    told = sorted(cues, key=lambda cue: (cue.start, cue.end))
    inside = [replace(cue, end=min(cue.end, duration)) for cue in told if cue.start < duration]
    warnings = []
    if told and not inside:
        raise EmoVerseError(
            f"Every utterance of the transcript lies after the video's end ({duration:.0f} s); "
            "give the transcript of this video."
        )
    if len(inside) < len(told):
        late = len(told) - len(inside)
        verbs = ("lies", "was") if late == 1 else ("lie", "were")
        warnings.append(
            f"{number_of(late, 'utterance')} of the transcript {verbs[0]} after the video's end "
            f"and {verbs[1]} left out."
        )
    spoken = [_placed(cue, cuts, duration) for cue in inside]
    found = _in_conversations(spoken)
    if silences:
        found += [
            Part(0, start, end)
            for gap in _gaps(spoken, duration)
            for start, end in _pieces(*gap, cuts)
        ]
    found.sort(key=lambda part: (part.start, part.end))
    return [replace(part, number=number) for number, part in enumerate(found, 1)], warnings


def _placed(cue: Cue, cuts: Sequence[float], duration: float) -> Cue:
    start = max((cut for cut in cuts if cue.start < cut <= cue.start + _LINGER), default=cue.start)
    end = min((cut for cut in cuts if cue.end - _LINGER <= cut < cue.end), default=cue.end)
    if end - start < _LEAST:
        start, end = cue.start, cue.end
    lacking = max(0.0, _LEAST - (end - start)) / 2
    start = max(0.0, min(start - lacking, duration - _LEAST))
    return replace(cue, start=start, end=min(duration, max(end + lacking, start + _LEAST)))


def _in_conversations(cues: Sequence[Cue]) -> list[Part]:
    number, last = 0, -math.inf
    found = []
    for cue in cues:
        text = " ".join(cue.text.split())
        if not text:  # somebody speaks, but there are no words to answer by
            found.append(Part(0, cue.start, cue.end))
            continue
        number += cue.start - last > PAUSE
        last = max(last, cue.end)
        speaker = " ".join(cue.speaker.split()) if cue.speaker else None
        found.append(Part(0, cue.start, cue.end, text, speaker, number))
    return found


def _gaps(spoken: Sequence[Cue], duration: float) -> list[tuple[float, float]]:
    gaps, last = [], 0.0
    # In order anew: where an utterance was placed may lie before the one that began before it.
    for start, end in [*sorted((cue.start, cue.end) for cue in spoken), (duration, duration)]:
        if start - last >= _SILENCE or (not spoken and start > last):
            gaps.append((last, start))
        last = max(last, end)
    return gaps


def _pieces(start: float, end: float, cuts: Sequence[float]) -> list[tuple[float, float]]:
    edges = [start, *(cut for cut in cuts if start < cut < end), end]
    shots = [(one, two) for one, two in pairwise(edges) if two - one >= _LEAST]
    return list(chain.from_iterable(_even(*shot) for shot in shots or [(start, end)]))


def _even(start: float, end: float) -> list[tuple[float, float]]:
    count = max(1, math.ceil((end - start) / _LONGEST - 1e-9))
    step = (end - start) / count
    return list(pairwise([*(start + n * step for n in range(count)), end]))
