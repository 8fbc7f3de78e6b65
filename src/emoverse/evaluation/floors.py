"""What a model that has learnt nothing reaches: printed beside every score.

`msa` and `er`: the majority class, and for sentiment scores the median. `fer`: the most frequent
action units. These are counted in a training set where one is named, else among the evaluated
labels themselves, the best that a constant answer can do there; the name says which. `eri`: the
reason of another record, which has the manner of speaking but not the matter. `ecpe`: "cause =
target", "target + previous utterance", and "no text", a gradient-boosted classifier over
positions, speakers, emotions and lengths that never sees a word.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.emt.record import load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import gold_label, turns_key
from emoverse.evaluation.scored import Scored
from emoverse.evaluation.semeval import Conversation, is_semeval_file, load_semeval
from emoverse.files import read_json, write_json
from emoverse.tasks import ecpe, labels
from emoverse.tasks.ecpe import Pair, Turn

CAUSE_IS_TARGET = "cause = target"
TARGET_AND_PREVIOUS = "target + previous utterance"
NO_TEXT = "no text"
_VERSION = 1  # of the features and settings below; part of the cache key
_FOLDS = 5
_CATEGORICAL = 6  # the first columns are emotion codes
Floats = NDArray[np.float64]


def plain_floors(scored: Scored, train_gold: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
    """The floors that need no model, as headline figures by name.

    Args:
        scored: what is evaluated.
        train_gold: gold labels of a training set, whose majority class is then taken; without it
            the majority of the evaluated set itself, the best any constant answer can do.
    """
    if not scored.records:
        return {}
    if scored.task != "ecpe":
        name, guesses, values = _constant(scored, train_gold or scored.gold)
        if name.startswith("always"):
            name += " (most frequent in training)" if train_gold else " (most frequent here)"
        return {name: scored.headline(scored.score_of(guesses, values))} if name else {}
    queries = [ecpe.parse_query(record.query) for record in scored.records]
    rules: Mapping[str, Callable[[Sequence[Turn], int], tuple[Pair, ...]]] = {
        CAUSE_IS_TARGET: ecpe.self_pairs,
        TARGET_AND_PREVIOUS: ecpe.self_and_previous,
    }
    return {
        name: scored.headline(scored.score_of([rule(turns, target) for turns, target in queries]))
        for name, rule in rules.items()
    }


def floors(
    scored: Scored, train: Path | str | None = None, cache: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Every floor of a task; "no text" only for `ecpe` and where there is a training set.

    Args:
        scored: what is evaluated.
        train: records, the authors' JSON or SemEval JSON of a training set. Conversations that
            are also evaluated are left out of it, so a full file may be named.
        cache: folder of the answers of "no text"; None is the package's cache folder.

    Raises:
        EmoVerseError: the training set is unreadable or has nothing for the task.
    """
    if train is None:
        return plain_floors(scored)
    if scored.task != "ecpe":
        return plain_floors(scored, _train_gold(train, scored.task))
    result = plain_floors(scored)
    if scored.records:
        guesses = no_text_answers(scored, load_conversations(train), cache)
        result[NO_TEXT] = scored.headline(scored.score_of(guesses))
    return result


def load_conversations(path: Path | str) -> list[Conversation]:
    """Annotated conversations out of SemEval JSON or ECPE records.

    Raises:
        EmoVerseError: the file holds neither.
    """
    if is_semeval_file(path):
        return load_semeval(path)
    turns_of: dict[str, tuple[Turn, ...]] = {}
    pairs_of: dict[str, list[Pair]] = {}
    for record in load_records(path):
        if record.task == "ecpe":
            turns, _ = ecpe.parse_query(record.query)
            key = turns_key(turns)
            turns_of[key] = turns
            pairs_of.setdefault(key, []).extend(gold_label(record))
    return [Conversation(key, turns, tuple(pairs_of[key])) for key, turns in turns_of.items()]


