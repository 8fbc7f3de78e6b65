"""The face work of a whole dataset: what is there already, what is left, who does it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from emoverse.corpora.records import Utterance
from emoverse.emt import pool
from emoverse.emt.clips import (
    Cut,
    Look,
    Settings,
    basis,
    give_up,
    key_of,
    read_look,
    result_file,
    worker,
)
from emoverse.errors import EmoVerseError
from emoverse.files import read_json, sha256_of
from emoverse.models import weights
from emoverse.tasks.action_units import EMOTION_AUS

Engine = Literal["local", "ray"]
Keep = Literal["all", "good", "none"]
Progress = Callable[[int, int], None]
# A clip of the longest kind takes about a minute.
TIMEOUT = 600.0

_TEMPORARY = re.compile(r"\..+\.(?:jsonl?|jpg|txt)\.[a-z0-9_]{8}")
_CROP = re.compile(r"([0-9a-f]{32})-(peak|person[0-9]+)\.jpg")


class Looks:
    """The results of the face work in a dataset's folder."""

    def __init__(
        self, out: Path, settings: Settings, *, model: Path | None = None, emotion_aus: bool = False
    ) -> None:
        """Open the folder.

        Args:
            out: the dataset's folder.
            settings: of the face work.
            model: face landmark model; the package's own by default, fetched once.
            emotion_aus: sum only the labelled emotion's AUs in Eq 1.
        """
        self.out, self.settings = out, settings
        self.model = Path(model or weights.face_landmarker())
        self.basis: Mapping[str, Any] = basis(settings, self.model)
        self._emotion_aus = emotion_aus
        self._hashes = _Hashes(out / "faces" / "clips.jsonl")

    def cut(self, utterance: Utterance) -> Cut | None:
        """The clip of an utterance; None when it has none that may be used.

        Raises:
            OSError: the clip cannot be read.
        """
        if utterance.clip is None or utterance.clip_problem is not None:
            return None
        start, end = 0.0, None
        if utterance.whole_video:
            start, end = utterance.start or 0.0, utterance.end
        aus = EMOTION_AUS.get(utterance.emotion or "", ()) if self._emotion_aus else ()
        path = utterance.clip.absolute()
        summed = tuple(aus) or None
        key = key_of(self._hashes.of(path), start, end, summed, self.basis)
        return Cut(key, str(path), start, end, summed)

    def of(self, utterance: Utterance) -> Look | None:
        """What was found in an utterance's clip; None when it has no usable clip."""
        try:
            cut = self.cut(utterance)
        except OSError as error:
            return Look("", error=f"{utterance.clip}: {error.strerror or error}")
        return None if cut is None else read_look(self.out, cut)

    def make(
        self,
        utterances: Iterable[Utterance],
        *,
        engine: Engine = "local",
        workers: int | None = None,
        timeout: float = TIMEOUT,
        keep: Keep = "all",
        ray_address: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Do the face work that is left; clips that have a result are passed over.

        Args:
            utterances: whose clips are looked at.
            engine: `local` processes of this machine, or `ray` over a cluster that shares the
                dataset's and the clips' folders.
            workers: how many; one a core of this machine when None.
            timeout: seconds for a clip before it is given up.
            keep: results of an earlier run that stay: `all`, the `good` (clips that were given
                up or could not be read are tried again), or `none`.
            ray_address: of the cluster; by default a local one.
            progress: told (done, all) of the clips without a result.

        Raises:
            EmoVerseError: no worker can start, or Ray is not installed.
        """
        workers = workers or len(os.sched_getaffinity(0))
        members = list(utterances)
        total = len(members)

        def left() -> Iterator[Cut]:
            nonlocal total
            seen: set[str] = set()
            for utterance in members:
                try:
                    cut = self.cut(utterance)
                except OSError:
                    cut = None  # `of` tells
                if cut is None or cut.key in seen or self._done(cut, keep):
                    total -= 1
                    continue
                seen.add(cut.key)
                yield cut

        start = partial(worker, self.out.absolute(), self.settings, self.model, timeout)
        if engine == "ray":
            from emoverse.emt import on_ray

            through = on_ray.run(start, left(), workers, timeout, ray_address)
        else:
            through = pool.run(start, left(), workers=workers, timeout=timeout)
        for done, one in enumerate(through, 1):
            if one.failure is not None:
                give_up(one.task, f"{one.task.path}: {one.failure}", self.out)
            if progress:
                progress(done, total)

    def sweep_crops(self, keys: set[str]) -> None:
        """Remove pictures of earlier builds that no clip of this one has."""
        for file in (self.out / "crops").rglob("*.jpg"):
            match = _CROP.fullmatch(file.name)
            if match and match[1] not in keys:
                file.unlink()

    def _done(self, cut: Cut, keep: Keep) -> bool:
        file = result_file(self.out, cut.key)
        if keep == "none" or not file.is_file():
            return False
        return keep == "all" or not read_json(file).get("error")


def sweep(out: Path) -> None:
    """Remove what a killed build left half written in a dataset's folder."""
    folders = (out / name for name in ("faces", "crops", "reasons", "eval"))
    inside = chain.from_iterable(folder.rglob(".*") for folder in folders)
    for file in (*out.glob(".*"), *inside):
        if _TEMPORARY.fullmatch(file.name):
            file.unlink(missing_ok=True)  # its process may still end


class _Hashes:
    """SHA-256 of files, remembered by path, size and time of change in a file of lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, tuple[int, int, str]] = {}
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    path, size, changed, digest = json.loads(line)
                except ValueError:
                    continue  # the last line of a killed run
                self._known[path] = (size, changed, digest)
            # So that a torn line does not swallow the next one.
            self._add("")

    def of(self, path: Path) -> str:
        stat = path.stat()
        size, changed = stat.st_size, stat.st_mtime_ns
        known = self._known.get(str(path))
        if known is not None and known[:2] == (size, changed):
            return known[2]
        digest = sha256_of(path)
        self._known[str(path)] = (size, changed, digest)
        self._add(json.dumps([str(path), size, changed, digest], ensure_ascii=False))
        return digest

    def _add(self, line: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def engine_of(name: str) -> Engine:
    """`name` as an engine.

    Raises:
        EmoVerseError: it is none.
    """
    if name == "local":
        return "local"
    if name == "ray":
        return "ray"
    raise EmoVerseError(f"engine must be local or ray, not {name!r}.")
