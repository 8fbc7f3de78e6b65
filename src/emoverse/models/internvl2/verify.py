"""Whether a converted checkpoint is, number for number, the published one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from emoverse.errors import EmoVerseError
from emoverse.files import read_json
from emoverse.models.internvl2.convert import RECORD, meta_model, plan_conversion
from emoverse.models.internvl2.layout import Entry, Sizes
from emoverse.models.internvl2.shards import read_tensor, stored_tensors

Progress = Callable[[int, int], None]
_PARTS = (
    ("vision tower", "vision_model."),
    ("projector", "mlp1."),
    ("language model", "language_model."),
)


@dataclass(slots=True)
class Part:
    """One part of the model in a report.

    Attributes:
        name: as shown.
        published: tensors in the published files.
        written: tensors they became.
        parameters: numbers in them.
        identical: published tensors whose every bit is found again.
    """

    name: str
    published: int = 0
    written: int = 0
    parameters: int = 0
    identical: int = 0


@dataclass(slots=True)
class Report:
    """What `verify` found.

    Attributes:
        parts: vision tower, projector, language model.
        tokens: in the tokenizer.
        backbone: transformers' text class.
        tied: whether the output layer is the word embeddings.
        differing: published tensors that are not found again, with the reason.
    """

    tokens: int
    backbone: str
    tied: bool
    parts: list[Part] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not self.differing


def verify(source: Path | str, target: Path | str, progress: Progress | None = None) -> Report:
    """Join every converted tensor again and compare it, bit by bit, with the published one.

    Args:
        source: the published checkpoint.
        target: what `convert` wrote.
        progress: told of the bytes compared and of all bytes.

    Raises:
        EmoVerseError: the conversion is unfinished, or a file is missing or damaged.
    """
    plan = plan_conversion(source)
    target = Path(target)
    record = read_json(target / RECORD)
    if not isinstance(record, dict) or not record.get("complete"):
        raise EmoVerseError(f"{target}: the conversion is unfinished; run it again to go on.")
    written = stored_tensors(target)
    config = read_json(target / "config.json")
    report = Report(plan.words.fast.get_vocab_size(), plan.published.backbone.model_type, plan.tied)
    report.parts = [Part(name) for name, _ in _PARTS]
    expected = set(meta_model(config).state_dict())
    if plan.tied:
        expected.discard("lm_head.weight")
    for name in sorted(expected ^ set(written)):
        report.differing.append(f"{name}: {'missing' if name in expected else 'unexpected'}")
    done = 0
    for group in plan.shards.values():
        for entry in group:
            part = next(
                p
                for p, (_, prefix) in zip(report.parts, _PARTS, strict=True)
                if entry.source.startswith(prefix)
            )
            tensor = read_tensor(plan.stored[entry.source])
            part.published += 1
            part.written += len(entry.targets)
            part.parameters += tensor.numel()
            done += plan.stored[entry.source].size
            if progress:
                progress(done, plan.size)
            if any(name not in written for name in entry.targets):
                continue  # told above
            again = joined(
                entry, [read_tensor(written[name]) for name in entry.targets], plan.published.sizes
            )
            if _same(tensor, again):
                part.identical += 1
            else:
                report.differing.append(f"{entry.source}: differs from {entry.targets[0]}")
    return report


def joined(entry: Entry, found: list[torch.Tensor], sizes: Sizes) -> torch.Tensor:
    """The published tensor from what it became; the inverse of `convert.parts`."""
    if entry.split == "whole":
        return found[0]
    if entry.split == "thirds":
        return torch.cat(found)
    grouped = [part.reshape(sizes.key_heads, -1, sizes.head, sizes.width) for part in found]
    return torch.cat(grouped, dim=1).reshape(-1, sizes.width)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    first, second = (t.contiguous().view(-1).view(torch.uint8) for t in (one, other))
    return bool(torch.equal(first, second))
