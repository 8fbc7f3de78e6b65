"""What the model sees: each record's pictures as rows of visual features, looked at once."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import pictures
from emoverse.faces.pictures import face_crop
from emoverse.models import any_mllm, face_vit, processing
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prefix_tree import PrefixTree
from emoverse.models.processing import Shown
from emoverse.models.sights import sights
from emoverse.training.rows import Sample, sample_of
from emoverse.training.visual_cache import VisualCache, entry_key, weights_fingerprint

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Visual:
    """Rows of visual features, one block per item: a picture, or all pictures of a record.

    Attributes:
        index: `media_key` of an item to its number.
        offsets: (items + 1,) the first row of each item; row k has token id -1 - k.
        features: items to their projected rows one after the other, (m, columns).
        shown: what the processor wrote for each item; empty for the compact model.
        lost: media that are missing, unreadable or show no face; their records go by text alone.
    """

    index: dict[str, int]
    offsets: np.ndarray
    features: Callable[[Sequence[int]], torch.Tensor]
    shown: tuple[Shown, ...] = ()
    lost: tuple[str, ...] = ()

    def ids(self, key: str) -> list[int]:
        """The negative token ids of an item's rows (`PrefixTree.tokens`)."""
        item = self.index[key]
        return [-1 - row for row in range(int(self.offsets[item]), int(self.offsets[item + 1]))]

    def batch(self, trees: Sequence[PrefixTree]) -> tuple[list[PrefixTree], torch.Tensor | None]:
        """Features of the items these trees show, and the trees with ids pointing into them."""
        wanted = [-1 - tree.tokens[tree.tokens < 0] for tree in trees]
        used = np.unique(np.searchsorted(self.offsets, np.concatenate(wanted), "right") - 1)
        if not len(used):
            return list(trees), None
        sizes = np.diff(self.offsets)[used]
        # Where each used item's rows begin, in the batch less in the whole.
        shift = np.zeros(len(self.offsets), dtype=np.int64)
        shift[used] = np.cumsum(sizes) - sizes - self.offsets[used]
        moved = []
        for tree in trees:
            tokens = tree.tokens.copy()
            rows = -1 - tokens[tokens < 0]
            item = np.searchsorted(self.offsets, rows, "right") - 1
            tokens[tokens < 0] = -1 - (rows + shift[item])
            moved.append(PrefixTree(tokens, tree.positions, tree.parents, tree.paths))
        return moved, self.features([int(item) for item in used])


def media_key(media: Sequence[str]) -> str:
    """The key of a record's pictures taken together."""
    return "\0".join(media)


def watch(
    model: EmoVerse | Mllm,
    records: Sequence[Record],
    root: Path,
    cache: VisualCache | None,
    frames: int = 8,
    progress: Progress | None = None,
    *,
    native: bool = False,
) -> Visual:
    """Look once at everything that the records show.

    Args:
        model: its visual encoder is frozen as far as the cache is concerned.
        records: of all stages and of the valid split.
        root: where relative media paths start.
        cache: kept tokens of earlier runs; None looks anew (and, for models with a processor,
            again in every step, which trained visual encoders need).
        frames: pictures taken from a clip.
        progress: told of (done, all).
        native: clips are given to the processor as videos.

    Raises:
        EmoVerseError: the processor takes no videos.
    """
    if isinstance(model, Mllm):
        if native:
            processing.check_clips(model)
        return _watch_mllm(model, records, root, cache, frames, progress, native)
    return _watch_faces(model, records, root, cache, progress)


def tokenised(model: EmoVerse | Mllm, record: Record, visual: Visual) -> Sample:
    """A record as tokens, its pictures' features as negative ids."""
    if not isinstance(model, Mllm):
        seen = {path: visual.ids(path) for path in record.media if path in visual.index}
        return sample_of(record, model.tokenizer, seen)
    key = media_key(record.media)
    shown = visual.shown[visual.index[key]] if record.media and key in visual.index else None
    tokens, learnt, positions = processing.encode(model, record.query, record.response, shown)
    if shown is not None:
        tokens = processing.pointing(model, tokens, visual.ids(key))
    return Sample(record, tokens, learnt, positions)


