"""One optimiser step: from rows to losses, gradients and new weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from emoverse.errors import EmoVerseError
from emoverse.models import attention, processing
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.models.sights import sights
from emoverse.training.distributed import Crew, gather, share, sum_gradients
from emoverse.training.optimiser import Trained
from emoverse.training.rows import Row, Sample, row_of
from emoverse.training.speed import language_of, token_losses
from emoverse.training.visual import Visual


def train_step(
    model: EmoVerse | Mllm,
    state: Trained,
    step: Sequence[Sequence[Row]],
    visual: Visual,
    crew: Crew | None = None,
    padded: Padded | None = None,
) -> tuple[dict[str, list[float]], float]:
    """Learn from a step's batches.

    Args:
        model: what is trained.
        state: its trained parameters.
        step: batches of rows, the same in every process; each takes its share.
        visual: what the samples show.
        crew: the processes that train together.
        padded: set for models that run rows by their own forward pass.

    Returns:
        Each sample's mean answer loss, by task, over all processes; and the gradients' norm.
    """
    crew = crew or Crew()
    weight = sum(float(row.weights.sum()) for batch in step for row in batch)
    mine, most = share(step, crew)
    losses: dict[str, list[float]] = defaultdict(list)
    for batch in mine:
        token_losses = batch_losses(model, batch, visual, padded)
        weights = torch.from_numpy(np.concatenate([row.weights for row in batch]))
        total = token_losses @ weights.to(token_losses.device) / weight
        if total.requires_grad:  # text alone may leave a stage nothing to learn
            torch.autograd.backward(total)
        _note(losses, batch, token_losses.detach().float().cpu().numpy())
    if crew.sharded:
        # Split weights are gathered by all processes together: those with fewer batches go along.
        for _ in range(most - len(mine)):
            idle = batch_losses(model, step[0], visual, padded)
            if idle.requires_grad:
                torch.autograd.backward(0.0 * idle.sum())
    sum_gradients(state.live, crew)
    norm = state.step()
    return _together(gather(dict(losses), crew)), norm


class Padded:
    """Where the model's own forward pass finds the pictures of a record."""

    def __init__(self, root: Path, frames: int, *, native: bool = False) -> None:
        """Media are relative to `root`; clips give so many `frames`, `native` as videos."""
        self.root = root
        self.frames = frames
        self.native = native


def batch_losses(
    model: EmoVerse | Mllm, batch: Sequence[Row], visual: Visual, padded: Padded | None = None
) -> torch.Tensor:
    """Cross-entropy at the learnt tokens of a batch, rows one after the other.

    Returns:
        (k,) float32; logits are computed at these k places alone.
    """
    if padded is not None and isinstance(model, Mllm):
        return own_path(model, batch, padded)[0]
    wanted, targets = _wanted(model, batch, visual)
    return token_losses(model.network.lm_head, wanted, targets)


