"""Protocol `semeval` of `emoverse eval`: from bare conversations to scored pairs, end to end.

A model is told no emotion: it names one for every utterance, then the causes of those that are not
neutral, its own emotions in the prompt. The pairs are written as a submission to SemEval-2024
Task 3, subtask 2, and scored by its rules. Both rounds are runs of their own (`emotions/`,
`causes/`), so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import read_answer
from emoverse.evaluation.intervals import SEED
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.report import write_report
from emoverse.evaluation.runner import Answerer, ask, asked, score_predictions, scored_run
from emoverse.evaluation.runs import CONVERSATIONS, REPORT, SCORES, Run, load_run
from emoverse.evaluation.scored import Scored
from emoverse.evaluation.semeval import Conversation, load_semeval, semeval_figures
from emoverse.files import read_json, sha256_of, write_json
from emoverse.tasks import ecpe, er
from emoverse.tasks.ecpe import Pair, Turn

SUBMISSION = "submission.json"
_EMOTIONS, _CAUSES = "emotions", "causes"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Conversations:
    """A finished run of protocol `semeval`.

    Attributes:
        settings: data, data_sha256 and limit.
        gold, said: the conversations, with the pairs and emotions of the data and of the model.
        emotions, causes: the two rounds.
    """

    settings: Mapping[str, Any]
    gold: tuple[Conversation, ...]
    said: tuple[Conversation, ...]
    emotions: Run
    causes: Run


def evaluate_semeval(
    model: str,
    data: Path | str,
    *,
    out: Path | str | None = None,
    media_root: Path | str | None = None,
    limit: int | None = None,
    engine: Answerer | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer conversations from their words (and clips) alone, then score the pairs found.

    Args:
        model: a model's name or folder, as `load_model` takes it.
        data: a SemEval-2024 Task 3 subtask 2 file with pairs, which are the gold.
        out: folder for the two rounds, submission.json, scores.json and report.html; None is
            `<data's name>-semeval` in the working folder.
        media_root: where clips named as ECF's (`dia1utt2.mp4`) are looked for; emotions are then
            told from text and clip.
        limit: only the first so many conversations; a later call may raise it.
        engine: answers in place of the model of that name.
        progress: called with (answered, all questions known so far).

    Returns:
        What scores.json holds: blocks `ecpe` (the pairs) and `er` (the emotions).

    Raises:
        EmoVerseError: the data is no such file, or `out` holds a run of another model or data.
    """
    data = Path(data)
    if limit is not None and limit < 1:
        raise EmoVerseError(f"The limit is {limit}; use 1 or more.")
    gold = _gold(data, limit)
    out = Path(out) if out is not None else Path(f"{data.stem}-semeval")
    who = asked(model, engine)
    clips = Path(media_root) if media_root is not None else None
    spoken = [record for talk in gold for record in _emotion_records(talk, clips)]
    emotions, causes = out / _EMOTIONS, out / _CAUSES
    ask(
        who,
        emotions / "er.jsonl",
        spoken,
        emotions,
        media_root=clips,
        source=data,
        progress=progress,
    )
    write_json(
        out / CONVERSATIONS,
        {"data": str(data.resolve()), "data_sha256": sha256_of(data), "limit": limit},
    )
    told = _told(gold, load_run(emotions))
    targets = [record for talk in told for record in _cause_records(talk)]
    before = len(spoken)

    def onwards(done: int, total: int) -> None:
        if progress:
            progress(before + done, before + total)

    ask(who, causes / "ecpe.jsonl", targets, causes, source=data, progress=onwards)
    return score_semeval_run(out)


def load_semeval_run(out: Path | str) -> Conversations:
    """Read back what `evaluate_semeval` left in `out`.

    Raises:
        EmoVerseError: `out` holds no such run, its data has changed, or answers are missing.
    """
    out = Path(out)
    if not (out / CONVERSATIONS).is_file():
        raise EmoVerseError(f"{out} holds no run of protocol semeval ({CONVERSATIONS} is missing).")
    settings = read_json(out / CONVERSATIONS)
    data = Path(settings["data"])
    if not data.is_file() or sha256_of(data) != settings["data_sha256"]:
        raise EmoVerseError(f"{data} has changed or gone since the run; evaluate again.")
    emotions, causes = load_run(out / _EMOTIONS), load_run(out / _CAUSES)
    gold = _gold(data, settings["limit"])
    _finished(emotions, [_id(talk, turn) for talk in gold for turn in talk.turns])
    told = _told(gold, emotions)
    _finished(causes, [f"{talk.id}/{index}" for talk in told for index in talk.targets])
    said = tuple(replace(talk, pairs=_pairs(talk, causes)) for talk in told)
    return Conversations(settings, tuple(gold), said, emotions, causes)


