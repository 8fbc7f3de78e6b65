"""Published InternVL2 checkpoints to transformers' own class, shard by shard.

One tensor is in memory at a time, every published tensor is used exactly once, nothing is unpickled
and no code of the checkpoint runs. An interrupted conversion goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.utils import logging as chatter

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, sha256_of, write_json
from emoverse.models.emoverse import IMAGE_TOKENS
from emoverse.models.internvl2.chat import chat_template, end_mark
from emoverse.models.internvl2.configuration import image_settings, model_config, video_settings
from emoverse.models.internvl2.layout import (
    Entry,
    Published,
    Sizes,
    entries,
    output_layer,
    read_published,
)
from emoverse.models.internvl2.shards import (
    DTYPES,
    Stored,
    read_tensor,
    stored_tensors,
    write_shard,
)
from emoverse.models.internvl2.tokenizer import Words, read_tokenizer, write_tokenizer

SHARD_BYTES = 2_000_000_000
RECORD = "conversion.json"
_SPARE = 64 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A conversion, checked before a byte is written.

    Attributes:
        published: the checkpoint's configuration.
        stored: where its tensors lie.
        shards: file name to the published tensors it is made from.
        words: the tokenizer.
        tied: whether the output layer is the word embeddings.
        config: transformers' `config.json`.
    """

    published: Published
    stored: dict[str, Stored]
    shards: dict[str, tuple[Entry, ...]]
    words: Words
    tied: bool
    config: dict[str, Any]

    @property
    def template(self) -> str:
        """Name of the chat format."""
        return str(self.published.config.get("template"))

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        return sum(stored.size for stored in self.stored.values())


