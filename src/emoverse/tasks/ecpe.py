"""ECPE, emotion-cause pair extraction: which utterances caused the target's emotion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels
from emoverse.tasks._metrics import check_lengths, prf

IDENTIFIER = "<emotion cause-pair>"
# The authors' wording to the character: the spaces before the line breaks and the curly quotes
# are theirs. Their released queries carry no identifier.
QUESTION = (
    "Below is a conversation containing multiple utterances from different speakers, \n"
    "along with the corresponding emotion label for each utterance. \n"
    "Your task is to identify the indices of the candidate utterances that elicited the emotion "
    "in the target utterance.\n"
    "Input conversation:"
)
_CANDIDATES = "\nCandidate utterances:"
_TARGET = "\nTarget utterance:"
_TAIL = (
    '\nYou need to return the answer as, for example, "3_surprise,1", \n'
    "which means that the emotion of surprise in the third sentence is related to the first "
    "sentence, \n"
    "and if the emotion is related to more than one sentence, separate the sentences with “;”.\n"
    "The emotion-cause indices of the target utterance are:"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a conversation; `index` is 1-based, `emotion` its gold label."""

    index: int
    speaker: str
    text: str
    emotion: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Utterance `emotion_index` shows `emotion`, caused by utterance `cause_index` (1-based)."""

    emotion_index: int
    emotion: str
    cause_index: int


def query(turns: Sequence[Turn], target_index: int) -> str:
    """The authors' ECPE query; the candidates are the utterances before the target.

    Args:
        turns: the whole conversation in order; line breaks inside a text become spaces, and a
            speaker `A: B` becomes `A:B`, so that the line can be read back.
        target_index: `Turn.index` of the utterance whose causes are asked for.

    Raises:
        EmoVerseError: no turn has that index.
    """
    target = _line(_at(turns, target_index))
    conversation = "\n".join(_line(turn) for turn in turns)
    candidates = "\n".join(_line(turn) for turn in turns if turn.index < target_index)
    return f"{QUESTION}{conversation}{_CANDIDATES}{candidates}{_TARGET}{target}{_TAIL}"


def parse_query(text: str) -> tuple[tuple[Turn, ...], int]:
    """Invert `query`: the conversation and the target's index.

    Raises:
        EmoVerseError: the text is not a query of that form.
    """
    found = _QUERY.search(text)
    turns = [_TURN.fullmatch(line) for line in found[1].split("\n")] if found else []
    if not found or not all(turns):
        raise EmoVerseError(
            "The query is not an emotion-cause query; it must be worded as `ecpe.query` does."
        )
    conversation = tuple(Turn(int(t[1]), t[3], t[4], t[2]) for t in turns if t)
    return conversation, _at(conversation, int(found[2])).index


def answer(pairs: Sequence[Pair]) -> str:
    """The gold response, `5_surprise,2;5_surprise,5`; empty for a target without a cause."""
    return ";".join(f"{pair.emotion_index}_{pair.emotion},{pair.cause_index}" for pair in pairs)


def parse(text: str, target: Turn | None = None) -> tuple[Pair, ...] | None:
    """Read the pairs out of any answer, once each, in order.

    Spelling is free: `5_Surprised, 2, 5`, `5 surprise,2; 5`, pairs inside prose. With the target
    given, bare indices are understood too: `2;5` as causes, `5,2` as a pair without its emotion.

    Args:
        text: a model's answer.
        target: the target utterance, if known.

    Returns:
        The pairs; () when the answer says there is none; None when it cannot be read.
    """
    pairs = [
        Pair(int(found[1]), labels.EMOTION_WORDS[found[2]], int(cause))
        for found in _ANSWER.finditer(text.lower())
        for cause in re.findall("[0-9]+", found[3])
    ]
    if not pairs and target is not None and re.fullmatch(r"[\s\d_,;.，；]*\d[\s.;；]*", text):
        pairs = [Pair(target.index, target.emotion, cause) for cause in _bare(text, target.index)]
    if pairs:
        return tuple(dict.fromkeys(pairs))
    return () if not text.strip() or _NOTHING.search(text.lower()) else None


def score(
    gold: Sequence[Sequence[Pair]],
    pred: Sequence[Sequence[Pair] | None],
    protocol: str = "paper",
) -> dict[str, Any]:
    """Pair F1 in percent (Xia & Ding 2019; weighted as in SemEval-2024 Task 3).

    A pair is right when emotion utterance, emotion and cause utterance all match.

    Args:
        gold: pairs per target.
        pred: pairs per target, same length; None is an unparseable answer and predicts nothing.
        protocol: `paper` leaves targets without a gold cause out, as the authors' scorer does;
            `strict` keeps them, so that whatever is predicted there is wrong.

    Returns:
        protocol, n (targets scored), precision, recall, f1 (micro), weighted_f1 (by gold pairs
        over the six emotions), per_emotion (precision, recall, f1, support), unparseable.

    Raises:
        EmoVerseError: the protocol has another name, or the lengths differ.
    """
    if protocol not in ("paper", "strict"):
        raise EmoVerseError(f"Protocol {protocol!r} is unknown; use `paper` or `strict`.")
    check_lengths(gold, pred)
    kept = [
        (set(truth), guess)
        for truth, guess in zip(gold, pred, strict=True)
        if truth or protocol == "strict"
    ]
    truths = {(target, pair) for target, (truth, _) in enumerate(kept) for pair in truth}
    guesses = {(target, pair) for target, (_, guess) in enumerate(kept) for pair in guess or ()}
    per_emotion = {}
    for emotion in labels.ECPE_EMOTIONS:
        mine = {item for item in truths if item[1].emotion == emotion}
        said = {item for item in guesses if item[1].emotion == emotion}
        row = prf(len(mine & said), len(said), len(mine))
        per_emotion[emotion] = row | {"support": len(mine)}
    support = sum(row["support"] for row in per_emotion.values())
    weighted = sum(row["f1"] * row["support"] for row in per_emotion.values())
    return {
        "protocol": protocol,
        "n": len(kept),
        **prf(len(truths & guesses), len(guesses), len(truths)),
        "weighted_f1": weighted / (support or 1),
        "per_emotion": per_emotion,
        "unparseable": sum(guess is None for _, guess in kept),
    }


def self_pairs(turns: Sequence[Turn], target_index: int) -> tuple[Pair, ...]:
    """The floor "cause = target"."""
    target = _at(turns, target_index)
    return (Pair(target.index, target.emotion, target.index),)


def self_and_previous(turns: Sequence[Turn], target_index: int) -> tuple[Pair, ...]:
    """The floor "target + previous utterance"; the target alone when it opens the conversation."""
    target = _at(turns, target_index)
    earlier = [turn.index for turn in turns if turn.index < target_index][-1:]
    return tuple(Pair(target.index, target.emotion, cause) for cause in (*earlier, target.index))


_QUERY = re.compile(
    "(.*?)".join(map(re.escape, (QUESTION, _CANDIDATES)))
    + f".*{re.escape(_TARGET)}([0-9]{{1,9}})_.*{re.escape(_TAIL)}",
    re.DOTALL,
)
_TURN = re.compile(r"([0-9]{1,9})_([^.]*)\. (.*?): (.*)")
_WORD = "|".join(sorted(labels.EMOTION_WORDS, key=len, reverse=True))
# Full-width marks are what models with a Chinese side print.
_SEPARATOR = r"(?:[\s,;:&()\[\]，；、：]|\band\b)"
# An emotion index and word, then causes; a number that opens the next pair is not a cause.
_ANSWER = re.compile(
    rf"(?<![0-9])([0-9]{{1,4}})[ \t_]*({_WORD})\b"
    rf"((?:{_SEPARATOR}+[0-9]{{1,4}}(?![0-9]|[ \t_]*(?:{_WORD})\b))+)"
)
_NOTHING = re.compile(
    r"^\W*(?:no\W*)?$|\b(?:none|null|nothing|empty|n/a|no (?:\w+ )?(?:cause|pair)s?)\b"
)


def _line(turn: Turn) -> str:
    speaker = re.sub(r":\s+", ":", turn.speaker)  # a colon and a space end the name
    line = f"{turn.index}_{turn.emotion}. {speaker}: {turn.text}"
    return re.sub(r"[\r\n]+", " ", line)


def _at(turns: Sequence[Turn], index: int) -> Turn:
    for turn in turns:
        if turn.index == index:
            return turn
    raise EmoVerseError(f"Utterance {index} is not in the conversation; it has {len(turns)}.")


def _bare(text: str, target_index: int) -> list[int]:
    parts = [re.findall("[0-9]+", part)[:99] for part in re.split("[;；]", text)]
    numbers = [[int(number[:9]) for number in part] for part in parts if part]
    if all(len(part) == 2 and part[0] == target_index for part in numbers):
        return [part[1] for part in numbers]
    return [number for part in numbers for number in part]
