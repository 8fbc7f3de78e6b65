"""A language model as judge of reasons (ERI): EMER's clue and label overlap, from 0 to 10.

Source: Lian et al., "Explainable Multimodal Emotion Reasoning" (arXiv 2306.15401), where ChatGPT
rates how far the clues, and how far the emotions, of an answer overlap with the reference. The
prompts here are our own words for it (`prompts/`), on the 0-10 scale that Emotion-LLaMA (NeurIPS
2024) reports; the authors' released script says 1-10. Every pair is shown in both orders, the
score is the mean of the two, and how well the orders agree is told beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from emoverse.emt.endpoint import Endpoint, EndpointError, Question, ask, connect
from emoverse.errors import EmoVerseError
from emoverse.evaluation.intervals import LEVEL, RESAMPLES, SEED, Floats, resampled
from emoverse.files import read_text

SCALES = ("clue", "label")
HIGHEST = 10.0
_PROMPTS = Path(__file__).parent / "prompts"
_MOST_TOKENS = 400
# A scale that is repeated, "Score (0-10): 6", is not the score.
_RANGE = re.compile(r"[(\[]\s*[0-9]{1,2}\s*(?:-|–|to)\s*[0-9]{1,2}\s*[)\]]")
_SCORE = re.compile(r"score\W{0,6}([0-9]{1,2}(?:\.[0-9]+)?)", re.IGNORECASE)
_NUMBER = re.compile(r"\W*([0-9]{1,2}(?:\.[0-9]+)?)(?:\s*/\s*10)?\W*")


def judge(
    gold: Sequence[str], said: Sequence[str], endpoint: Endpoint, cache: Path
) -> dict[str, Any]:
    """Rate answers against reference reasons.

    Args:
        gold: reference reasons.
        said: answers, same length; an empty one is rated 0 without asking.
        endpoint: the judge.
        cache: folder of kept replies: a stopped run pays for nothing twice, and judging again
            asks nothing.

    Returns:
        model, url, prompts (SHA-256 by scale), scale [0, 10], n, and for `clue` and `label` each:
        mean, interval (95 % bootstrap over samples), unparseable (samples that got no score in
        one of the orders; left out of the mean), agreement of the two orders.

    Raises:
        EmoVerseError: the endpoint cannot be reached, or refuses to be asked.
    """
    if len(gold) != len(said):
        raise EmoVerseError(f"{len(gold)} references but {len(said)} answers; give one each.")
    result: dict[str, Any] = {
        "model": endpoint.model,
        "url": endpoint.url,
        "prompts": {scale: _sha256(read_text(_prompt_file(scale))) for scale in SCALES},
        "scale": [0, HIGHEST],
        "n": len(gold),
        "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
    }
    asked = [place for place, text in enumerate(said) if text.strip()]
    pairs = [(gold[place], said[place]) for place in asked]
    for scale in SCALES:
        both = _rated(scale, pairs, endpoint, cache)
        scores = np.zeros((len(gold), 2))
        scores[asked] = both
        result[scale] = _figures(scores) | {"agreement": agreement(both[:, 0], both[:, 1])}
    return result


def agreement(first: Floats, second: Floats) -> dict[str, float | int | None]:
    """How well two ratings of the same items agree; pairs with a NaN are left out.

    Args:
        first: (n,) scores in [0, 10]; with the reference shown first.
        second: (n,) scores; with the answer shown first.

    Returns:
        n; mean_difference (second - first: the pull of the order); mean_distance; within_1, the
        share in percent at most 1 apart; pearson; kappa, Cohen's with quadratic weights over the
        scores rounded to whole points (Cohen 1968). None where undefined.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    a, b = first[known], second[known]
    if not len(a):
        return {"n": 0} | dict.fromkeys(
            ("mean_difference", "mean_distance", "within_1", "pearson", "kappa")
        )
    varied = len(a) > 1 and a.std() > 0 and b.std() > 0
    return {
        "n": len(a),
        "mean_difference": float((b - a).mean()),
        "mean_distance": float(np.abs(b - a).mean()),
        "within_1": float(100 * (np.abs(b - a) <= 1).mean()),
        "pearson": float(np.corrcoef(a, b)[0, 1]) if varied else None,
        "kappa": _weighted_kappa(np.rint(a), np.rint(b)),
    }


def read_score(reply: str) -> float | None:
    """The rating in a judge's reply: after its last "Score", or all it consists of; None: none."""
    reply = _RANGE.sub("", reply)
    marked = _SCORE.findall(reply)
    whole = _NUMBER.fullmatch(reply)
    found = marked[-1] if marked else whole[1] if whole else None
    value = float(found) if found is not None else None
    return value if value is not None and value <= HIGHEST else None


def prompt(scale: str, first: str, second: str) -> str:
    """The judge's prompt with both descriptions put in, each on one line."""
    template = Template(read_text(_prompt_file(scale)))
    return template.substitute(first=" ".join(first.split()), second=" ".join(second.split()))


def _rated(scale: str, pairs: Sequence[tuple[str, str]], endpoint: Endpoint, cache: Path) -> Floats:
    """(n, 2) scores: reference first, answer first; NaN where the judge gave none."""
    questions = [
        Question(prompt(scale, *order), max_tokens=_MOST_TOKENS)
        for gold, said in pairs
        for order in ((gold, said), (said, gold))
    ]
    replies = asyncio.run(_ask_all(questions, endpoint, cache))
    scores = [read_score(reply) for reply in replies]
    return np.array([np.nan if score is None else score for score in scores]).reshape(-1, 2)


async def _ask_all(questions: Sequence[Question], endpoint: Endpoint, cache: Path) -> list[str]:
    room = asyncio.Semaphore(endpoint.concurrency)

    async def one(question: Question) -> str:
        async with room:
            return (await ask(client, endpoint, question, cache)).text

    different = list(dict.fromkeys(questions))  # equal ones at once would all miss the cache
    async with connect(endpoint) as client:
        try:
            replies = await asyncio.gather(*(one(question) for question in different))
        except EndpointError as error:
            raise EmoVerseError(
                f"The judge {endpoint.model} at {endpoint.url} gave no answer: {error}; what it "
                "has said is kept, so run the same command again."
            ) from None
    said = dict(zip(different, replies, strict=True))
    return [said[question] for question in questions]


def _figures(scores: Floats) -> dict[str, Any]:
    means = scores.mean(axis=1)
    known = means[~np.isnan(means)]
    counts = np.stack([known, np.ones_like(known)], axis=1)
    interval = None
    if len(known):
        sums = resampled(counts)
        low, high = np.percentile(sums[:, 0] / sums[:, 1], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
        interval = [round(float(low), 4), round(float(high), 4)]
    return {
        "mean": float(known.mean()) if len(known) else None,
        "interval": interval,
        "unparseable": int(np.isnan(means).sum()),
    }


def _weighted_kappa(a: Floats, b: Floats) -> float | None:
    expected = float(((a[:, None] - b[None, :]) ** 2).mean())
    return 1 - float(((a - b) ** 2).mean()) / expected if expected else None


def _prompt_file(scale: str) -> Path:
    return _PROMPTS / f"judge_{scale}.txt"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
