"""From corpora to EMT records: which queries each utterance, conversation or photo supports."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from emoverse.corpora.merr import Reason
from emoverse.corpora.records import Dialogue, Utterance
from emoverse.emt.clips import Look
from emoverse.emt.grounding import grounded
from emoverse.emt.record import Record
from emoverse.faces import captions
from emoverse.faces.captions import Caption, Style
from emoverse.tasks import ecpe, er, eri, fer, labels, msa
from emoverse.tasks.action_units import BY_CODE

Seen = Mapping[str, Look]
"""What the face work found, by the utterance's id; utterances without a clip are left out."""

_NOTHING: Seen = {}


def utterance_records(
    dialogue: Dialogue, *, context: bool, seen: Seen = _NOTHING
) -> Iterator[Record]:
    """MSA and ER records of a dialogue's utterances.

    MSA needs a sentiment other than neutral (in valid and test splits a score of 0 will do, for
    it counts in Acc2 N/N), ER an emotion.

    Args:
        dialogue: MELD, MOSEI, MOSI or a folder.
        context: put the dialogue's earlier turns in front of the ER query.
        seen: the clips' results; CMU-MOSEI's and MOSI's records show the peak frame, as in the
            paper's stage 1, the others the clip.
    """
    wording = "mosei" if dialogue.corpus in ("mosei", "mosi") else "meld"
    turns = [(turn.speaker or "Someone", turn.text) for turn in dialogue.utterances]
    for place, utterance in enumerate(dialogue.utterances):
        polarity = _polarity(utterance)
        look = seen.get(utterance.id)
        if polarity:
            label = utterance.score if utterance.score is not None else polarity
            query, answer = msa.query(utterance.text), msa.answer(polarity)
            yield _record(utterance, "msa", query, answer, label, look=look)
        if utterance.emotion:
            query = er.query(
                utterance.text,
                wording=wording,
                speaker=utterance.speaker,
                context=turns[:place] if context else (),
            )
            answer = er.answer(utterance.emotion, wording)
            yield _record(utterance, "er", query, answer, utterance.emotion, look=look)


def expression_records(
    dialogue: Dialogue, seen: Seen, captioned: dict[str, Caption], style: Style = "paper"
) -> Iterator[Record]:
    """FER records, one for every clip with a face: its peak frame and Eq 3's caption.

    A caption that shares no action unit with the label, or a clip without a label, tells all of
    the face's action units and is marked `meta.fallback`; a face without an active one gives no
    record.

    Args:
        dialogue: of any corpus.
        seen: the clips' results.
        captioned: what was told of clips that were seen before, by key; added to, so that a clip
            that is in two corpora is captioned once.
        style: of the captions.
    """
    for utterance in dialogue.utterances:
        look = seen.get(utterance.id)
        if look is None or look.peak is None or look.intensities is None:
            continue
        known = captioned.get(look.key)
        if known and known.codes:
            continue
        told = captions.describe(look.intensities, utterance.emotion, style=style)
        captioned[look.key] = told
        if told.codes:
            record = _record(
                utterance, "fer", fer.query(), fer.answer(told.phrases), list(told.codes), look=look
            )
            meta = {**record.meta, "peak": {"frame": look.frame, "seconds": look.timestamp}}
            if told.fallback:
                meta["fallback"] = True
            yield replace(record, images=(look.peak,), videos=(), meta=meta)


def cause_records(dialogue: Dialogue, seen: Seen = _NOTHING) -> Iterator[Record]:
    """ECPE records, one for every non-neutral utterance of an ECF conversation."""
    turns = [
        ecpe.Turn(turn.index, turn.speaker or "Someone", turn.text, turn.emotion or "neutral")
        for turn in dialogue.utterances
    ]
    for utterance in dialogue.utterances:
        if utterance.emotion in (None, "neutral") or utterance.causes is None:
            continue
        assert utterance.emotion
        pairs = [ecpe.Pair(utterance.index, utterance.emotion, i) for i in utterance.causes]
        label = [[pair.emotion_index, pair.emotion, pair.cause_index] for pair in pairs]
        query = ecpe.query(turns, utterance.index)
        # A conversation is one sample: its targets share all but their last lines.
        answer, look = ecpe.answer(pairs), seen.get(utterance.id)
        yield _record(utterance, "ecpe", query, answer, label, dialogue.id, look=look)


def reason_records(
    reasons: Iterable[Reason], left_out: list[str] | None = None, *, published: bool = False
) -> Iterator[Record]:
    """ERI records from MERR, with transcript and expression caption as clues.

    MERR's clips are not at hand, so a reason is told without what only they show (`grounded`). One
    that then names no emotion, or another than its label, is left out.

    Args:
        reasons: of MERR.
        left_out: a sentence for each that gives no record is added.
        published: tell every reason as it was published instead, whatever it names.
    """
    left_out = [] if left_out is None else left_out
    for reason in reasons:
        told = reason.caption if published else grounded(reason.caption)
        if told is None:
            left_out.append(f"{reason.id}: nothing of its reason holds without the clip.")
            continue
        named = eri.emotions(told)
        if not published and reason.emotion and reason.emotion not in named:
            names = ", ".join(sorted(named)) or "no emotion"
            left_out.append(
                f"{reason.id}: its reason names {names}, its label is {reason.emotion}."
            )
            continue
        caption = fer.answer(BY_CODE[code].phrase for code in reason.aus if code in BY_CODE) or None
        yield Record(
            query=eri.query(reason.text or None, caption),
            response=eri.answer(told),
            task="eri",
            id=f"merr/{reason.id}/eri",
            source="merr",
            split=reason.split,
            text=reason.text,
            label=reason.emotion,
            meta={"sample": f"merr/{reason.id}"},
        )


