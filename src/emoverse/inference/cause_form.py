"""What the form of a conversation says about causes, before a word is read.

Most emotions are caused by what the speaker is saying or by the utterance before; how far back a
cause lies goes with speakers, emotions and lengths. A small language model has to guess such counts
from a prompt; a logistic regression has them at once. The two are joined as independent witnesses,

    log-odds(cause) = words * logit(marginal) + form * sum of weights(features) + bias,

a "logarithmic opinion pool" (Genest & Zidek, "Combining Probability Distributions", 1986). Its
weights are fitted by `emoverse calibrate` on conversations that the model was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from emoverse.tasks.ecpe import Turn

# Which attributes of a candidate are counted together; each is a feature for every value it takes.
_CROSSES = (
    ("distance", "speaker", "emotion"),
    ("distance", "target"),
    ("distance", "candidate"),
    ("target", "candidate"),
    ("distance", "before"),
    ("distance", "words"),
    ("distance", "target words"),
    ("distance", "words between"),
    ("distance", "place"),
    ("distance", "start"),
    ("distance", "left"),
    ("distance", "changes"),
    ("distance", "feeling between"),
    ("emotion", "emotion between"),
    ("speaker", "speaker between"),
    ("distance", "emotion", "next emotion"),
    ("distance", "last emotion"),
    ("distance", "last speaker"),
)
_NEAREST_TO_0 = 1e-4  # marginals closer to 0 or 1 are no surer than this


@dataclass(frozen=True, slots=True)
class CauseForm:
    """A fitted regression on `features`, and how it joins the model's marginals.

    Attributes:
        weights: feature to its log-odds; 0 for what is not there.
        words: weight of the model's log-odds.
        form: weight of the regression's.
        bias: added to both.
    """

    weights: Mapping[str, float]
    words: float
    form: float
    bias: float

    def joined(
        self, marginals: Mapping[int, float], turns: Sequence[Turn], target: int
    ) -> dict[int, float]:
        """The probability of each cause by words and form together.

        Args:
            marginals: of the model, by `Turn.index` of the cause.
            turns: the conversation.
            target: `Turn.index` of the target utterance.
        """
        said = log_odds(self.weights, turns, target)
        odds = {
            index: self.words * logit(marginal) + self.form * said[index] + self.bias
            for index, marginal in marginals.items()
        }
        return {index: 1 / (1 + math.exp(-value)) for index, value in odds.items()}


def log_odds(weights: Mapping[str, float], turns: Sequence[Turn], target: int) -> dict[int, float]:
    """What the form alone says of each candidate; arguments as of `CauseForm` and `features`."""
    return {
        index: sum(weights.get(name, 0.0) for name in names)
        for index, names in features(turns, target).items()
    }


def logit(probability: float) -> float:
    """Log-odds, kept finite."""
    inside = min(max(probability, _NEAREST_TO_0), 1 - _NEAREST_TO_0)
    return math.log(inside / (1 - inside))


def features(turns: Sequence[Turn], target: int) -> dict[int, list[str]]:
    """The features of every candidate cause: the utterances up to the target.

    Args:
        turns: the conversation.
        target: `Turn.index` of the target utterance.

    Returns:
        `Turn.index` of the candidate to names such as `distance 1, words 2`.
    """
    place = [turn.index for turn in turns].index(target)
    found = {}
    for candidate in range(place + 1):
        values = _attributes(turns, place, candidate)
        found[turns[candidate].index] = [
            ", ".join(f"{name} {values[name]}" for name in cross) for cross in _CROSSES
        ]
    return found


def _attributes(turns: Sequence[Turn], place: int, candidate: int) -> dict[str, str | int]:
    """Attributes of (target, candidate) by place in the conversation, in few values each."""
    target, cause = turns[place], turns[candidate]
    between = turns[candidate + 1 : place]
    following = turns[candidate + 1 : candidate + 2]
    last = turns[candidate - 1 : candidate] if candidate else ()
    before = turns[place - 1 : place] if place else ()
    path = turns[candidate : place + 1]
    return {
        "distance": min(place - candidate, 7),
        "speaker": _same(cause.speaker, target.speaker),
        "emotion": _emotion(cause, target),
        "target": target.emotion,
        "candidate": cause.emotion,
        "before": "".join(
            f"{_same(turn.speaker, target.speaker)} {_emotion(turn, target)}" for turn in before
        ),
        "words": _words([cause], 4),
        "target words": _words([target], 4),
        "words between": _words(between, 8),
        "place": min(place, 8),
        "start": min(candidate, 3),
        "left": min(len(turns) - 1 - place, 3),
        "changes": min(sum(a.speaker != b.speaker for a, b in pairwise(path)), 5),
        "feeling between": min(sum(turn.emotion != "neutral" for turn in between), 3),
        "emotion between": min(sum(turn.emotion == target.emotion for turn in between), 3),
        "speaker between": min(sum(turn.speaker == target.speaker for turn in between), 3),
        "next emotion": "".join(_same(turn.emotion, cause.emotion) for turn in following),
        "last emotion": "".join(_same(turn.emotion, cause.emotion) for turn in last),
        "last speaker": "".join(_same(turn.speaker, cause.speaker) for turn in last),
    }


def _emotion(turn: Turn, target: Turn) -> str:
    return "neutral" if turn.emotion == "neutral" else _same(turn.emotion, target.emotion)


def _same(one: str, other: str) -> str:
    return "same" if one == other else "other"


def _words(turns: Sequence[Turn], step: int) -> int:
    return min(sum(len(turn.text.split()) for turn in turns) // step, 5)
