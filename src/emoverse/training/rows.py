"""Records to rows: samples that share a prefix are merged and trained in one pass.

A dialogue's ER queries repeat its turns, a conversation's ECPE queries repeat all of it, and
every query repeats the system prompt. `rows` groups such samples and merges each group into a
prefix tree, so that shared tokens are run once; the losses are those of the samples by themselves.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from emoverse.emt.record import Record
from emoverse.models.prefix_tree import PrefixTree, common_prefix, merge
from emoverse.models.prompt import answer_tokens, dictated, prompt_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One record as tokens.

    Attributes:
        record: where it comes from.
        tokens: prompt and answer, image features as negative ids.
        learnt: indices into `tokens` of the answer tokens that carry loss.
    """

    record: Record
    tokens: list[int]
    learnt: list[int]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A prefix tree with the places where it is trained.

    Attributes:
        tree: merged samples.
        nodes: (k,) node whose output predicts a learnt token.
        targets: (k,) that token.
        weights: (k,) its weight in the loss.
        owners: (k,) index into `samples`.
        samples: the merged samples.
    """

    tree: PrefixTree
    nodes: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    owners: np.ndarray
    samples: tuple[Sample, ...]


def sample_of(
    record: Record,
    tokenizer: PreTrainedTokenizerBase,
    features: Mapping[str, Sequence[int]],
) -> Sample:
    """Tokenise a record.

    Args:
        record: its media must be keys of `features`; others are left out.
        tokenizer: the model's.
        features: media path to the negative ids of its visual features.
    """
    images = [features[path] for path in record.media if path in features]
    prompt = prompt_tokens(tokenizer, record.query, images)
    answer = answer_tokens(tokenizer, record.response)
    forced = dictated(tokenizer, answer)
    learnt = [len(prompt) + place for place, skip in enumerate(forced) if not skip]
    return Sample(record, prompt + answer, learnt)


def rows(samples: Sequence[Sample], row_tokens: int, rng: random.Random) -> list[Row]:
    """Group samples into rows of at most `row_tokens` distinct tokens (one sample may be longer).

    Samples of one dialogue stay together as far as they fit; the rest are shuffled, by task so
    that they share as much as they can.
    """
    groups: dict[str, list[Sample]] = {}
    loose: dict[str, list[Sample]] = {}
    for sample in samples:
        dialogue = sample.record.meta.get("dialogue")
        if dialogue and sample.record.task in ("er", "ecpe"):
            groups.setdefault(f"{sample.record.task}/{dialogue}", []).append(sample)
        else:
            loose.setdefault(sample.record.task, []).append(sample)
    found = []
    for group in groups.values():
        longest = max(len(sample.tokens) for sample in group)
        found += _filled(group, max(row_tokens, min(2 * longest, 1536)))
    for group in loose.values():
        rng.shuffle(group)
        found += _filled(group, row_tokens)
    return found


def batches(found: Sequence[Row], batch_tokens: int, rng: random.Random) -> list[list[Row]]:
    """Rows of similar length side by side, at most `batch_tokens` with padding; then shuffled."""
    ordered = sorted(found, key=lambda row: len(row.tree.tokens))
    result: list[list[Row]] = []
    for row in ordered:
        length = len(row.tree.tokens)  # the longest so far, as the rows are sorted
        if result and (len(result[-1]) + 1) * length <= batch_tokens:
            result[-1].append(row)
        else:
            result.append([row])
    rng.shuffle(result)
    return result


def _filled(group: Sequence[Sample], limit: int) -> list[Row]:
    result: list[Row] = []
    current: list[Sample] = []
    size = 0
    for sample in group:
        new = len(sample.tokens) - (
            common_prefix(current[-1].tokens, sample.tokens) if current else 0
        )
        if current and size + new > limit:
            result.append(_row(current))
            current, size, new = [], 0, len(sample.tokens)
        current.append(sample)
        size += new
    if current:
        result.append(_row(current))
    return result


def _row(samples: Sequence[Sample]) -> Row:
    tree = merge([sample.tokens for sample in samples])
    nodes, targets, weights, owners = [], [], [], []
    for owner, (sample, path) in enumerate(zip(samples, tree.paths, strict=True)):
        for place in sample.learnt:
            nodes.append(path[place - 1])
            targets.append(sample.tokens[place])
            # Between the token mean (one reason would outweigh thirty labels) and the sample mean
            # (a long answer's every token would hardly count).
            weights.append(len(sample.learnt) ** -0.5)
            owners.append(owner)
    return Row(
        tree,
        np.array(nodes),
        np.array(targets),
        np.array(weights, dtype=np.float32),
        np.array(owners),
        tuple(samples),
    )