def no_text_answers(
    scored: Scored, train: Sequence[Conversation], cache: Path | None = None
) -> list[tuple[Pair, ...]]:
    """Pairs per scored target of the classifier that sees no word.

    The threshold is tuned for pair F1 by cross-validation over the training conversations. Under
    `paper` every target has a cause, so the likeliest candidate is taken where none passes it.

    Raises:
        EmoVerseError: the training set has fewer than 10 other conversations with causes.
    """
    queries = [ecpe.parse_query(record.query) for record in scored.records]
    seen = {turns_key(turns) for turns, _ in queries}
    train = [one for one in train if one.turns and turns_key(one.turns) not in seen and one.pairs]
    if len(train) < 2 * _FOLDS:
        raise EmoVerseError(
            f'The floor "no text" needs {2 * _FOLDS} or more training conversations that are not '
            f"evaluated, and found {len(train)}; name a larger training set."
        )
    file = _cache_file(scored, train, cache)
    if file.is_file():
        chosen = read_json(file)["causes"]
    else:
        chosen = _learn(train, queries, always=scored.protocol == "paper")
        write_json(file, {"causes": chosen})
    answers = []
    for (turns, target), causes in zip(queries, chosen, strict=True):
        emotion = next(turn.emotion for turn in turns if turn.index == target)
        answers.append(tuple(Pair(target, emotion, cause) for cause in causes))
    return answers


def pair_features(turns: Sequence[Turn], target: int) -> Floats:
    """Features of (target, candidate) for every candidate, the target itself last.

    Returns:
        (candidates, features): emotion codes first, then distances, positions, speaker
        identities and lengths; nothing that depends on which words are said.
    """
    order = [turn.index for turn in turns]
    place = order.index(target)
    codes = [_code(turn.emotion) for turn in turns]
    speakers = [turn.speaker for turn in turns]
    chars = [len(turn.text) for turn in turns]
    words = [len(turn.text.split()) for turn in turns]
    count, here = len(turns), turns[place]
    neutral = _code("neutral")
    rows = []
    for other in range(place + 1):
        between = range(other + 1, place)
        rows.append(
            [
                codes[place],
                codes[other],
                codes[other - 1] if other else -1,
                codes[other + 1] if other + 1 < count else -1,
                codes[place - 1] if place else -1,
                codes[place + 1] if place + 1 < count else -1,
                place - other,
                other,
                place,
                count,
                count - place,
                place / count,
                other / count,
                speakers[other] == here.speaker,
                place > 0 and speakers[place - 1] == here.speaker,
                other > 0 and speakers[other - 1] == speakers[other],
                other + 1 < count and speakers[other + 1] == here.speaker,
                codes[other] == codes[place],
                sum(codes[k] == codes[place] for k in between),
                sum(codes[k] != neutral for k in between),
                sum(speakers[k] == here.speaker for k in between),
                sum(speakers[k] == speakers[other] for k in between),
                sum(a != b for a, b in pairwise(speakers[other : place + 1])),
                len(set(speakers)),
                len(set(speakers[: place + 1])),
                chars[place],
                chars[other],
                words[place],
                words[other],
                sum(words[other + 1 : place]),
                words[place - 1] if place else 0,
                words[other] / (words[other] + words[place] + 1),
                sum(code != neutral for code in codes) / count,
            ]
        )
    return np.array(rows, dtype=np.float64)


def _learn(
    train: Sequence[Conversation],
    queries: Sequence[tuple[Sequence[Turn], int]],
    *,
    always: bool,
) -> list[list[int]]:
    """Cause indices per query; with `always` at least one each."""
    from sklearn.model_selection import GroupKFold

    blocks, truths, groups, sizes, out_of_reach = [], [], [], [], 0
    for number, conversation in enumerate(train):
        for target in conversation.targets:
            causes = {pair.cause_index for pair in conversation.causes(target)}
            if always and not causes:
                continue
            features = pair_features(conversation.turns, target)
            candidates = [turn.index for turn in conversation.turns][: len(features)]
            hit = np.array([index in causes for index in candidates])
            out_of_reach += len(causes) - int(hit.sum())
            blocks.append(features)
            truths.append(hit)
            groups += [number] * len(features)
            sizes.append(len(features))
    x, y, group = np.concatenate(blocks), np.concatenate(truths), np.array(groups)
    chances = np.zeros(len(y))
    for fit, held in GroupKFold(n_splits=_FOLDS).split(x, y, group):
        chances[held] = _classifier().fit(x[fit], y[fit]).predict_proba(x[held])[:, 1]
    threshold = _best_threshold(chances, y, sizes, out_of_reach, always=always)
    asked = [pair_features(turns, target) for turns, target in queries]
    lengths = [len(features) for features in asked]
    chances = _classifier().fit(x, y).predict_proba(np.concatenate(asked))[:, 1]
    taken = np.split(_take(chances, lengths, threshold, always=always), np.cumsum(lengths)[:-1])
    return [
        [turns[int(place)].index for place in np.flatnonzero(mine)]
        for (turns, _), mine in zip(queries, taken, strict=True)
    ]


