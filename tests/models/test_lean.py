"""The model that answers gives the numbers of the one that is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.runs import model_sha256
from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference import calibration
from emoverse.inference.engine import Engine, load_model
from emoverse.inference.interview import Question, Watched
from emoverse.m2se.recipe import Lora
from emoverse.models import compact, face_vit, lean, precision, weights
from emoverse.models.prefix_tree import merge
from emoverse.tasks import ecpe, er, eri, fer, msa
from emoverse.training import folder as run_folder
from emoverse.training.optimiser import add_lora

from .tiny import tiny_model, tokenizer

Load = Callable[[Path], Any]

TREES = [
    merge([[1, 5, 6, -1, -2, 9, 40], [1, 5, 6, -1, -3, 17], [1, 5, 6, 7]]),
    merge([[1, 2, 3]]),
    # Long enough for blocks of queries that see few blocks of keys.
    merge([[talk, *range(20, 90)] for talk in range(5)]),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder as `emoverse train` writes it, on a small random Llama."""
    base = tmp_path / "base"
    monkeypatch.setattr(weights, "smollm2_dir", lambda progress=None: base)
    rng = torch.Generator().manual_seed(3)
    tiny = tiny_model()
    language = tiny.network.model.language_model
    language.resize_token_embeddings(len(tiny.tokenizer) - 3)  # without the image marks
    for name, parameter in language.named_parameters():
        if "norm" in name:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    embedding = language.get_input_embeddings().weight
    embedding.copy_(embedding.bfloat16())  # as SmolLM2's are stored
    language.save_pretrained(base)
    tiny.tokenizer.save_pretrained(base)
    model = compact.assemble(torch.float32)
    add_lora(model, Lora(r=4, first_layer=1, dropout=0.0))
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if parameter.requires_grad:
                scale = 0.3 if "lora" in name else 0.1
                parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
    folder = tmp_path / "trained"
    compact.save(model, folder)
    tower = face_vit.vision_tower().state_dict()
    vit = {
        f"vit.{name}": value + 0.1 * torch.rand(value.shape, generator=rng)
        for name, value in tower.items()
        if value.is_floating_point()
    }
    counts = {f"vit.{name}": value for name, value in tower.items() if f"vit.{name}" not in vit}
    save_file(vit | counts | {"mean.weight": torch.zeros(1)}, folder / "face_vit.safetensors")
    return folder


