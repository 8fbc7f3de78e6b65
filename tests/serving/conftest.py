"""One running server for the tests that do not need their own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoverse.models import weights
from emoverse.serving.settings import Limits

from ..faces.clips import write
from .running import Running, make_settings, running


@pytest.fixture(scope="session")
def landmarker() -> Path:
    path = weights.cache_dir() / weights.FACE_LANDMARKER.file
    if not path.is_file():
        pytest.skip("needs the face landmark model; run `emoverse pull compact`")
    return path


class Told(io.TextIOBase):
    """What is written to stderr once `listen` was called; threads may write while it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._parts: list[str] = []

    def listen(self) -> None:
        """Take the place of pytest's own capture, which it puts back between set-up and test."""
        self._monkeypatch.setattr(sys, "stderr", self)

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    @property
    def text(self) -> str:
        """The lines that are whole."""
        return "".join(self._parts).rpartition("\n")[0]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Hears the servers' log."""
    return Told(monkeypatch)


@pytest.fixture(scope="session")
def root_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's root with a clip in it, and a clip beside it that is out of bounds."""
    base = tmp_path_factory.mktemp("media")
    root = base / "root"
    (root / "sub").mkdir(parents=True)
    write(root / "sub" / "grey.mp4", count=6)
    write(base / "outside.mp4", count=6)
    (root / "link.mp4").symlink_to(base / "outside.mp4")
    (root / "linked").symlink_to(base)
    return root


@pytest.fixture(scope="session")
def clip(root_folder: Path) -> bytes:
    return (root_folder / "sub" / "grey.mp4").read_bytes()


@pytest.fixture(scope="session")
def live(
    landmarker: Path, root_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    patient = Limits(request_seconds=600, decode_seconds=600)
    with running(make_settings(folder, patient, roots=(root_folder,))) as server:
        yield server
