"""Train the face ViT: distil MediaPipe's blendshapes and geometry, then emotion labels.

    python -m emoverse.training.face_vit --faces FOLDER --clips FOLDER --out DIR

Both run in one loop: distillation from the start, the emotion loss fading in over the first
third, so that the few labelled photos refine features that thousands of photos have shaped.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import typer
from safetensors.torch import save
from torch.nn import functional

from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.crop import SIZE
from emoverse.files import write_bytes, write_text
from emoverse.models import precision
from emoverse.models.face_vit import EMOTION_CLASSES, FaceTeacher, normalise
from emoverse.training.face_data import MARGIN, POINTS, STORED, UNKNOWN, FaceSet, prepare


def train(
    faces: Path,
    out: Path,
    clips: Path | None = None,
    minutes: float = 35.0,
    batch: int = 48,
    lr: float = 7e-4,
    seed: int = 0,
) -> None:
    """Train within a time budget and write `face_vit.safetensors`, its heads and a log.

    Args:
        faces: photo folder (see `emoverse.training.face_data.prepare`).
        out: where weights, `face_vit_log.jsonl` and the labelled crops go.
        clips: folder of videos whose frames add unlabelled faces.
        minutes: wall-clock budget; the schedule follows the clock, so any machine ends in time.
        batch: crops a step.
        lr: peak learning rate of AdamW, cosine to zero.
        seed: of weights, order and augmentation.
    """
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    store = out / "faces.npz"
    if not store.exists():
        prepare(faces, clips).save(store)
    data = FaceSet.load(store)
    train_set, valid_set = data.part(~data.held_out), data.part(data.held_out)
    scale = torch.from_numpy(train_set.blendshapes.std(axis=0)).clamp(min=0.02)
    mirror = _mirror(train_set)
    model = FaceTeacher(len(POINTS))
    means = [train_set.blendshapes.mean(axis=0), train_set.points.mean(axis=0).reshape(-1)]
    model.mean.bias.data[: len(BLENDSHAPES)] = torch.from_numpy(means[0])
    model.places.bias.data = torch.from_numpy(np.concatenate(means))
    stem = list(model.vit.embeddings.patch_embeddings.parameters())
    head = list(model.places.parameters())
    rest = {id(parameter) for parameter in stem + head}
    body = [parameter for parameter in model.parameters() if id(parameter) not in rest]
    # The stem takes a high rate; the layers fall back to the mean face at twice the body's; the
    # place head sums 6,912 inputs, so at the body's rate its output would leap.
    groups = [(stem, 2.0), (body, 1.0), (head, 0.05)]
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "factor": factor} for parameters, factor in groups],
        lr=lr,
        betas=(0.9, 0.98),
        weight_decay=0.05,
        fused=True,
    )
    generator = torch.Generator().manual_seed(seed)
    weights = _class_weights(train_set.emotions)
    log: list[dict[str, float]] = []
    start, step, budget = time.time(), 0, minutes * 60
    order: list[int] = []
    while (progress := (time.time() - start) / budget) < 1:
        if len(order) < batch:
            order = _epoch(train_set.emotions, generator)
        rows, order = np.array(order[:batch]), order[batch:]
        rate = lr * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        part = train_set.part(rows)
        pixels, shapes, points = _augment(
            part, mirror, generator, 0.4 + 0.6 * min(1.0, 2 * progress)
        )
        with _fast():
            shape_out, point_out, mean_out, emotion_out = model(
                pixels.contiguous(memory_format=torch.channels_last)
            )
        shape_loss = functional.smooth_l1_loss(shape_out.float() / scale, shapes / scale)
        mean_loss = functional.smooth_l1_loss(mean_out.float() / scale, shapes / scale)
        point_loss = (point_out.float() - points.flatten(1)).abs().mean()
        loss = shape_loss + mean_loss + 5 * point_loss
        emotions = torch.from_numpy(part.emotions)
        if (emotions != UNKNOWN).any():
            emotion_loss = functional.cross_entropy(
                emotion_out.float(),
                emotions,
                weights,
                ignore_index=UNKNOWN,
                label_smoothing=0.1,
            )
            loss = loss + 0.5 * min(1.0, 3 * progress) * emotion_loss
        optimizer.zero_grad()
        loss.backward()
        for parameters, _ in groups:  # apart: the head's norm, ~100, would drown the others
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 500 == 0:
            row = {"step": step, "seconds": time.time() - start, "loss": loss.item()}
            row |= validate(model, valid_set)
            log.append(row)
            print(json.dumps(row), flush=True)
            _save(model, out, log)
        step += 1
    log.append({"step": step, "seconds": time.time() - start, **validate(model, valid_set)})
    print(json.dumps(log[-1]), flush=True)
    _save(model, out, log)


def validate(model: FaceTeacher, data: FaceSet) -> dict[str, float]:
    """Mean blendshape correlation, point error (crop pixels) and emotion accuracy, held out."""
    model.eval()
    cut = round(STORED * MARGIN / (1 + 2 * MARGIN))
    pixels = torch.from_numpy(data.crops[:, cut:-cut, cut:-cut]).permute(0, 3, 1, 2).float() / 255
    pixels = functional.interpolate(pixels, SIZE, mode="bilinear", antialias=True)
    pixels = normalise(pixels)
    with torch.inference_mode(), _fast():
        outputs = [model(block) for block in torch.split(pixels, 128)]
    model.train()
    shapes, points, mean_shapes, emotions = (
        torch.cat(part).float().numpy() for part in zip(*outputs, strict=True)
    )
    error = np.abs(points.reshape(-1, len(POINTS), 2) - data.points) * STORED
    known = data.emotions != UNKNOWN
    guess, gold = emotions[known].argmax(axis=1), data.emotions[known]
    recalls = [(guess[gold == label] == label).mean() for label in np.unique(gold)]
    return {
        "blendshape_r": _correlation(shapes, data.blendshapes),
        "blendshape_r_mean_token": _correlation(mean_shapes, data.blendshapes),
        "point_error_px": float(error.mean()),
        "emotion_accuracy": float((guess == gold).mean()),
        "emotion_macro_recall": float(np.mean(recalls)),
        "held_out": len(gold),
    }


def _fast() -> torch.autocast:
    kind = precision.fast()
    return torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16)


def _correlation(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean Pearson r over the blendshapes that vary at all."""
    active = np.flatnonzero(truth.std(axis=0) > 0.02)
    return float(np.nanmean([np.corrcoef(found[:, i], truth[:, i])[0, 1] for i in active]))


