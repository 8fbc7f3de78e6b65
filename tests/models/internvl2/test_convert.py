"""What the conversion accepts, refuses, resumes and reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emoverse import cli
from emoverse.errors import EmoVerseError
from emoverse.models.internvl2 import convert as conversion
from emoverse.models.internvl2.convert import convert, plan_conversion
from emoverse.models.internvl2.layout import BACKBONES, entries, read_published
from emoverse.models.internvl2.verify import verify

from . import published
from .conftest import Converted

pytest.importorskip("sentencepiece", reason="makes the small tokenizers")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    published.checkpoint(tmp_path / "published", "internlm2")
    return tmp_path / "published"


def _change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """All tensors in one file, changed."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_every_number_is_found_again(converted: Converted) -> None:
    report = verify(converted.source, converted.target)
    assert report.good
    assert sum(part.published for part in report.parts) == len(converted.checkpoint["tensors"])
    numbers = sum(t.numel() for t in converted.checkpoint["tensors"].values())
    assert sum(part.parameters for part in report.parts) == numbers
    assert all(part.identical == part.published for part in report.parts)
    assert numbers == sum(p.numel() for p in converted.model.parameters())


def test_a_changed_number_is_found(converted: Converted, tmp_path: Path) -> None:
    target = shutil.copytree(converted.target, tmp_path / "copy")
    file = sorted(target.glob("*.safetensors"))[1]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    report = verify(converted.source, target)
    assert not report.good
    assert len(report.differing) == 1


def test_many_shards_hold_each_tensor_once(converted: Converted) -> None:
    index = json.loads((converted.target / "model.safetensors.index.json").read_text())
    files = sorted(converted.target.glob("*.safetensors"))
    assert len(files) > 4
    stored = [(name, file.name) for file in files for name in load_file(file)]
    assert dict(stored) == index["weight_map"]
    assert len(stored) == len(index["weight_map"])
    total = sum(t.numel() * t.element_size() for file in files for t in load_file(file).values())
    assert index["metadata"]["total_size"] == total


def test_the_layout_is_that_of_the_published_sizes() -> None:
    """InternVL2-4B: 24 ViT and 32 Phi-3 layers; 8B: 32 InternLM2 layers with 8 key heads."""
    from emoverse.models.internvl2.layout import Sizes

    phi = Sizes(1024, 24, 16, 4096, 448, 14, 2, 3072, 32, 32, 32, 8192, 32020)
    intern = Sizes(1024, 24, 16, 4096, 448, 14, 2, 4096, 32, 32, 8, 14336, 92553)
    for sizes, architecture, billions in (
        (phi, "Phi3ForCausalLM", 4.147),
        (intern, "InternLM2ForCausalLM", 8.075),
    ):
        assert sizes.visual_tokens == 256
        numbers = sum(torch.Size(e.shape).numel() for e in entries(architecture, sizes))
        assert numbers / 1e9 == pytest.approx(billions, abs=0.005)


def test_lora_targets_are_layers_of_the_converted_model(converted: Converted) -> None:
    architecture = read_published(converted.source).architecture
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in converted.model.model.language_model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert set(BACKBONES[architecture].lora_targets) == linear


