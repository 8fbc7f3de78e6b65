"""What the authors' own scoring script would say, trap by trap, beside our figure.

The rules are those of the released `compute_result.py`: exact strings for their own model, and a
second, laxer set of rules for the models it is compared with. Each trap is measured on the answers
at hand, so its effect is in points of the figure it moves. No figure of ours is made this way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emoverse.evaluation.scored import Scored
from emoverse.tasks import ecpe, er, labels, msa
from emoverse.tasks._metrics import accuracy, prf, weighted_f1


@dataclass(frozen=True, slots=True)
class Trap:
    """One rule of the script and what it does to a figure.

    Attributes:
        rule: what the script does.
        figure: which figure it moves.
        ours: that figure by our scorer, theirs: with the trap; None where the script stops with an
            error or divides by zero.
        cases: how many answers it touches.
    """

    rule: str
    figure: str
    ours: float | None
    theirs: float | None
    cases: int

    @property
    def points(self) -> float | None:
        """What the trap adds, in points."""
        if self.ours is None or self.theirs is None:
            return None
        return self.theirs - self.ours


def trap_rows(scored: Scored) -> list[dict[str, Any]]:
    """`traps` as plain JSON values."""
    return [asdict(trap) | {"points": trap.points} for trap in traps(scored)]


def traps(scored: Scored) -> list[Trap]:
    """Every trap of a task, measured on the answers of `scored`; [] for fer and eri.

    The script knows no score for those two.
    """
    found: dict[str, Callable[[Scored], list[Trap]]] = {
        "msa": _msa_traps,
        "er": _er_traps,
        "ecpe": _ecpe_traps,
    }
    return found[scored.task](scored) if scored.task in found and scored.records else []


def _msa_traps(scored: Scored) -> list[Trap]:
    kept = [
        (_sentiment(gold), pred, text)
        for gold, pred, text in zip(scored.gold, scored.pred, scored.texts, strict=True)
    ]
    gold, pred = [row[0] for row in kept], [row[1] for row in kept]
    ours = accuracy(gold, pred)
    exact = [label if text in msa.choices() else None for _, label, text in kept]
    lax = [
        next((word for word in labels.SENTIMENTS if word in text), "negative")
        for _, _, text in kept
    ]
    swapped = _swapped_f1(gold, pred)
    return [
        Trap(
            "an answer counts only as the exact string `Positive.` or `Negative.`",
            "acc2_nn",
            ours,
            accuracy(gold, exact),
            sum(a != b for a, b in zip(exact, pred, strict=True)),
        ),
        Trap(
            "other models: the first lower-case `positive`, else `negative`, found anywhere; no "
            "hit counts as Negative (so does the capital `Positive`)",
            "acc2_nn",
            ours,
            accuracy(gold, lax),
            sum(a != b for a, b in zip(lax, pred, strict=True)),
        ),
        Trap(
            "not theirs, but copied from MulT widely: `f1_score(prediction, truth)` in this order "
            "weights the classes by how often they are predicted",
            "f1_nn",
            weighted_f1(gold, pred),
            swapped,
            len(gold),
        ),
    ]


def _er_traps(scored: Scored) -> list[Trap]:
    gold, pred, texts = list(scored.gold), list(scored.pred), scored.texts
    known = {*er.choices("meld"), *er.choices("mosei")}
    strange = sum(text not in known for text in texts)
    theirs = ("anger", "sadness", "surprise", "disgust", "happy", "neutral", "fear")
    lax = [
        labels.emotion(next((word for word in theirs if word in text), "neutral")) for text in texts
    ]
    touched = sum(a != b for a, b in zip(lax, pred, strict=True))
    rule = (
        "other models: the first of seven lower-case words found anywhere (`joy` is not among "
        "them); no hit, capitals included, counts as Neutral"
    )
    return [
        Trap(
            "any answer but the seven exact strings stops the script",
            "weighted_f1",
            weighted_f1(gold, pred),
            None if strange else weighted_f1(gold, pred),
            strange,
        ),
        Trap(rule, "accuracy", accuracy(gold, pred), accuracy(gold, lax), touched),
        Trap(rule, "weighted_f1", weighted_f1(gold, pred), weighted_f1(gold, lax), touched),
    ]


def _ecpe_traps(scored: Scored) -> list[Trap]:
    """Traps under `paper`; the figures are micro F1 and weighted F1 of the same answers."""
    rows = [
        (tuple(gold), pred, text)
        for gold, pred, text in zip(scored.gold, scored.pred, scored.texts, strict=True)
    ]
    paper = [(gold, pred, text) for gold, pred, text in rows if gold]
    ours = ecpe.score([row[0] for row in paper], [row[1] for row in paper], "paper")
    found = []
    if scored.protocol == "strict":
        strict = ecpe.score([row[0] for row in rows], [row[1] for row in rows], "strict")
        for name in ("f1", "weighted_f1"):
            found.append(
                Trap(
                    "targets without a cause are left out, so naming a cause for them costs "
                    "nothing (our protocol `paper`; ours here: `strict`)",
                    name,
                    strict[name],
                    ours[name],
                    len(rows) - len(paper),
                )
            )
    empty = sum(not text for _, _, text in paper)
    micro, weighted = authors_ecpe([(row[0], row[2]) for row in paper if row[2]])
    whole = authors_ecpe([(row[0], row[2]) for row in paper]) if not empty else (None, None)
    found.append(
        Trap(
            "an empty answer stops the script",
            "f1",
            ours["f1"],
            whole[0],
            empty,
        )
    )
    repeated = sum(len(set(parts := text.split(";"))) < len(parts) for _, _, text in paper)
    found.append(
        Trap(
            "pairs are exact strings and count as often as they are said, so a right one said "
            "twice is right twice (empty answers left out)",
            "f1",
            ecpe.score(
                [row[0] for row in paper if row[2]], [row[1] for row in paper if row[2]], "paper"
            )["f1"],
            micro,
            repeated,
        )
    )
    micro, weighted = baseline_ecpe([(row[0], row[2]) for row in paper])
    rule = (
        "other models: every number in the answer is a cause, the target's own index in "
        "`5_joy,2` included, and the emotion is not looked at"
    )
    touched = sum(bool(text) for _, _, text in paper)
    found.append(Trap(rule, "f1", ours["f1"], micro, touched))
    found.append(Trap(rule, "weighted_f1", ours["weighted_f1"], weighted, touched))
    return found


def authors_ecpe(
    rows: Sequence[tuple[Sequence[ecpe.Pair], str]],
) -> tuple[float | None, float | None]:
    """Micro and weighted F1 in percent as the script counts its own model's answers.

    Args:
        rows: gold pairs and the answer as written; no answer may be empty.

    Returns:
        None for a figure whose computation divides by zero there.
    """
    hits: Counter[str] = Counter()
    said: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for pairs, text in rows:
        wanted = ecpe.answer(pairs).split(";")
        gold.update(_emotion_of(part) for part in wanted)
        for part in text.split(";"):
            emotion = _emotion_of(part)
            said[emotion] += 1
            hits[emotion] += part in wanted
    return _script_figures(hits, said, gold)


def baseline_ecpe(
    rows: Sequence[tuple[Sequence[ecpe.Pair], str]],
) -> tuple[float | None, float | None]:
    """Micro and weighted F1 in percent as the script counts the other models' answers."""
    hits: Counter[str] = Counter()
    said: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for pairs, text in rows:
        emotion = pairs[0].emotion
        causes = [pair.cause_index for pair in pairs]
        gold.update(pair.emotion for pair in pairs)
        for number in re.findall(r"\d+", text):
            said[emotion] += 1
            hits[emotion] += int(number) in causes
    return _script_figures(hits, said, gold)


def _script_figures(
    hits: Counter[str], said: Counter[str], gold: Counter[str]
) -> tuple[float | None, float | None]:
    micro = prf(hits.total(), said.total(), gold.total())["f1"]
    if not all(said[emotion] and gold[emotion] for emotion in labels.ECPE_EMOTIONS):
        return micro, None
    six = [(prf(hits[e], said[e], gold[e])["f1"], gold[e]) for e in labels.ECPE_EMOTIONS]
    return micro, sum(f1 * count for f1, count in six) / sum(count for _, count in six)


def _emotion_of(part: str) -> str:
    return part.split(",")[0].partition("_")[2]


def _sentiment(gold: Any) -> str:
    sign = labels.sentiment(gold) if isinstance(gold, str) else labels.sentiment_of_score(gold)
    return sign or "positive"  # N/N: a zero is not negative


def _swapped_f1(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    return weighted_f1([guess or "unparseable" for guess in pred], list(gold))