@torch.inference_mode()
def test_pictures_and_trees_give_the_numbers_of_transformers_classes(folder: Path) -> None:
    trained, answering = compact.load(folder, torch.float32), lean.load(folder, torch.float32)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected, found = trained.visual_tokens(pixels), answering.visual_tokens(pixels)
    torch.testing.assert_close(found, expected)
    assert answering.image_tokens == trained.image_tokens == found.shape[1]
    features = trained.project(expected)
    torch.testing.assert_close(answering.project(found), features)
    before, after = trained.new_cache(), answering.new_cache()
    states = trained.hidden_states(TREES, features, before)
    mine = answering.hidden_states(TREES, features, after)
    for row, tree in enumerate(TREES):
        size = len(tree.tokens)
        torch.testing.assert_close(mine[row, :size], states[row, :size], rtol=1e-3, atol=1e-3)
        for layer, kept in zip(after.layers, before.layers, strict=True):
            torch.testing.assert_close(
                layer.keys[row, :, :size], kept.keys[row, :, :size], rtol=1e-3, atol=1e-3
            )
            torch.testing.assert_close(
                layer.values[row, :, :size], kept.values[row, :, :size], rtol=1e-3, atol=1e-3
            )
    torch.testing.assert_close(answering.head(mine), trained.head(mine))
    merged = answering.llama.layers
    rounded = lean.load(folder, torch.bfloat16)
    assert rounded.llama.words.dtype == torch.bfloat16
    torch.testing.assert_close(
        rounded.llama.layers[1][1].weight, merged[1][1].weight.to(torch.bfloat16)
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_engine_answers_alike_on_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    if packed and not precision.packs(torch.float32):
        pytest.skip("this PyTorch has no FBGEMM")
    monkeypatch.setattr(precision, "fast", lambda: torch.float32)
    monkeypatch.setattr(precision, "packs", lambda dtype: packed)
    info = VideoInfo(Path("a.mp4"), 64, 48, 10.0, 3.0, 30, 0, False)
    rng = np.random.default_rng(0)
    track = FaceTrack(
        info,
        peak_image=rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        peak_landmarks=rng.random((478, 3)).astype(np.float32) * 40,
    )
    watched = Watched("a.mp4", track)
    turns = [ecpe.Turn(1, "A", "x", "joy"), ecpe.Turn(2, "B", "y", "fear")]
    asked = {
        "msa": msa.query("Hi"),
        "er": er.query("Hi"),
        "fer": fer.query(),
        "ecpe": ecpe.query(turns, 2),
        "eri": eri.query("Hi"),
    }
    questions = [
        Question(Record(query, "", task, id=task), watched) for task, query in asked.items()
    ]
    found = load_model(str(folder)).ask(questions)
    expected = Engine(compact.load(folder, torch.float32)).ask(questions)
    assert isinstance(load_model(str(folder)).model, lean.Lean)
    for mine, theirs in zip(found, expected, strict=True):
        if mine.probabilities or not packed:  # what random weights write hangs on the last digit
            assert (mine.text, mine.label) == (theirs.text, theirs.label)
        # An answer of several tokens adds up their roundings, and random weights enlarge them.
        assert dict(mine.probabilities) == pytest.approx(
            dict(theirs.probabilities), abs=0.03 if packed else 1e-4
        )
    assert len(found[-1].text) > 20


@pytest.mark.parametrize("text", ["I <img> é 😀<|im_end|>\n<|im_start|>x  y", "5_surprise,2;5", ""])
def test_the_tokenizer_is_transformers_own(folder: Path, text: str) -> None:
    theirs = compact.assemble(torch.float32).tokenizer
    mine = lean.load(folder).tokenizer
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    assert mine(text, add_special_tokens=False)["input_ids"] == ids
    assert mine(text)["input_ids"] == theirs(text)["input_ids"]
    for skip in (False, True):
        assert mine.decode(ids, skip_special_tokens=skip) == theirs.decode(
            ids, skip_special_tokens=skip
        )


def test_half_a_surrogate_pair_is_read_as_a_question_mark(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    words = lean.Words(tmp_path / "tokenizer.json")
    assert words.decode(words("hi \ud83d you 😀")["input_ids"]) == "hi ? you 😀"


def test_text_is_written_in_float32_where_labels_are_weighed_in_bfloat16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not precision.packs(torch.float32):
        pytest.skip("this PyTorch has no FBGEMM")
    monkeypatch.setattr(precision, "packs", lambda dtype: dtype == torch.float32)
    asked = [
        Question(Record(query, "", task, id=str(n)))
        for n, (task, query) in enumerate(
            [("msa", msa.query("Hi")), ("eri", eri.query("Hi")), ("eri", eri.query("No, bye."))]
        )
    ]
    monkeypatch.setattr(precision, "fast", lambda: torch.float32)
    exact = load_model(str(folder)).ask(asked)
    monkeypatch.setattr(precision, "fast", lambda: torch.bfloat16)
    engine = load_model(str(folder))
    assert isinstance(engine.model, lean.Lean)
    assert engine.model.llama.dtype == torch.bfloat16
    assert engine.model.writer.llama.dtype == torch.float32
    found = engine.ask(asked)
    assert [one.text for one in found[1:]] == [one.text for one in exact[1:]]
    assert dict(found[0].probabilities) != dict(exact[0].probabilities)
    assert dict(found[0].probabilities) == pytest.approx(dict(exact[0].probabilities), abs=0.2)
    assert engine.ask(asked[2:])[0].text == found[2].text  # alone as in company


def test_a_merged_model_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    settings = {"model": "compact", "projector": "own", "stages": [], "seed": 1}
    settings["lora"] = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj"]}
    (folder / "recipe.json").write_text(json.dumps(settings))
    (folder / "log.jsonl").touch()
    (folder / calibration.FILE).write_text('{"cause_threshold": 0.25}')
    out = run_folder.merge(folder, tmp_path / "mine")
    before, after = load_model(str(folder)), load_model(str(out))
    assert (before.name, after.name) == ("trained", "mine")
    assert after.calibration.cause_threshold == 0.25
    questions = [
        Question(Record(er.query("Hi"), "", "er")),
        Question(Record(eri.query(), "", "eri")),
    ]
    for mine, theirs in zip(after.ask(questions), before.ask(questions), strict=True):
        assert (mine.text, mine.probabilities) == (theirs.text, theirs.probabilities)
    assert model_sha256(str(out)) != model_sha256(str(folder))
    assert "library_name: emoverse" in (out / "README.md").read_text()


def test_an_adapter_that_is_more_than_a_lora_is_refused(folder: Path) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(EmoVerseError, match=r"no plain LoRA \(use_dora\)"):
        lean.load(folder)


@pytest.mark.parametrize("load", [compact.load, lean.load])
@pytest.mark.parametrize(
    "name", ["face_vit.safetensors", "projector.safetensors", "adapter_model.safetensors"]
)
def test_a_folder_that_lacks_a_file_is_told_by_its_name(
    load: Load, folder: Path, name: str
) -> None:
    (folder / name).unlink()
    with pytest.raises(EmoVerseError, match=f"{name}: the model folder lacks this file"):
        load(folder)


@pytest.mark.parametrize("load", [compact.load, lean.load])
def test_a_vit_of_another_shape_is_told_in_one_sentence(load: Load, folder: Path) -> None:
    path = folder / "face_vit.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    save_file(tensors | {name: torch.zeros(3, 5)}, path)
    with pytest.raises(EmoVerseError, match=r"another shape \(.* is 3x5, this version") as told:
        load(folder)
    assert "\n" not in str(told.value)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(EmoVerseError, match="is absent, this version of EmoVerse needs"):
        load(folder)
    path.write_bytes(b"torn")
    with pytest.raises(EmoVerseError, match="not a readable safetensors file"):
        load(folder)


def test_answering_imports_no_model_library() -> None:
    code = (
        "import sys, emoverse.inference.engine, emoverse.models.lean;"
        "print([m for m in ('transformers', 'peft', 'scipy', 'torch._dynamo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