def score_semeval_run(out: Path | str) -> dict[str, Any]:
    """Score what `evaluate_semeval` left in `out` again; asks no model.

    Raises:
        EmoVerseError: `out` holds no such run, its data has changed, or answers are missing.
    """
    out, run = Path(out), load_semeval_run(out)
    settings, gold, said = run.settings, run.gold, run.said
    write_json(out / SUBMISSION, [_submitted(talk) for talk in said])
    named = score_predictions(out / _EMOTIONS)
    first = named["tasks"]["er"]
    block = semeval_figures(gold, said) | {
        "unparseable": first["unparseable"] + _unreadable(run.causes),
        "seed": SEED,
        "data_sha256": settings["data_sha256"],
        "model_sha256": named["model_sha256"],
        "settings": named["settings"] | {"limit": settings["limit"]},
        "records": len(gold),
        "answered": len(gold),
        # A question about causes shows no clip.
        "text_alone": first["text_alone"] + len(run.causes.records),
        "media_missing": first["media_missing"],
    }
    scores = named | {
        "protocol": "semeval",
        "data": {
            "path": settings["data"],
            "sha256": settings["data_sha256"],
            "records": len(run.emotions.records),
        },
        "tasks": {"ecpe": block, "er": first},
        "seconds": round(
            sum(one.seconds for r in (run.emotions, run.causes) for one in r.answers.values()), 3
        ),
        "settings": block["settings"],
    }
    write_json(out / SCORES, scores)
    views = [_scored(gold, said, run.causes), *scored_run(run.emotions, "paper")]
    write_report(out / REPORT, scores, views)
    return scores


def _finished(run: Run, wanted: Sequence[str]) -> None:
    """Raise EmoVerseError unless a round has answered all it was asked, and all that is scored."""
    asked = {record.id for record in run.records}.union(wanted)
    if missing := len(asked - run.answers.keys()):
        raise EmoVerseError(
            f"{run.folder}: {len(asked) - missing} of {len(asked)} questions are answered; run "
            "`emoverse eval` again to finish."
        )


def _unreadable(causes: Run) -> int:
    """How many answers about causes say nothing that can be read as causes."""
    return sum(
        read_answer(record, causes.answers[record.id].text) is None for record in causes.records
    )


def _gold(data: Path, limit: int | None) -> list[Conversation]:
    gold = load_semeval(data)[:limit]
    for talk in gold:
        if not talk.turns:
            raise EmoVerseError(f"{data}, conversation {talk.id}: its `conversation` is missing.")
    return gold


def _emotion_records(talk: Conversation, clips: Path | None) -> list[Record]:
    """A question for every utterance, worded as `emoverse build` words MELD's with context."""
    turns = [(turn.speaker or "Someone", turn.text) for turn in talk.turns]
    records = []
    for place, turn in enumerate(talk.turns):
        clip = f"dia{talk.id}utt{turn.index}.mp4"
        records.append(
            Record(
                er.query(turn.text, speaker=turn.speaker, context=turns[:place]),
                er.answer(turn.emotion),
                "er",
                id=_id(talk, turn),
                videos=(clip,) if clips is not None and (clips / clip).is_file() else (),
                source="ecf",
                text=turn.text,
                label=turn.emotion,
                meta={"dialogue": talk.id, "speaker": turn.speaker},
            )
        )
    return records


def _told(gold: Sequence[Conversation], emotions: Run) -> list[Conversation]:
    """The conversations with the emotions that were told, no pairs; what states none is neutral."""
    by_id = {record.id: record for record in emotions.records}

    def told(talk: Conversation, turn: Turn) -> str:
        key = _id(talk, turn)
        return read_answer(by_id[key], emotions.answers[key].text) or "neutral"

    return [
        replace(
            talk,
            turns=tuple(replace(turn, emotion=told(talk, turn)) for turn in talk.turns),
            pairs=(),
        )
        for talk in gold
    ]


def _cause_records(talk: Conversation) -> list[Record]:
    return [
        Record(ecpe.query(talk.turns, turn.index), "", "ecpe", id=_id(talk, turn), source="ecf")
        for turn in talk.turns
        if turn.emotion != "neutral"
    ]


def _pairs(talk: Conversation, causes: Run) -> tuple[Pair, ...]:
    """What was found in a conversation; a pair of another target or emotion counts as it stands."""
    by_id = {record.id: record for record in causes.records}
    found: dict[Pair, None] = {}
    for index in talk.targets:
        key = f"{talk.id}/{index}"
        found |= dict.fromkeys(read_answer(by_id[key], causes.answers[key].text) or ())
    return tuple(found)


def _submitted(talk: Conversation) -> Mapping[str, Any]:
    """A conversation in the form that the organisers' scorer reads."""
    return {
        "conversation_ID": talk.id,
        "conversation": [
            {
                "utterance_ID": turn.index,
                "text": turn.text,
                "speaker": turn.speaker,
                "emotion": turn.emotion,
            }
            for turn in talk.turns
        ],
        "emotion-cause_pairs": [
            [f"{pair.emotion_index}_{pair.emotion}", str(pair.cause_index)] for pair in talk.pairs
        ],
    }


def _scored(gold: Sequence[Conversation], said: Sequence[Conversation], causes: Run) -> Scored:
    """The page's view of the pairs: an item for each utterance that has any, found or gold."""
    rows = []
    for truth, guess in zip(gold, said, strict=True):
        for turn in guess.turns:
            right, found = truth.causes(turn.index), guess.causes(turn.index)
            if right or found:
                key = _id(truth, turn)
                record = Record(ecpe.query(guess.turns, turn.index), "", "ecpe", id=key)
                answer = causes.answers.get(key, Answer.model_validate({"id": key, "text": ""}))
                rows.append((record, answer, right, found, truth.id))
    records, answers, right, found, units = zip(*rows, strict=True) if rows else ((),) * 5
    return Scored("ecpe", "strict", records, answers, right, found, units)


def _id(talk: Conversation, turn: Turn) -> str:
    return f"{talk.id}/{turn.index}"
