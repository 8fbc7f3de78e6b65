"""Records to rows: samples that share a prefix are merged and trained in one pass.

A dialogue's ER queries repeat its turns, a conversation's ECPE queries repeat all of it, and
every query repeats the system prompt. `rows` groups such samples and merges each group into a
prefix tree, so that shared tokens are run once; the losses are those of the samples by themselves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from emoverse.emt.record import Record
from emoverse.m2se.recipe import Recipe, Stage
from emoverse.models.prefix_tree import PrefixTree, common_prefix, merge, pack
from emoverse.models.prompt import answer_tokens, dictated, prompt_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One record as tokens.

    Attributes:
        record: where it comes from.
        tokens: prompt and answer, image features as negative ids.
        learnt: indices into `tokens` of the answer tokens that carry loss.
        positions: (axes, len) of models that give a token several positions; None counts up.
    """

    record: Record
    tokens: list[int]
    learnt: list[int]
    positions: np.ndarray | None = None


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


def rows(
    samples: Sequence[Sample], row_tokens: int, rng: random.Random, kind: str = "merged"
) -> list[Row]:
    """Group samples into rows of at most `row_tokens` distinct tokens (one sample may be longer).

    Samples of one dialogue, and the tasks of one clip, stay together as far as they fit; the rest
    are shuffled, by task so that they share as much as they can.

    Args:
        samples: what is trained.
        row_tokens: the limit.
        rng: decides the order.
        kind: `merged`, `packed` (nothing shared) or `padded` (a row for each sample).
    """
    if kind != "merged":
        order = list(samples)
        rng.shuffle(order)
        return _filled(order, row_tokens if kind == "packed" else 0, merged=False)
    clips = Counter(sample.record.media for sample in samples if _is_long(sample))
    groups: dict[str, list[Sample]] = {}
    loose: dict[str, list[Sample]] = {}
    for sample in samples:
        dialogue = sample.record.meta.get("dialogue")
        # Long pictures stand before the words, so nothing but them can be shared.
        if clips[sample.record.media] > 1:
            groups.setdefault("\0".join(sample.record.media), []).append(sample)
        elif dialogue and sample.record.task in ("er", "ecpe"):
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


def stage_steps(
    samples: Sequence[Sample], recipe: Recipe, stage: Stage, number: int
) -> tuple[list[list[list[Row]]], set[int]]:
    """Optimiser steps of a stage, each some batches of rows, and how many end each epoch.

    They follow from the seed, the stage's number and the samples alone.
    """
    steps: list[list[list[Row]]] = []
    ends = set()
    for epoch in range(stage.epochs):
        steps += _epoch_steps(samples, recipe, random.Random(f"{recipe.seed}/{number}/{epoch}"))
        ends.add(len(steps))
    return steps, ends


def _epoch_steps(
    samples: Sequence[Sample], recipe: Recipe, rng: random.Random
) -> Iterator[list[list[Row]]]:
    """Batches in groups that together hold enough answers."""
    step: list[list[Row]] = []
    found = rows(samples, recipe.row_tokens, rng, recipe.rows)
    for batch in batches(found, recipe.batch_tokens, rng):
        step.append(batch)
        if sum(len(row.samples) for part in step for row in part) >= recipe.batch_samples:
            yield step
            step = []
    if step:
        yield step


# A picture of a few tokens is not worth a row of its own: the compact model's has 9.
_LONG_PICTURE = 32


def _is_long(sample: Sample) -> bool:
    return sum(token < 0 for token in sample.tokens) >= _LONG_PICTURE


def _filled(group: Sequence[Sample], limit: int, *, merged: bool = True) -> list[Row]:
    result: list[Row] = []
    current: list[Sample] = []
    size = 0
    for sample in group:
        new = len(sample.tokens)
        if current and merged:
            new -= common_prefix(current[-1].tokens, sample.tokens)
        if current and size + new > limit:
            result.append(row_of(current, merged))
            current, size, new = [], 0, len(sample.tokens)
        current.append(sample)
        size += new
    if current:
        result.append(row_of(current, merged))
    return result


def row_of(samples: Sequence[Sample], merged: bool = True) -> Row:
    """Samples as one row; without `merged`, side by side and sharing nothing."""
    tree = (merge if merged else pack)([sample.tokens for sample in samples])
    axes = [len(sample.positions) for sample in samples if sample.positions is not None]
    if axes:
        positions = np.tile(tree.positions, (axes[0], 1))
        for sample, path in zip(samples, tree.paths, strict=True):
            if sample.positions is not None:
                positions[:, path] = sample.positions
        tree = replace(tree, positions=positions)
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
