from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from emoverse.emt import on_ray
from emoverse.emt.build import FaceWork, build
from emoverse.emt.looks import engine_of
from emoverse.errors import EmoVerseError

from . import drawn
from .conftest import tree


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EmoVerseError, match=r"emoverse\[ray\]"):
        list(on_ray.run(lambda: print, ["task"], 1, 60))


def test_an_unknown_engine_is_told() -> None:
    with pytest.raises(EmoVerseError, match="local or ray, not 'spark'"):
        engine_of("spark")


@pytest.mark.slow
def test_ray_writes_the_same_bytes(
    tmp_path: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray; install emoverse[ray]")
    # A busy machine starts Ray's helpers more slowly than Ray will wait for.
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "500000")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "500")
    meld = drawn.meld(tmp_path / "meld", clips=3)
    (meld / "train" / "train_splits" / "dia0_utt1.mp4").write_bytes(b"no video" * 99)
    for engine in ("local", "ray"):
        work = FaceWork(engine=engine_of(engine), workers=1, model=landmarker)
        build(tmp_path / engine, meld_dir=meld, faces=work, log=lambda _: None)
    ray.shutdown()
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
