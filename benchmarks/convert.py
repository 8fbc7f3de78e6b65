"""Memory and time of a conversion: `python benchmarks/convert.py [--size 8B] [--layers N]`.

Writes a checkpoint of random bytes in the layout and the shapes that OpenGVLab publishes, converts
and verifies it in a process of its own, and tells the process's peak memory and CPU time. The
conversion holds one tensor at a time, so that its memory is that of the largest one; `--layers`
leaves out language layers, all alike, where the disk or the time for all of them is short.
The folder is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models

from emoverse.files import write_json
from emoverse.models.emoverse import IMAGE_TOKENS
from emoverse.models.internvl2.convert import convert
from emoverse.models.internvl2.layout import Entry, Sizes, entries
from emoverse.models.internvl2.published import SIZES, language_config
from emoverse.models.internvl2.verify import verify

_SHARD = 4_900_000_000  # published shards are of nearly 5 GB
_BLOCK = os.urandom(1 << 24)
_TEMPLATES = {
    "Phi3ForCausalLM": "phi3-chat",
    "InternLM2ForCausalLM": "internlm2-chat",
    "Qwen2ForCausalLM": "Hermes-2",
}


def write_checkpoint(folder: Path, architecture: str, sizes: Sizes) -> int:
    """A published checkpoint of random bfloat16 numbers; gives its bytes."""
    folder.mkdir()
    shards: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries(architecture, sizes):
        if filled + _bytes(entry) > _SHARD:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += _bytes(entry)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {entry.source: name for entry in shard}
        _write_shard(folder / name, shard)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    write_json(folder / "config.json", _config(architecture, sizes))
    marks = (*IMAGE_TOKENS, "<|end|>", "<|im_end|>")
    words = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    words.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    words.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return sum(_bytes(entry) for shard in shards for entry in shard)


def _bytes(entry: Entry) -> int:
    return 2 * math.prod(entry.shape)


def _write_shard(path: Path, shard: list[Entry]) -> None:
    header, start = {}, 0
    for entry in shard:
        end = start + _bytes(entry)
        header[entry.source] = {
            "dtype": "BF16",
            "shape": entry.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in _blocks(start):
            file.write(block)


def _blocks(size: int) -> Iterator[bytes]:
    for done in range(0, size, len(_BLOCK)):
        yield _BLOCK[: min(len(_BLOCK), size - done)]


def _config(architecture: str, s: Sizes) -> dict[str, object]:
    return {
        "downsample_ratio": 0.5,
        "force_image_size": s.image,
        "ps_version": "v2",
        "select_layer": -1,
        "template": _TEMPLATES[architecture],
        "llm_config": language_config(architecture, s)
        | {"num_key_value_heads": s.key_heads, "pad_token_id": 0},
        "vision_config": {
            "hidden_size": s.vit_width,
            "num_hidden_layers": s.vit_layers,
            "num_attention_heads": s.vit_heads,
            "intermediate_size": s.vit_mlp,
            "image_size": s.image,
            "patch_size": s.patch,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "qkv_bias": True,
        },
    }


def convert_here(source: Path, target: Path) -> None:
    """Convert and verify in this process, and print what it took."""
    for name, run in (("convert", convert), ("verify", verify)):
        begun, before = time.perf_counter(), _cpu()
        found = run(source, target)
        if name == "verify" and not found.good:
            raise SystemExit(f"verify: {found.differing[0]}")
        seconds = f"{_cpu() - before:.1f} s of CPU, {time.perf_counter() - begun:.1f} s in all"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(f"{name}: {seconds}, at most {peak:.2f} GB of memory so far")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=[name.removeprefix("InternVL2-") for name in SIZES])
    parser.add_argument("--layers", type=int, help="language layers; all by default")
    parser.add_argument("--folder", type=Path, help="where there is room for two copies")
    parser.add_argument("--convert", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        convert_here(*options.convert)
        return
    architecture, sizes = SIZES[f"InternVL2-{options.size or '8B'}"]
    sizes = replace(sizes, layers=options.layers or sizes.layers)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        source = Path(place) / "published"
        size = write_checkpoint(source, architecture, sizes)
        largest = max(map(_bytes, entries(architecture, sizes)))
        print(f"{size / 1e9:.1f} GB in {sizes.layers} layers, largest {largest / 1e9:.2f} GB")
        own = [sys.executable, __file__, "--convert", str(source), str(Path(place) / "converted")]
        subprocess.run(own, check=True)


if __name__ == "__main__":
    main()
