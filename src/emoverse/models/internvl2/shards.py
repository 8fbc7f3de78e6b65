"""Safetensors files read by their headers and written tensor by tensor, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emoverse.errors import EmoVerseError
from emoverse.files import read_json

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MOST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: as the format names it: F32, F16 or BF16.
        shape: as stored.
        start: first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint folder, from the files' headers alone.

    Raises:
        EmoVerseError: there are no safetensors files (pickled ones are refused), one that the
            index names is missing, a tensor lies in two files or not in the one the index names,
            or a file is damaged.
    """
    index = folder / "model.safetensors.index.json"
    named: dict[str, str] = {}
    if index.is_file():
        content = read_json(index)
        if not isinstance(content, dict) or not content.get("weight_map"):
            raise EmoVerseError(f"{index}: has no `weight_map`; download the file again.")
        named = content["weight_map"]
        files = [folder / name for name in sorted(set(named.values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        kinds = ("*.bin", "*.pt", "*.pth")
        pickled = sorted(path.name for kind in kinds for path in folder.glob(kind))
        if pickled:
            raise EmoVerseError(
                f"{folder}: holds only pickled weights ({pickled[0]}), which can run any code when "
                "they are read; download the safetensors files instead."
            )
        raise EmoVerseError(f"{folder}: no *.safetensors file; give the downloaded folder.")
    found: dict[str, Stored] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in found:
                raise EmoVerseError(
                    f"{file}: tensor {name} is also in {found[name].file.name}; delete the file "
                    "that does not belong to this checkpoint."
                )
            found[name] = tensor
    for name, file_name in named.items():
        if name not in found or found[name].file.name != file_name:
            raise EmoVerseError(
                f"{folder / file_name}: tensor {name}, which the index places there, is missing; "
                "download the file again."
            )
    return found


def read_header(file: Path) -> dict[str, Stored]:
    """Names, types and shapes of one safetensors file.

    Raises:
        EmoVerseError: the file is missing, cut off, not safetensors, or holds quantised tensors.
    """
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= _MOST_HEADER:
                raise ValueError("no header")
            header: dict[str, Any] = json.loads(opened.read(length))
    except FileNotFoundError:
        raise EmoVerseError(
            f"{file}: the index names this file, but it is missing; download it."
        ) from None
    except ValueError:
        raise EmoVerseError(f"{file}: not a safetensors file; download it again.") from None
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if file.stat().st_size != 8 + length + end:
        raise EmoVerseError(f"{file}: cut off or damaged; download it again.")
    for name, tensor in header.items():
        if tensor["dtype"] not in DTYPES:
            raise EmoVerseError(
                f"{file}: tensor {name} is stored as {tensor['dtype']}; give the unquantised "
                "checkpoint (bfloat16, float16 or float32)."
            )
    return {
        name: Stored(
            file, tensor["dtype"], tuple(tensor["shape"]), 8 + length + tensor["data_offsets"][0]
        )
        for name, tensor in header.items()
    }


def read_tensor(stored: Stored) -> torch.Tensor:
    """One tensor, read into memory of its own.

    A memory map would be shorter, but its pages count as this process's memory.

    Raises:
        EmoVerseError: the file has become shorter since its header was read.
    """
    buffer = bytearray(stored.size)
    with open(stored.file, "rb") as file:
        file.seek(stored.start)
        if file.readinto(buffer) != stored.size:
            raise EmoVerseError(f"{stored.file}: cut off or damaged; download it again.")
    return torch.frombuffer(buffer, dtype=DTYPES[stored.dtype]).reshape(stored.shape)


def write_shard(
    path: Path, layout: Mapping[str, tuple[str, tuple[int, ...]]], tensors: Iterable[torch.Tensor]
) -> str:
    """Write one safetensors file as its tensors arrive, atomically.

    Args:
        path: the file.
        layout: name to type and shape, in the order of `tensors`.
        tensors: one after the other; only one is held at a time.

    Returns:
        The file's SHA-256.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (dtype, shape) in layout.items():
        end = start + math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the tensors aligned
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:

            def put(data: Any) -> None:
                digest.update(data)
                file.write(data)

            put(len(text).to_bytes(8, "little") + text)
            for (name, (dtype, shape)), tensor in zip(layout.items(), tensors, strict=True):
                if tensor.dtype != DTYPES[dtype] or tuple(tensor.shape) != shape:
                    raise AssertionError(f"{name}: {tensor.dtype} {tuple(tensor.shape)}")
                put(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return digest.hexdigest()
