"""ERI records for the corpora's own clips: a model describes them, a model infers the reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.corpora.records import Utterance
from emoverse.emt.assemble import clues, conversation_of, reason_record
from emoverse.emt.clips import Look
from emoverse.emt.describe import PROMPTS, Clip, describe_clips
from emoverse.emt.endpoint import Endpoint
from emoverse.emt.looks import Looks
from emoverse.emt.record import Record
from emoverse.emt.sources import Spoken
from emoverse.faces import captions
from emoverse.faces.captions import Style


@dataclass(frozen=True, slots=True)
class Describer:
    """Who is asked.

    Attributes:
        endpoint: the model that sees.
        reasoner: the model that infers the reason; the same when None.
        progress: told (clips done, clips in all).
        prompts: folder with `describe.txt` and `reason.txt`.
    """

    endpoint: Endpoint
    reasoner: Endpoint | None = None
    progress: Callable[[int, int], None] | None = None
    prompts: Path = PROMPTS


def records(
    corpora: Sequence[Spoken],
    looks: Looks,
    describer: Describer,
    left_out: Collection[str] = (),
    style: Style = "paper",
) -> tuple[list[Record], dict[str, Any]]:
    """ERI records of the clips with a face and a label, in the corpora's order.

    Args:
        corpora: a clip that is in two of them is asked about once.
        looks: the clips' results; answers go to `reasons/` in the same folder.
        describer: who is asked.
        left_out: training conversations (`conversation_of`) that nobody is asked about.
        style: of the expression captions that are told.

    Returns:
        The records, and the report of `describe.describe_clips`.

    Raises:
        EmoVerseError: an endpoint's URL is unusable.
    """
    wanted = {f"{u.corpus}/{u.id}": (u, look) for u, look in _labelled(corpora, looks, left_out)}
    found, report = describe_clips(
        _Clips(wanted, style),
        describer.endpoint,
        out=looks.out / "reasons",
        reasoner=describer.reasoner,
        prompts=describer.prompts,
        progress=describer.progress,
    )
    made = [reason_record(*wanted[name], reason, style) for name, reason in found.items()]
    return made, report


class _Clips:
    """The clips to ask about; their frames are read when they are asked about."""

    def __init__(self, wanted: dict[str, tuple[Utterance, Look]], style: Style) -> None:
        self._wanted, self._style = wanted, style

    def __len__(self) -> int:
        return len(self._wanted)

    def __iter__(self) -> Iterator[Clip]:
        for name, (utterance, look) in self._wanted.items():
            start, end = 0.0, None
            if utterance.whole_video:
                start, end = utterance.start or 0.0, utterance.end
            yield Clip(
                id=name,
                video=utterance.clip,
                start=start,
                end=end,
                transcript=utterance.text,
                caption=clues(utterance, look, self._style),
                aus=tuple(captions.active(look.intensities or {})),
                label=utterance.emotion or utterance.sentiment,
            )


def _labelled(
    corpora: Sequence[Spoken], looks: Looks, left_out: Collection[str]
) -> Iterator[tuple[Utterance, Look]]:
    used: set[str] = set()
    for corpus in corpora:
        for utterance in corpus.utterances:
            if utterance.split == "train" and conversation_of(utterance) in left_out:
                continue
            look = looks.of(utterance) if utterance.emotion or utterance.sentiment else None
            if look and look.peak and look.key not in used:
                used.add(look.key)
                yield utterance, look
