from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from emoverse.training import visual, visual_cache
from emoverse.training.visual_cache import entry_key, open_cache, weights_fingerprint

ROWS = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)


def _key(number: int) -> str:
    return f"{number:064x}"


def test_what_is_kept_comes_back_to_the_bit(tmp_path: Path) -> None:
    cache = open_cache(1, tmp_path)
    assert cache is not None
    assert cache.read(_key(1)) is None
    assert cache.write(_key(1), {"rows": ROWS}, {"texts": "[]"})
    again = open_cache(1, tmp_path)
    assert again is not None
    found = again.read(_key(1))
    assert found is not None
    assert torch.equal(found[0]["rows"], ROWS)
    assert found[0]["rows"].dtype == torch.bfloat16
    assert found[1] == {"texts": "[]"}


def test_without_a_bound_there_is_no_cache(tmp_path: Path) -> None:
    assert open_cache(0, tmp_path) is None


def test_a_broken_entry_counts_as_none(tmp_path: Path) -> None:
    cache = open_cache(1, tmp_path)
    assert cache is not None
    cache.write(_key(1), {"rows": ROWS}, {})
    (path,) = tmp_path.glob("*/*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert cache.read(_key(1)) is None


def test_the_bound_holds_and_the_longest_unused_go_first(tmp_path: Path) -> None:
    one = len(visual_cache.serialize({"rows": ROWS}, {}))
    cache = open_cache(3.5 * one / 1e9, tmp_path)
    assert cache is not None
    for number in range(3):
        assert cache.write(_key(number), {"rows": ROWS}, {})
        os.utime(tmp_path / "00" / f"{_key(number)}.safetensors", (number + 1, number + 1))
    later = open_cache(3.5 * one / 1e9, tmp_path)  # another run, which uses the oldest
    assert later is not None
    assert later.read(_key(0)) is not None
    assert later.write(_key(3), {"rows": ROWS}, {})
    left = {path.stem for path in tmp_path.glob("*/*.safetensors")}
    assert left == {_key(0), _key(2), _key(3)}
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.safetensors")) <= 3.5 * one


def test_what_a_run_uses_is_never_deleted_for_more(tmp_path: Path) -> None:
    one = len(visual_cache.serialize({"rows": ROWS}, {}))
    cache = open_cache(2.5 * one / 1e9, tmp_path)
    assert cache is not None
    kept = [cache.write(_key(number), {"rows": ROWS}, {}) for number in range(4)]
    assert kept == [True, True, False, False]
    assert cache.refused == 2
    assert cache.read(_key(0)) is not None


def test_a_full_disk_only_means_that_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(1, tmp_path)
    assert cache is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(visual_cache, "write_bytes", full)
    assert not cache.write(_key(1), {"rows": ROWS}, {})
    assert cache.refused == 1
    assert cache.read(_key(1)) is None


def test_the_key_follows_setting_content_and_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    keys = {
        entry_key("s", [a, b]),
        entry_key("s", [b, a]),
        entry_key("t", [a, b]),
        entry_key("s", [a]),
    }
    assert len(keys) == 4
    before = entry_key("s", [a])
    a.rename(tmp_path / "renamed")
    assert entry_key("s", [tmp_path / "renamed"]) == before
    (tmp_path / "renamed").write_bytes(b"three")
    assert entry_key("s", [tmp_path / "renamed"]) != before


def test_faces_are_looked_for_again_where_the_code_that_finds_them_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path(shutil.copytree(Path(visual.pictures.__file__).parent, tmp_path / "faces"))
    before = visual._faces_code()
    monkeypatch.setattr(visual.pictures, "__file__", str(code / "pictures.py"))
    assert visual._faces_code() == before
    with (code / "crop.py").open("a") as file:
        file.write("\n# another margin\n")
    assert visual._faces_code() != before


def test_one_changed_weight_changes_the_fingerprint() -> None:
    weights = {"a": torch.zeros(3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    before = weights_fingerprint(weights.items())
    assert weights_fingerprint(weights.items()) == before
    weights["b"][1] = 1e-3
    assert weights_fingerprint(weights.items()) != before