def clues(utterance: Utterance, look: Look, style: Style = "paper") -> tuple[str, ...]:
    """The expression at a clip's peak in phrases, as ERI's prompts tell it; () when it is still."""
    return captions.describe(look.intensities or {}, utterance.emotion, style=style).phrases


def reason_record(utterance: Utterance, look: Look, reason: str, style: Style = "paper") -> Record:
    """The ERI record of a corpus's own clip, with its words and expression as clues."""
    caption = fer.answer(clues(utterance, look, style)) or None
    query = eri.query(utterance.text or None, caption)
    label = utterance.emotion or utterance.sentiment
    return _record(utterance, "eri", query, eri.answer(reason), label, look=look)


def conversation_of(utterance: Utterance) -> str:
    """The conversation (or speaker's video) of an utterance, as `leaks.talks` names it."""
    if utterance.corpus in ("meld", "ecf"):
        return f"{utterance.corpus}/{utterance.split}/{utterance.dialogue}"
    return f"{utterance.corpus}/{utterance.dialogue}"


def photo_records(
    name: str,
    split: str,
    crop: str,
    intensities: Mapping[str, float],
    emotion: str | None,
    style: Style = "paper",
) -> Iterator[Record]:
    """FER and, for a labelled photo, ER records of one aligned face crop.

    Args:
        name: unique name of the photo.
        split: `train` or `valid`.
        crop: path of the crop, relative to the dataset.
        intensities: AU code to 0..5.
        emotion: canonical emotion, None when unknown.
        style: of the caption.
    """
    meta = {"sample": f"photo/{name}", "aligned": True}
    told = captions.describe(intensities, style=style)
    if told.codes:
        yield Record(
            query=fer.query(),
            response=fer.answer(told.phrases),
            task="fer",
            id=f"photo/{name}/fer",
            images=(crop,),
            source="photo",
            split=split,
            label=list(told.codes),
            meta=meta,
        )
    if emotion:
        yield Record(
            query=er.query(),
            response=er.answer(emotion),
            task="er",
            id=f"photo/{name}/er",
            images=(crop,),
            source="photo",
            split=split,
            label=emotion,
            meta=meta,
        )


def paired_records(photos: Sequence[Record], spoken: Sequence[Record]) -> Iterator[Record]:
    """Face and words in one prompt, for corpora that come without clips.

    Each labelled training photo borrows an utterance that carries the same emotion (ER) or the
    polarity the emotion implies (MSA), so that the model learns to read both together. These
    pairs are made up; they are for training alone and marked `source: paired`.

    Args:
        photos: ER records of photos.
        spoken: ER and MSA records of utterances without context.
    """
    said: dict[tuple[str, str], list[str]] = {}
    for record in spoken:
        if record.text and not record.query.startswith("The conversation"):
            said.setdefault((record.task, record.response), []).append(record.text)
    for photo in photos:
        rng = random.Random(photo.id)
        polarity = labels.polarity_of_emotion(photo.label)
        asked = [("er", photo.response, photo.label)]
        if polarity:
            asked.append(("msa", msa.answer(polarity), polarity))
        for task, response, label in asked:
            if texts := said.get((task, response)):
                text = rng.choice(texts)
                yield Record(
                    query=er.query(text) if task == "er" else msa.query(text),
                    response=response,
                    task=task,
                    id=f"{photo.id}/paired-{task}",
                    images=photo.images,
                    source="paired",
                    split="train",
                    text=text,
                    label=label,
                    meta=dict(photo.meta),
                )


def _polarity(utterance: Utterance) -> str | None:
    if utterance.score == 0 and utterance.split != "train":
        return "positive"  # Acc2 N/N counts it as non-negative, N/P drops it by its label
    if utterance.score is not None:
        return labels.sentiment_of_score(utterance.score)
    return utterance.sentiment if utterance.sentiment in labels.SENTIMENTS else None


def _record(
    utterance: Utterance,
    task: str,
    query: str,
    response: str,
    label: object,
    sample: str | None = None,
    *,
    look: Look | None = None,
) -> Record:
    unique = f"{utterance.corpus}/{utterance.id}"
    meta: dict[str, object] = {"sample": f"{utterance.corpus}/{sample}" if sample else unique}
    if utterance.corpus in ("meld", "ecf"):
        meta["dialogue"] = conversation_of(utterance)
    if utterance.speaker:
        meta["speaker"] = utterance.speaker
    if utterance.start is not None and utterance.end is not None:
        meta["seconds"] = round(utterance.end - utterance.start, 3)
    elif look and look.seconds:  # the clip's own length, where the corpus tells no times
        meta["seconds"] = round(look.seconds, 3)
    if look and look.face:
        meta["face"] = look.face
    images, videos = _media(utterance, look)
    return Record(
        query=query,
        response=response,
        task=task,
        id=f"{unique}/{task}",
        images=images,
        videos=videos,
        source=utterance.corpus,
        split=utterance.split,
        text=utterance.text,
        label=label,
        meta=meta,
    )


def _media(utterance: Utterance, look: Look | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images and videos of an utterance's own records."""
    if utterance.clip is None or utterance.clip_problem or (look and look.error):
        return (), ()
    if look and look.peak and utterance.corpus in ("mosei", "mosi"):
        return (look.peak,), ()
    # A whole video is no clip of the utterance.
    return (), () if utterance.whole_video else (str(utterance.clip),)
