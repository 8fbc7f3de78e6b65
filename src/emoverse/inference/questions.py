"""A record as a question to the model, and what its scores mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoverse.emt.record import Record
from emoverse.inference import causes, scoring
from emoverse.inference.calibration import Calibration
from emoverse.inference.interview import Prediction
from emoverse.inference.reader import Prompt, Reader, Seen
from emoverse.models.prompt import dictated
from emoverse.tasks import ecpe, er, msa


@dataclass(frozen=True, slots=True, eq=False)
class Posed:
    """A record's question.

    Attributes:
        record: what is asked.
        question: the same as tokens.
        answers: the allowed answers in words; () when the answer is to be written.
        turns: ECPE's conversation.
        target: ECPE's utterance.
        sets: ECPE: the causes that each answer names.
    """

    record: Record
    question: scoring.Question
    answers: tuple[str, ...] = ()
    turns: tuple[ecpe.Turn, ...] = ()
    target: ecpe.Turn | None = None
    sets: tuple[tuple[int, ...], ...] = ()

    def settle(self, log_probabilities: np.ndarray, calibration: Calibration) -> Prediction:
        """The answer that follows from the scores.

        Args:
            log_probabilities: (answers,), not normalised.
            calibration: the model's.
        """
        task = self.record.task
        probabilities = calibration.probabilities(task, self.answers, log_probabilities)
        if self.target is None:
            parse = msa.parse if task == "msa" else er.parse
            best = self.answers[int(probabilities.argmax())]
            named = {
                str(parse(answer)): float(probability)
                for answer, probability in zip(self.answers, probabilities, strict=True)
            }
            return Prediction(self.record.id, best, parse(best), named)
        # Several causes have more ways to be told than one: the marginals decide.
        found, named_causes = calibration.causes(
            self.turns, self.target.index, self.sets, probabilities
        )
        pairs = _pairs(self.target, named_causes)
        return Prediction(
            self.record.id,
            ecpe.answer(pairs),
            [[pair.emotion_index, pair.emotion, pair.cause_index] for pair in pairs],
            {str(index): probability for index, probability in found.items()},
        )


def pose(reader: Reader, record: Record, seen: Seen) -> Posed:
    """Put a record's question into tokens, with the answers it allows.

    Args:
        reader: of the model that is asked.
        record: of any task.
        seen: what the record shows.

    Raises:
        EmoVerseError: an ECPE query is not in its task's wording.
    """
    prompt = reader.prompt(record.query, seen)
    if record.task in ("fer", "eri"):
        return Posed(record, scoring.Question(prompt.tokens, positions=prompt.positions))
    if record.task == "ecpe":
        turns, index = ecpe.parse_query(record.query)
        target = next(turn for turn in turns if turn.index == index)
        sets = tuple(causes.cause_sets(turns, index))
        answers = tuple(ecpe.answer(_pairs(target, names)) for names in sets)
        return Posed(record, _question(reader, prompt, answers), answers, turns, target, sets)
    if record.task == "msa":
        answers = msa.choices()
    else:
        # Behind the question, for those who speak may be happy, too.
        offered = record.query.rpartition(er.QUESTION)[2]
        mosei = f" {er.answer('joy', 'mosei')[:-1].lower()}," in offered
        answers = er.choices("mosei" if mosei else "meld")
    return Posed(record, _question(reader, prompt, answers), answers)


def _question(reader: Reader, prompt: Prompt, answers: Sequence[str]) -> scoring.Question:
    whole = [reader.answer(answer) for answer in answers]
    tokens = scoring.deciding(whole)
    scored = [
        [place for place in range(len(cut)) if not forced[place]]
        for cut, forced in zip(
            tokens, (dictated(reader.model.tokenizer, answer) for answer in whole), strict=True
        )
    ]
    return scoring.Question(prompt.tokens, tokens, scored, prompt.positions)


def _pairs(target: ecpe.Turn, names: Sequence[int]) -> list[ecpe.Pair]:
    return [ecpe.Pair(target.index, target.emotion, index) for index in names]