def convert(
    source: Path | str,
    target: Path | str,
    progress: Progress | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    """Write a published InternVL2 checkpoint as transformers' `InternVLForConditionalGeneration`.

    Args:
        source: the folder as downloaded: config.json, safetensors, tokenizer files.
        target: a new folder, or one that an earlier conversion of the same checkpoint left behind;
            shards that are whole there (by their SHA-256) are kept.
        progress: told of the bytes done and of all bytes.
        shard_bytes: a shard is closed when it reaches this.

    Returns:
        The plan that was carried out.

    Raises:
        EmoVerseError: the checkpoint is incomplete or another model, the target is in use, or the
            disk is too small. The sentence names the file and the tensor.
    """
    plan = plan_conversion(source, shard_bytes=shard_bytes)
    target = Path(target)
    record = _begin(plan, target)
    done = 0
    for name, group in plan.shards.items():
        shard = target / name
        if not (shard.is_file() and sha256_of(shard) == record["shards"].get(name)):
            layout = {
                new: (plan.stored[entry.source].dtype, shape)
                for entry in group
                for new, shape in target_shapes(entry, plan.published.sizes).items()
            }
            record["shards"][name] = write_shard(shard, layout, _tensors(plan, group))
            write_json(target / RECORD, record)
        done += sum(plan.stored[entry.source].size for entry in group)
        if progress:
            progress(done, plan.size)
    _write_settings(plan, target)
    write_json(target / RECORD, {**record, "complete": True})
    return plan


def plan_conversion(source: Path | str, *, shard_bytes: int = SHARD_BYTES) -> Plan:
    """Check everything about a published checkpoint that can be checked without its weights.

    Raises:
        EmoVerseError: as `convert`.
    """
    published = read_published(source)
    stored = stored_tensors(published.folder)
    found, tied = _matched(published, stored)
    words = read_tokenizer(published.folder)
    if words.fast.get_vocab_size() > published.sizes.vocabulary:
        raise EmoVerseError(
            f"{published.folder}: the tokenizer has {words.fast.get_vocab_size()} tokens, the "
            f"model {published.sizes.vocabulary}; the tokenizer's files are another model's."
        )
    template = str(published.config.get("template"))
    for token in (*IMAGE_TOKENS, end_mark(template)):
        words.id_of(token, published.folder)
    sizes: dict[str, int] = {}
    for each in stored.values():
        sizes[each.dtype] = sizes.get(each.dtype, 0) + each.size
    config = model_config(
        published,
        dtype=str(DTYPES[max(sizes, key=lambda kind: sizes[kind])]).removeprefix("torch."),
        image_token=words.id_of(IMAGE_TOKENS[2], published.folder),
        tied=tied,
    )
    _agree_with_transformers(config, found, published)
    return Plan(
        published, stored, _shards(found, stored, shard_bytes), words, tied=tied, config=config
    )


def parts(entry: Entry, tensor: torch.Tensor, sizes: Sizes) -> list[torch.Tensor]:
    """A published tensor as transformers' one or three (queries, keys, values)."""
    if entry.split == "whole":
        return [tensor]
    if entry.split == "thirds":
        return list(tensor.chunk(3))
    queries = sizes.heads // sizes.key_heads
    grouped = tensor.view(sizes.key_heads, queries + 2, sizes.head, sizes.width)
    return [
        grouped[:, :queries].reshape(-1, sizes.width),
        grouped[:, -2].reshape(-1, sizes.width),
        grouped[:, -1].reshape(-1, sizes.width),
    ]


def target_shapes(entry: Entry, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a published tensor becomes."""
    found = parts(entry, torch.empty(entry.shape, device="meta"), sizes)
    return {name: tuple(part.shape) for name, part in zip(entry.targets, found, strict=True)}


def meta_model(config: dict[str, Any], device: str = "meta") -> InternVLForConditionalGeneration:
    """The model of transformers with shapes but without weights, or with random ones elsewhere."""
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity(logging.ERROR)
    try:
        with torch.device(device):
            # A copy: configurations fill in what they are given.
            return InternVLForConditionalGeneration(InternVLConfig(**deepcopy(config)))
    finally:
        chatter.set_verbosity(verbosity)


def _matched(published: Published, stored: dict[str, Stored]) -> tuple[list[Entry], bool]:
    """The layout's entries, each found in the files, and whether the output layer is tied."""
    own = output_layer(published.architecture) in stored
    tied = not own and bool(published.config["llm_config"].get("tie_word_embeddings"))
    found = entries(published.architecture, published.sizes, output=not tied)
    for entry in found:
        if entry.source not in stored:
            raise EmoVerseError(
                f"{published.folder}: tensor {entry.source} is missing; download the "
                "checkpoint's safetensors files again."
            )
        if stored[entry.source].shape != entry.shape:
            raise EmoVerseError(
                f"{stored[entry.source].file}: tensor {entry.source} has the shape "
                f"{stored[entry.source].shape}, config.json asks for {entry.shape}; the files "
                "belong to different checkpoints."
            )
    if unknown := sorted(set(stored) - {entry.source for entry in found}):
        raise EmoVerseError(
            f"{stored[unknown[0]].file}: tensor {unknown[0]} has no place in InternVL2; this "
            "checkpoint is another model or has been changed (merge a LoRA before converting)."
        )
    return found, tied


def _agree_with_transformers(
    config: dict[str, Any], found: list[Entry], published: Published
) -> None:
    """Every name and shape that transformers' class expects is made, and no other."""
    expected = {name: tuple(t.shape) for name, t in meta_model(config).state_dict().items()}
    if config["tie_word_embeddings"]:
        expected.pop("lm_head.weight", None)
    made: dict[str, tuple[int, ...]] = {}
    for entry in found:
        made |= target_shapes(entry, published.sizes)
    if wrong := sorted(expected.items() ^ made.items()):
        raise EmoVerseError(
            f"{published.folder}: tensor {wrong[0][0]} is not as this version of transformers "
            "expects it; install the versions of constraints.txt."
        )


def _shards(
    found: list[Entry], stored: dict[str, Stored], shard_bytes: int
) -> dict[str, tuple[Entry, ...]]:
    """Entries in the order they lie on disk, cut where a shard is full."""
    ordered = sorted(found, key=lambda e: (stored[e.source].file, stored[e.source].start))
    groups: list[list[Entry]] = [[]]
    filled = 0
    for entry in ordered:
        size = stored[entry.source].size
        if groups[-1] and filled + size > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += size
    count = len(groups)
    return {
        f"model-{number:05}-of-{count:05}.safetensors": tuple(group)
        for number, group in enumerate(groups, 1)
    }


def _tensors(plan: Plan, group: tuple[Entry, ...]) -> Iterator[torch.Tensor]:
    for entry in group:
        yield from parts(entry, read_tensor(plan.stored[entry.source]), plan.published.sizes)


def _begin(plan: Plan, target: Path) -> dict[str, Any]:
    """The target's record, fresh or from an earlier run of the same conversion."""
    fingerprint = _fingerprint(plan)
    if target.resolve() == plan.published.folder.resolve():
        raise EmoVerseError(f"{target}: source and target are the same folder; name another.")
    if (target / RECORD).is_file():
        record = read_json(target / RECORD)
        if record.get("fingerprint") == fingerprint:
            return dict(record)
        raise EmoVerseError(
            f"{target}: holds the conversion of another checkpoint; name a new folder."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EmoVerseError(f"{target}: is not an earlier conversion; name a new folder.")
    target.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target).free
    if free < plan.size + _SPARE:
        raise EmoVerseError(
            f"{target}: {plan.size / 1e9:.1f} GB are needed, but only {free / 1e9:.1f} GB are "
            "free; make room or name a folder on another disk."
        )
    record = {
        "source": plan.published.folder.name,
        "fingerprint": fingerprint,
        "architecture": plan.published.architecture,
        "template": plan.template,
        "first": plan.words.first,
        "shards": {},
        "complete": False,
    }
    write_json(target / RECORD, record)
    return record


def _fingerprint(plan: Plan) -> str:
    """Changes when the checkpoint's files or the way they are cut do."""
    files = {stored.file for stored in plan.stored.values()}
    facts = {
        "config": plan.config,
        "files": {f.name: (f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(files)},
        "tensors": {name: (s.file.name, s.start) for name, s in sorted(plan.stored.items())},
        "shards": {name: len(group) for name, group in plan.shards.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _write_settings(plan: Plan, target: Path) -> None:
    """Index, tokenizer, picture and generation settings; config.json last, it makes a model."""
    published, words = plan.published, plan.words
    places = {
        name: shard
        for shard, group in plan.shards.items()
        for entry in group
        for name in entry.targets
    }
    write_json(
        target / "model.safetensors.index.json",
        {"metadata": {"total_size": plan.size}, "weight_map": dict(sorted(places.items()))},
    )
    write_tokenizer(words, target, chat_template(plan.template, words.first))
    write_json(target / "preprocessor_config.json", image_settings(published))
    write_json(target / "video_preprocessor_config.json", video_settings(published))
    write_json(
        target / "processor_config.json",
        {
            "processor_class": "InternVLProcessor",
            "image_seq_length": published.sizes.visual_tokens,
        },
    )
    ends = [end_mark(plan.template)]
    if eos := words.named.get("eos_token"):
        ends.append(eos)
    stops = sorted({words.id_of(token, published.folder) for token in ends})
    generation: dict[str, Any] = {"do_sample": False, "eos_token_id": stops}
    for key in ("bos_token", "pad_token"):
        if token := words.named.get(key):
            generation[f"{key}_id"] = words.id_of(token, published.folder)
    generation.setdefault("pad_token_id", stops[0])
    write_json(target / "generation_config.json", generation)
    write_json(target / "config.json", plan.config)
