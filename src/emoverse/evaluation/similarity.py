"""BERTScore-style similarity of reasons: an extra, for figures that do not need the same words.

Zhang et al., "BERTScore", ICLR 2020: every token's vector is matched with its most similar one on
the other side; recall averages over the reference's tokens, precision over the answer's. No
rescaling with a baseline and no idf weights, so values are high and close together: compare runs
with it, do not read it as a share. Figures of different models or layers cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from emoverse.errors import EmoVerseError
from emoverse.evaluation.intervals import LEVEL, Floats, resampled
from emoverse.models import weights

_BATCH = 16
_LONGEST = 256


def similarity(gold: Sequence[str], said: Sequence[str], model: str = "compact") -> dict[str, Any]:
    """Mean greedy-matching precision, recall and F1 of answers against references.

    Args:
        gold: reference prose.
        said: answers, same length; an empty one scores 0.
        model: `compact` for SmolLM2-135M, or a folder with a transformers language model.

    Returns:
        model, layer (counted from the embeddings, which are 0), n, precision, recall, f1 (in
        percent), interval (95 % bootstrap of f1).

    Raises:
        EmoVerseError: the lengths differ, or there is no such model.
    """
    if len(gold) != len(said):
        raise EmoVerseError(f"{len(gold)} references but {len(said)} answers; give one each.")
    vectors, layer = _vectors([*gold, *said], model)
    pairs = zip(vectors[: len(gold)], vectors[len(gold) :], strict=True)
    rows = np.array([_matched(a, b) for a, b in pairs]).reshape(-1, 3)
    sums = resampled(np.concatenate([rows, np.ones((len(rows), 1))], axis=1))
    low, high = np.percentile(100 * sums[:, 2] / sums[:, 3], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    precision, recall, f1 = (100 * float(value) for value in rows.mean(axis=0))
    return {
        "model": model,
        "layer": layer,
        "n": len(rows),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def _matched(gold: Floats, said: Floats) -> tuple[float, float, float]:
    if not len(gold) or not len(said):
        return 0.0, 0.0, 0.0
    cosines = said @ gold.T
    precision, recall = float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total > 0 else 0.0


@torch.inference_mode()
def _vectors(texts: Sequence[str], model: str) -> tuple[list[Floats], int]:
    """Unit vectors of every text's tokens, (tokens, width) each, from two thirds of the depth.

    The middle layers say most about meaning (Zhang et al., table of layers); the last ones of a
    language model say which token comes next.
    """
    source = weights.smollm2_dir() if model == "compact" else Path(model)
    if not source.is_dir():
        raise EmoVerseError(f"{model!r} is no model folder; name one, or `compact`.")
    tokenizer = AutoTokenizer.from_pretrained(source)
    network = AutoModel.from_pretrained(source, dtype=torch.float32).train(False)
    layer = round(2 * network.config.num_hidden_layers / 3)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    found: list[Floats] = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer(
            [text or tokenizer.pad_token for text in texts[start : start + _BATCH]],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=_LONGEST,
        )
        hidden = network(**batch, output_hidden_states=True).hidden_states[layer]
        unit = torch.nn.functional.normalize(hidden, dim=-1)
        for row, mask, text in zip(unit, batch["attention_mask"], texts[start:], strict=False):
            # A decoder's first token looks at nothing but itself and is alike in every text.
            kept = row[mask.bool()][1:] if text.strip() else row[:0]
            found.append(kept.double().numpy())
    return found, layer