def _classifier() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=160,
        max_leaf_nodes=24,
        min_samples_leaf=30,
        l2_regularization=1.0,
        categorical_features=list(range(_CATEGORICAL)),
        early_stopping=False,
        random_state=0,
    )


def _best_threshold(
    chances: Floats, truth: NDArray[np.bool_], sizes: Sequence[int], lost: int, *, always: bool
) -> float:
    def f1(threshold: float) -> float:
        taken = _take(chances, sizes, threshold, always=always)
        hits = int((taken & truth).sum())
        return 2 * hits / (int(taken.sum()) + int(truth.sum()) + lost)

    return max((float(value) for value in np.arange(0.2, 0.75, 0.01)), key=f1)


def _take(
    chances: Floats, sizes: Sequence[int], threshold: float, *, always: bool
) -> NDArray[np.bool_]:
    taken: NDArray[np.bool_] = chances >= threshold
    if always:
        lengths = np.asarray(sizes, dtype=np.intp)
        starts = np.cumsum(lengths, dtype=np.intp) - lengths
        best = np.maximum.reduceat(chances, starts)
        taken = taken | (chances == np.repeat(best, lengths))
    return taken


def _cache_file(scored: Scored, train: Sequence[Conversation], cache: Path | None) -> Path:
    if cache is None:
        from emoverse.models.weights import cache_dir

        cache = cache_dir() / "floors"
    from sklearn import __version__ as sklearn_version

    digest = hashlib.sha256(json.dumps([_VERSION, scored.protocol, sklearn_version]).encode())
    for record in scored.records:
        digest.update(record.query.encode())
    for one in train:
        digest.update(repr((one.turns, one.pairs)).encode())
    return cache / f"no-text-{digest.hexdigest()[:24]}.json"


def _train_gold(path: Path | str, task: str) -> list[Any]:
    if is_semeval_file(path):
        return []
    return [gold_label(record) for record in load_records(path) if record.task == task]


def _constant(
    scored: Scored, gold: Sequence[Any]
) -> tuple[str, list[Any], list[float | None] | None]:
    """Name, answers and (msa) scores of the floor that does not look at the record."""
    count = len(scored.gold)
    if scored.task == "fer":
        sizes = [len(set(codes)) for codes in gold]
        common = Counter(code for codes in gold for code in sorted(set(codes)))
        most = [code for code, _ in common.most_common(round(sum(sizes) / len(sizes)))]
        return f"always {' '.join(sorted(most)) or 'no AU'}", [tuple(most)] * count, None
    if scored.task == "eri":
        if len(gold) < 2:
            return "", [], None
        others = [gold[(place + len(gold) // 2) % len(gold)] for place in range(count)]
        return "another record's reason", others, None
    majority = Counter(label for label in map(_class, gold) if label).most_common(1)
    if not majority:
        return "", [], None
    label = majority[0][0]
    numbers = [value for value in gold if isinstance(value, float)]
    if scored.values is None or not numbers:
        return f"always {label}", [label] * count, None
    middle = statistics.median(numbers)
    return f"always {label}, {middle:+.2g}", [label] * count, [middle] * count


def _class(value: Any) -> str | None:
    return labels.sentiment_of_score(value) if isinstance(value, float) else value


def _code(emotion: str) -> int:
    return labels.EMOTIONS.index(emotion) if emotion in labels.EMOTIONS else -1