@pytest.mark.parametrize(
    "name", ["language_model.model.layers.1.attention.wqkv.weight", "mlp1.3.bias"]
)
def test_a_missing_tensor_is_named(source: Path, tmp_path: Path, name: str) -> None:
    _change_tensors(source, lambda tensors: tensors.__delitem__(name))
    with pytest.raises(EmoVerseError, match=rf"{name} is missing"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_tensor_is_named(source: Path, tmp_path: Path) -> None:
    name = "language_model.model.layers.0.attention.wqkv.lora_A.weight"
    _change_tensors(source, lambda tensors: tensors.update({name: torch.zeros(2, 2)}))
    with pytest.raises(EmoVerseError, match=rf"{name} has no place.*LoRA"):
        convert(source, tmp_path / "out")


def test_a_tensor_of_another_shape_is_named(source: Path, tmp_path: Path) -> None:
    _change_tensors(source, lambda tensors: tensors.update({"mlp1.1.bias": torch.zeros(7)}))
    with pytest.raises(EmoVerseError, match=r"mlp1\.1\.bias has the shape \(7,\)"):
        convert(source, tmp_path / "out")


def test_pickled_weights_are_refused_unread(source: Path, tmp_path: Path) -> None:
    for file in source.glob("*.safetensors*"):
        file.unlink()
    (source / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(EmoVerseError, match=r"pickled weights \(pytorch_model.bin\)"):
        convert(source, tmp_path / "out")


def test_a_cut_off_download_is_named(source: Path, tmp_path: Path) -> None:
    file = sorted(source.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(EmoVerseError, match=rf"{file.name}: cut off"):
        convert(source, tmp_path / "out")


def test_a_missing_shard_is_named(source: Path, tmp_path: Path) -> None:
    file = sorted(source.glob("*.safetensors"))[0]
    file.unlink()
    with pytest.raises(EmoVerseError, match=rf"{file.name}.*missing"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ps_version", "v1", "ps_version"),
        ("select_layer", -4, "select_layer"),
        ("force_image_size", 896, "force_image_size"),
        ("template", "vicuna_v1.1", "vicuna_v1.1"),
    ],
)
def test_another_arithmetic_is_refused(
    source: Path, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    _change_config(source, lambda config: config.update({key: value}))
    with pytest.raises(EmoVerseError, match=words):
        convert(source, tmp_path / "out")


def test_another_language_model_is_refused(source: Path, tmp_path: Path) -> None:
    _change_config(
        source, lambda config: config["llm_config"].update(architectures=["GemmaForCausalLM"])
    )
    with pytest.raises(EmoVerseError, match="GemmaForCausalLM"):
        convert(source, tmp_path / "out")


def test_a_tied_output_layer_stays_tied_and_its_own_stays_its_own(tmp_path: Path) -> None:
    source = tmp_path / "published"
    published.checkpoint(source, "qwen2")
    _change_config(source, lambda c: c["llm_config"].update(tie_word_embeddings=True))
    assert not plan_conversion(source).tied  # the checkpoint has an output layer of its own
    _change_tensors(source, lambda tensors: tensors.__delitem__("language_model.lm_head.weight"))
    convert(source, tmp_path / "out")
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert verify(source, tmp_path / "out").good


class _Stop(Exception):
    pass


def test_an_interrupted_conversion_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = conversion.write_shard

    def write(path: Path, *rest: Any) -> str:
        if len(written) == 3:
            raise _Stop
        written.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(conversion, "write_shard", write)
    out = tmp_path / "out"
    with pytest.raises(_Stop):
        convert(source, out, shard_bytes=60_000)
    assert not (out / "config.json").exists()  # nobody takes it for a model
    with pytest.raises(EmoVerseError, match="unfinished"):
        verify(source, out)
    done = sorted(out.glob("*.safetensors"))
    assert [file.name for file in done] == written
    damaged = done[1]
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\1\2\3")
    times = {file.name: file.stat().st_mtime_ns for file in done}

    written.clear()
    monkeypatch.setattr(conversion, "write_shard", real)
    convert(source, out, shard_bytes=60_000)
    assert verify(source, out).good
    kept = {file.name for file in done if file.stat().st_mtime_ns == times[file.name]}
    assert kept == {done[0].name, done[2].name}
    assert not list(out.glob(".*"))  # no half-written files are left


def test_a_folder_that_holds_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(EmoVerseError, match="not an earlier conversion"):
        convert(source, out)
    with pytest.raises(EmoVerseError, match="same folder"):
        convert(source, source)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_another_checkpoint_does_not_go_on_in_the_same_folder(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out")
    other = tmp_path / "other"
    published.checkpoint(other, "internlm2", seed=1, shards=1)
    with pytest.raises(EmoVerseError, match="another checkpoint"):
        convert(other, tmp_path / "out")


def test_a_full_disk_is_told_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(EmoVerseError, match="GB are needed"):
        convert(source, tmp_path / "out")


def test_half_precision_is_kept(source: Path, tmp_path: Path) -> None:
    _change_tensors(
        source, lambda t: t.update({name: x.to(torch.bfloat16) for name, x in t.items()})
    )
    convert(source, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    (file,) = (tmp_path / "out").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.bfloat16}


def test_no_code_of_the_checkpoint_runs(source: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("modeling_internvl_chat", "tokenization_internlm2", "modeling_internlm2"):
        (source / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\n")
    convert(source, tmp_path / "out")
    verify(source, tmp_path / "out")
    assert not ran.exists()
    assert not list((tmp_path / "out").glob("*.py"))
    assert "auto_map" not in (tmp_path / "out" / "config.json").read_text()


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, told = tmp_path / "out", tmp_path / "report.json"
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["convert", "internvl2", str(source), str(target), "--verify", "--json", str(told)]
        )
    assert ended.value.code in (0, None)
    assert "language model" in capsys.readouterr().out
    report = json.loads(told.read_text())
    assert report["differing"] == []
    assert [part["name"] for part in report["parts"]] == [
        "vision tower",
        "projector",
        "language model",
    ]
    with pytest.raises(SystemExit) as failed:
        cli.main(["convert", "internvl2", str(tmp_path / "none"), str(tmp_path / "other")])
    assert failed.value.code == 1
    assert "config.json" in capsys.readouterr().err
