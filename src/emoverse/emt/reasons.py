"""ERI records for the corpora's own clips: a model describes them, a model infers the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emoverse.corpora.records import Utterance
from emoverse.emt.clips import Look
from emoverse.emt.describe import Clip, describe_clips, sampled_frames
from emoverse.emt.endpoint import Endpoint
from emoverse.emt.looks import Looks
from emoverse.emt.record import Record
from emoverse.emt.sources import Spoken
from emoverse.faces import captions
from emoverse.tasks import eri, fer


@dataclass(frozen=True, slots=True)
class Describer:
    """Who is asked.

    Attributes:
        endpoint: the model that sees.
        reasoner: the model that infers the reason; the same when None.
        progress: told (clips done, clips in all).
    """

    endpoint: Endpoint
    reasoner: Endpoint | None = None
    progress: Callable[[int, int], None] | None = None


def records(
    corpora: Sequence[Spoken], looks: Looks, describer: Describer
) -> tuple[list[Record], dict[str, Any]]:
    """ERI records of the clips with a face and a label, in the corpora's order.

    Args:
        corpora: a clip that is in two of them is asked about once.
        looks: the clips' results; answers go to `reasons/` in the same folder.
        describer: who is asked.

    Returns:
        The records, and the report of `describe.describe_clips`.

    Raises:
        EmoVerseError: an endpoint's URL is unusable.
    """
    wanted = {f"{u.corpus}/{u.id}": (u, look) for u, look in _labelled(corpora, looks)}
    clips = _Clips(wanted, looks)
    found, report = describe_clips(
        clips,
        describer.endpoint,
        out=looks.out / "reasons",
        reasoner=describer.reasoner,
        progress=describer.progress,
    )
    return [_record(name, *wanted[name], reason) for name, reason in found.items()], report


class _Clips:
    """The clips to ask about, their frames read as they are needed."""

    def __init__(self, wanted: dict[str, tuple[Utterance, Look]], looks: Looks) -> None:
        self._wanted, self._looks = wanted, looks

    def __len__(self) -> int:
        return len(self._wanted)

    def __iter__(self) -> Iterator[Clip]:
        for name, (utterance, look) in self._wanted.items():
            assert utterance.clip is not None and look.peak is not None
            still = (self._looks.out / look.peak,)
            yield Clip(
                id=name,
                frames=still if utterance.whole_video else sampled_frames(utterance.clip),
                transcript=utterance.text,
                caption=_caption(utterance, look),
                label=utterance.emotion or utterance.sentiment,
            )


def _labelled(corpora: Sequence[Spoken], looks: Looks) -> Iterator[tuple[Utterance, Look]]:
    used: set[str] = set()
    for corpus in corpora:
        for utterance in corpus.utterances:
            look = looks.of(utterance) if utterance.emotion or utterance.sentiment else None
            if look and look.peak and look.key not in used:
                used.add(look.key)
                yield utterance, look


def _caption(utterance: Utterance, look: Look) -> tuple[str, ...]:
    return captions.describe(look.intensities or {}, utterance.emotion).phrases


def _record(name: str, utterance: Utterance, look: Look, reason: str) -> Record:
    assert look.peak is not None
    whole = utterance.whole_video or utterance.corpus in ("mosei", "mosi")
    meta: dict[str, object] = {"sample": name}
    if look.face:
        meta["face"] = look.face
    return Record(
        query=eri.query(utterance.text or None, fer.answer(_caption(utterance, look)) or None),
        response=eri.answer(reason),
        task="eri",
        id=f"{name}/eri",
        images=(look.peak,) if whole else (),
        videos=() if whole else (str(utterance.clip),) if utterance.clip else (),
        source=utterance.corpus,
        split=utterance.split,
        text=utterance.text,
        label=utterance.emotion or utterance.sentiment,
        meta=meta,
    )