@torch.no_grad()
def batch_hits(
    model: EmoVerse | Mllm, batch: Sequence[Row], visual: Visual, padded: Padded | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses as `batch_losses`, and whether each learnt token was the likeliest."""
    if padded is not None and isinstance(model, Mllm):
        return own_path(model, batch, padded)
    wanted, targets = _wanted(model, batch, visual)
    head: torch.nn.Module = model.network.lm_head
    logits = head(wanted).float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return losses, logits.argmax(dim=-1) == targets


def _wanted(
    model: EmoVerse | Mllm, batch: Sequence[Row], visual: Visual
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (k, width) that predict learnt tokens, and those tokens (k,)."""
    trees, features = visual.batch([row.tree for row in batch])
    hidden = model.hidden_states(trees, features)
    nodes = [torch.from_numpy(row.nodes).to(hidden.device) for row in batch]
    wanted = torch.cat([hidden[place, some] for place, some in enumerate(nodes)])
    targets = torch.from_numpy(np.concatenate([row.targets for row in batch]))
    return wanted, targets.to(hidden.device)


def own_path(
    model: Mllm, batch: Sequence[Row], padded: Padded
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and hits at the learnt tokens by the processor's and the model's own forward pass.

    Args:
        model: the model.
        batch: rows of any kind.
        padded: where the pictures are.
    """
    samples = [sample for row in batch for sample in row.samples]
    items = []
    for sample in samples:
        seen = any(token < 0 for token in sample.tokens)
        media = sample.record.media if seen else ()
        shown = sights(padded.root, media, padded.frames, native=padded.native)
        items.append((sample.record.query, sample.record.response, shown))
    # Processors take those together that show none, one or several pictures, and equal clips.
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, (_, _, shown) in enumerate(items):
        lengths = tuple(len(s.frames) for s in shown if isinstance(s, processing.Clip))
        alike[min(len(shown) - len(lengths), 2), lengths].append(place)
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for places in alike.values():
        own = processing.own_losses(model, [items[place] for place in places])
        found |= dict(zip(places, own, strict=True))
    # The token at `learnt` is predicted one place before it.
    before = [[learnt - 1 for learnt in sample.learnt] for sample in samples]
    losses = torch.cat([found[n][0][places] for n, places in enumerate(before)])
    return losses, torch.cat([found[n][1][places] for n, places in enumerate(before)])


def check_window(model: Mllm, lengths: Iterable[int]) -> None:
    """Look whether a layer sees less than a whole sample; the mask of a row would let it see all.

    Args:
        model: the model.
        lengths: of all samples, in tokens; looked at only where a layer has a window.

    Raises:
        EmoVerseError: there is a window and a longer sample.
    """
    window = attention.window_of(language_of(model).config)
    longest = max(lengths, default=0) if window else 0
    if window and longest > window:
        raise EmoVerseError(
            f"{model.name}: its layers see {window:,} tokens at a time, and the longest sample has "
            f"{longest:,}; set max_length: {window}, or rows: padded."
        )


def check_rows(model: Mllm, samples: Sequence[Sample], visual: Visual, padded: Padded) -> None:
    """Hold rows to the model's own path on a few samples, and on the longest, before any training.

    A model may attend in ways that a row of several samples does not keep (state-space layers,
    windows, pictures seen in both directions); its losses then differ.

    Raises:
        EmoVerseError: they do; names the setting that gives up sharing.
    """
    shown = [sample for sample in samples if any(token < 0 for token in sample.tokens)]
    plain = [sample for sample in samples if all(token >= 0 for token in sample.tokens)]
    few = sorted(shown, key=_length)[:2] + sorted(plain, key=_length)[:2]
    found = [row_of(few), row_of([max(samples, key=_length)])]
    with torch.no_grad():
        ours = batch_losses(model, found, visual)
        own = own_path(model, found, padded)[0]
    each = (ours - own).abs()
    short = len(found[0].nodes)
    # Rounding adds up over a long sample and differs from token to token; their mean tells enough.
    apart = max(float(each[:short].max()), float(each[short:].mean()))
    if apart > (0.01 if model.dtype == torch.float32 else 0.3):
        raise EmoVerseError(
            f"{model.name}: its losses in rows of several samples differ from those of its own "
            f"forward pass (by up to {apart:.2g}), so nothing can be shared; set rows: padded."
        )


def _length(sample: Sample) -> int:
    return len(sample.tokens)


def _note(losses: dict[str, list[float]], batch: Sequence[Row], values: np.ndarray) -> None:
    place = 0
    for row in batch:
        mine = values[place : place + len(row.nodes)]
        for owner, sample in enumerate(row.samples):
            losses[sample.record.task].append(float(mine[row.owners == owner].mean()))
        place += len(row.nodes)


def _together(parts: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, list[float]] = {}
    for part in parts:
        for task, values in part.items():
            joined.setdefault(task, []).extend(values)
    return joined