def _epoch(emotions: np.ndarray, generator: torch.Generator) -> list[int]:
    """Every photo once and the labelled ones twice, shuffled."""
    rows = np.concatenate([np.arange(len(emotions)), np.flatnonzero(emotions != UNKNOWN)])
    return [int(rows[i]) for i in torch.randperm(len(rows), generator=generator)]


def _class_weights(emotions: np.ndarray) -> torch.Tensor:
    counts = np.bincount(emotions[emotions != UNKNOWN], minlength=len(EMOTION_CLASSES))
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def _mirror(data: FaceSet) -> tuple[torch.Tensor, torch.Tensor]:
    """For each blendshape and point, the one it becomes when the face is flipped."""
    names = [
        name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        for name in BLENDSHAPES
    ]
    shapes = torch.tensor([BLENDSHAPES.index(name) for name in names])
    mean = data.points.mean(axis=0)
    flipped = mean * [-1, 1] + [1, 0]
    distance = ((flipped[:, None] - mean[None]) ** 2).sum(axis=2)
    return shapes, torch.from_numpy(distance.argmin(axis=1))


def _augment(
    data: FaceSet,
    mirror: tuple[torch.Tensor, torch.Tensor],
    generator: torch.Generator,
    strength: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random flip, turn, zoom, shift, light, colour, blur and a dark patch; labels follow.

    Args:
        data: n faces.
        mirror: see `_mirror`.
        generator: of all draws.
        strength: 0..1 of the full ranges.

    Returns:
        pixels (n, 3, 96, 96), blendshapes (n, 51), points (n, p, 2) as shares of the stored
        crop after the turn.
    """
    n = len(data.crops)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    images = torch.from_numpy(data.crops).permute(0, 3, 1, 2).float() / 255
    shapes, points = torch.from_numpy(data.blendshapes), torch.from_numpy(data.points)
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    shapes = torch.where(flip[:, None], shapes[:, mirror[0]], shapes)
    turned = points[:, mirror[1]] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    points = torch.where(flip[:, None, None], turned, points)

    angle = strength * uniform(-0.26, 0.26)
    zoom = (1 + strength * uniform(-0.12, 0.12)) / (1 + 2 * MARGIN)
    shift = strength * uniform(-0.08, 0.08, 2)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    grid = functional.affine_grid(matrix, [n, 3, SIZE, SIZE], align_corners=False)
    images = functional.grid_sample(images, grid, align_corners=False)
    # The grid maps output to input in [-1, 1]; the points go the other way, then the border of
    # the stored crop is put back so that targets stay on one scale.
    centred = (points * 2 - 1) - shift[:, None]
    inverse = torch.linalg.inv(matrix[:, :, :2])
    points = (centred @ inverse.transpose(1, 2) / (1 + 2 * MARGIN) + 1) / 2

    images = images * (1 + strength * uniform(-0.4, 0.4, 1, 1, 1))
    images = images * uniform(0.9, 1.1, 3, 1, 1) + strength * uniform(-0.1, 0.1, 1, 1, 1)
    gray = torch.rand(n, generator=generator) < 0.15
    images = torch.where(
        gray[:, None, None, None], images.mean(1, keepdim=True).expand_as(images), images
    )
    small = torch.rand(n, generator=generator) < 0.25 * strength
    if small.any():
        side = int(torch.randint(28, 80, (1,), generator=generator))
        coarse = functional.interpolate(images[small], side, mode="area")
        images[small] = functional.interpolate(coarse, SIZE, mode="bilinear")
    for row in torch.flatten(
        torch.nonzero(torch.rand(n, generator=generator) < 0.2 * strength)
    ).tolist():
        x, y, side = torch.randint(0, SIZE - 32, (3,), generator=generator).tolist()
        images[row, :, y : y + 8 + side // 4, x : x + 8 + side // 4] = 0
    return normalise(images.clamp(0, 1)), shapes, points


def _save(model: FaceTeacher, out: Path, log: list[dict[str, float]]) -> None:
    """The ViT as it ships, its heads apart, and the log."""
    for name, heads in (("face_vit", False), ("face_vit_heads", True)):
        tensors = {
            key: value.to(torch.bfloat16).contiguous()
            for key, value in model.state_dict().items()
            if key.startswith("vit.") != heads
        }
        write_bytes(out / f"{name}.safetensors", save(tensors))
    write_text(out / "face_vit_log.jsonl", "".join(json.dumps(row) + "\n" for row in log))


if __name__ == "__main__":
    typer.run(train)
