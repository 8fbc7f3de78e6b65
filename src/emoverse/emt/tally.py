"""What became of the clips of a build, and how their captions came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from emoverse.corpora.records import Dialogue
from emoverse.emt.clips import Look
from emoverse.emt.looks import Looks
from emoverse.faces.captions import Caption, empty_intersections

AGREE = "label and face agree (Eq 3)"
EMPTY = "label and face share no AU (Eq 3 is empty)"
WHOLE = "all of the face's AUs"
NOTHING = "no active AU, no record"


@dataclass(slots=True)
class Tally:
    """Counts of clips, sentences about those not used, keys of the results, and captions.

    Attributes:
        counts: clips by what became of them.
        lines: a sentence for each clip that was left out or is doubtful.
        keys: of the results that the records use.
        captioned: what was told of every face, by key.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    captioned: dict[str, Caption] = field(default_factory=dict)

    def seen(self, dialogue: Dialogue, looks: Looks) -> dict[str, Look]:
        """What was found in a dialogue's clips, by the utterance's id; counted on the way."""
        found = {}
        for utterance in dialogue.utterances:
            unique = f"{utterance.corpus}/{utterance.id}"
            if utterance.clip_problem:
                self.counts["unusable" if utterance.clip else "missing"] += 1
                self.lines.append(f"{unique}: {utterance.clip_problem}")
                continue
            look = looks.of(utterance)
            if look is None:
                continue
            found[utterance.id] = look
            if look.error:
                self.counts["unreadable"] += 1
                self.lines.append(f"{unique}: {look.error}")
            else:
                self.counts["with a face" if look.peak else "without a face"] += 1
                self.lines += [f"{unique}: {said}" for said in look.warnings]
                self.keys.add(look.key)
        return found


def caption_counts(told: Collection[Caption]) -> dict[str, int]:
    """How captions came about; `EMPTY` overlaps with the two below it."""
    return {
        AGREE: sum(bool(one.codes) and not one.fallback for one in told),
        EMPTY: empty_intersections(told),
        WHOLE: sum(one.fallback for one in told),
        NOTHING: sum(not one.codes for one in told),
    }
