"""Visual tokens on disk: what a frozen encoder saw is computed once, for all epochs and runs.

An entry is a safetensors file named by a hash of everything it depends on: the encoder's weights,
the preparation of pictures, and the bytes of the pictures themselves. A change of any of them is
another name, so an entry is never out of date. Entries are read memory-mapped. When the folder
outgrows its bound, those not used for longest are deleted; what the running training uses stays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from emoverse.files import sha256_of, write_bytes
from emoverse.models.fetching import cache_dir


class VisualCache:
    """A folder of entries with a bound on its size; made by `open_cache`.

    Attributes:
        refused: entries that found no room; what they hold is computed again where it is needed.
    """

    def __init__(self, folder: Path, bound: int) -> None:
        """Use `folder`, holding at most `bound` bytes."""
        self.folder = folder
        self.bound = bound
        self._used: set[str] = set()
        self._size = sum(path.stat().st_size for path in self._entries())
        self._all_in_use = False
        self.refused = 0

    def read(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
        """Tensors and notes of an entry; None when there is none, or a broken one."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as entry:
                tensors = {name: entry.get_tensor(name) for name in entry.keys()}  # noqa: SIM118
                notes = dict(entry.metadata() or {})
        except (OSError, SafetensorError):
            return None
        if key not in self._used:
            self._used.add(key)
            os.utime(path)  # the least recently used go first
        return tensors, notes

    def write(
        self, key: str, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]
    ) -> bool:
        """Keep an entry; False when the bound leaves no room beside what this run uses."""
        ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        data = serialize(ready, dict(notes))
        if self._size + len(data) > self.bound and not self._make_room(len(data)):
            self.refused += 1
            return False
        try:
            write_bytes(self._path(key), data)
        except OSError:  # a full disk costs time, not the run
            self.refused += 1
            return False
        self._used.add(key)
        self._size += len(data)
        return True

    def _make_room(self, wanted: int) -> bool:
        if self._all_in_use:
            return False
        idle = [path for path in self._entries() if path.stem not in self._used]
        for path in sorted(idle, key=lambda path: path.stat().st_mtime):
            if self._size + wanted <= self.bound:
                break
            self._size -= path.stat().st_size
            path.unlink(missing_ok=True)
        self._all_in_use = self._size + wanted > self.bound
        return not self._all_in_use

    def _entries(self) -> list[Path]:
        return list(self.folder.glob("*/*.safetensors"))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def open_cache(gigabytes: float, folder: Path | None = None) -> VisualCache | None:
    """The cache in `folder`, by default in the user's cache folder; None for a bound of 0."""
    if gigabytes <= 0:
        return None
    return VisualCache(folder or cache_dir() / "visual_tokens", int(gigabytes * 1e9))


def entry_key(setting: str, files: Iterable[Path]) -> str:
    """Name of the entry for these pictures, in this order, under this setting."""
    digest = hashlib.sha256(setting.encode())
    for path in files:
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def weights_fingerprint(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Hash of named weights; 0.3 s for a ViT of 300 million parameters in bfloat16."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