def _watch_faces(
    model: EmoVerse,
    records: Sequence[Record],
    root: Path,
    cache: VisualCache | None,
    progress: Progress | None,
) -> Visual:
    """The compact model: one face crop a picture or clip, all tokens in memory."""
    tower = model.network.model.vision_tower
    setting = f"{_faces_code()} {weights_fingerprint(tower.state_dict().items())}" if cache else ""
    aligned = {path: bool(r.meta.get("aligned")) for r in records for path in r.media}
    found: dict[str, torch.Tensor] = {}
    waiting: list[tuple[str, str, np.ndarray]] = []

    def settle() -> None:
        if waiting:
            pixels = face_vit.pixel_values(np.stack([crop for _, _, crop in waiting]))
            seen = model.visual_tokens(pixels.to(_device(model))).to(torch.bfloat16).cpu()
            for (path, key, _), tokens in zip(waiting, seen, strict=True):
                found[path] = tokens
                if cache:
                    cache.write(key, {"tokens": tokens}, {})
            waiting.clear()

    for done, path in enumerate(sorted(aligned), 1):
        if progress:
            progress(done, len(aligned))
        if not (root / path).is_file():
            continue
        key = entry_key(f"{setting} {aligned[path]}", [root / path]) if cache else ""
        if cache and (entry := cache.read(key)):
            if entry[0]["tokens"].numel():
                found[path] = entry[0]["tokens"].clone()
            continue
        crop = face_crop(root / path, aligned=aligned[path])
        if crop is not None:
            waiting.append((path, key, crop))
        elif cache:  # remembered too: looking for a face costs more than encoding one
            cache.write(key, {"tokens": torch.zeros(0)}, {})
        if len(waiting) == 64:
            settle()
    settle()
    index = {path: place for place, path in enumerate(sorted(found))}
    kept = [found[path] for path in index]
    tokens = torch.stack(kept) if kept else torch.zeros(0, model.image_tokens, 1)
    return Visual(
        index,
        np.arange(len(index) + 1) * model.image_tokens,
        lambda items: model.project(tokens[list(items)].to(_device(model))),
        lost=tuple(path for path in sorted(aligned) if path not in found),
    )


def _faces_code() -> str:
    """Changes with the code that finds the peak frame and cuts the face out of it."""
    files = [*sorted(Path(pictures.__file__).parent.glob("*.py")), Path(face_vit.__file__)]
    return entry_key("faces", files)


def _watch_mllm(
    model: Mllm,
    records: Sequence[Record],
    root: Path,
    cache: VisualCache | None,
    frames: int,
    progress: Progress | None,
    native: bool,
) -> Visual:
    """Models with a processor: a record's pictures are prepared together, as in a chat."""
    setting = f"{_vision_fingerprint(model)} {frames} {native}" if cache else ""
    groups = sorted({record.media for record in records if record.media})
    keys: list[str] = []
    index: dict[str, int] = {}
    media: list[tuple[str, ...]] = []
    shown: list[Shown] = []
    lost: list[str] = []
    for done, group in enumerate(groups, 1):
        if progress:
            progress(done, len(groups))
        if not all((root / name).is_file() for name in group):
            lost += group
            continue
        key = entry_key(setting, [root / name for name in group]) if cache else ""
        if cache and (entry := cache.read(key)):
            rest = {name: t.clone() for name, t in entry[0].items() if name != "rows"}
            texts = tuple(json.loads(entry[1]["texts"]))
            small = Shown(texts, rest, int(entry[1]["clips"]))
        else:
            try:
                given = sights(root, group, frames, native=native)
            except EmoVerseError:
                lost += group
                continue
            seen = processing.show(model, given)
            small = Shown(seen.texts, _for_positions(model, seen), seen.clips)
            if cache:
                _keep(cache, key, model, seen)
        index[media_key(group)] = len(media)
        media.append(group)
        keys.append(key)
        shown.append(small)
    sizes = [processing.feature_count(model, item) for item in shown]

    def rows(item: int) -> torch.Tensor:
        entry = cache.read(keys[item]) if cache else None
        if entry is not None:
            return entry[0]["rows"].to(_device(model))
        seen = processing.show(model, sights(root, media[item], frames, native=native))
        return processing.look(model, seen)

    def features(items: Sequence[int]) -> torch.Tensor:
        return model.project(torch.cat([rows(item) for item in items]))

    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Visual(index, offsets, features, tuple(shown), tuple(lost))


def _keep(cache: VisualCache, key: str, model: Mllm, seen: Shown) -> None:
    with torch.no_grad():
        rows = processing.look(model, seen)
    notes = {"texts": json.dumps(seen.texts), "clips": str(seen.clips)}
    cache.write(key, {"rows": rows, **_for_positions(model, seen)}, notes)


def _for_positions(model: Mllm, seen: Shown) -> dict[str, torch.Tensor]:
    """The small inputs that a model's own position ids depend on (grids, never pixels)."""
    rope = getattr(model.network.model, "get_rope_index", None)
    known = inspect.signature(rope).parameters if rope else ()
    return {key: value for key, value in seen.inputs.items() if key in known}


def _vision_fingerprint(model: Mllm) -> str:
    """Changes with whatever the kept rows depend on: weights, preparation, place of keeping."""
    language = f"model.{model.language_name}."
    kept_out = (language, "lm_head.")
    weights: Iterable[tuple[str, torch.Tensor]] = [
        (name, value)
        for name, value in model.network.state_dict().items()
        if not name.startswith(kept_out)
        and not (model.before_projector and _is_projector(model, name))
    ]
    parts = (weights_fingerprint(weights), any_mllm.fingerprint(model))
    return f"mllm 2 {parts} {model.before_projector} {model.dtype}"


def _is_projector(model: Mllm, name: str) -> bool:
    part: torch.nn.Module = any_mllm.projector_of(model)
    place = next(n for n, module in model.network.named_modules() if module is part)
    return name.startswith(f"{place}.")


def _device(model: EmoVerse | Mllm) -> torch.device:
    weight: torch.Tensor = next(model.network.parameters())
    return weight.device
