from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emoverse.m2se.recipe import Lora
from emoverse.models import compact
from emoverse.models.prefix_tree import merge
from emoverse.training.optimiser import add_lora

from .tiny import features, tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder as `emoverse train` writes it, of the tiny model."""
    monkeypatch.setattr(compact, "assemble", tiny_model)
    model = tiny_model()
    add_lora(model, Lora(r=4, dropout=0.0))
    with torch.no_grad():
        rng = torch.Generator().manual_seed(3)
        for name, parameter in model.network.named_parameters():
            if parameter.requires_grad:
                scale = 0.3 if "lora" in name else 0.1
                value = scale * torch.randn(parameter.shape, generator=rng)
                parameter.copy_(value.to(torch.bfloat16))
    compact.save(model, tmp_path)
    vit = model.network.model.vision_tower.state_dict()
    vit = {f"vit.{name}": value.contiguous() for name, value in vit.items()}
    save_file(vit | {"mean.weight": torch.zeros(1)}, tmp_path / "face_vit.safetensors")
    model.network.model.language_model.eval()
    tree = merge([[9, -1, -2, 7], [9, -1, 4]])
    with torch.no_grad():
        states = model.hidden_states([tree], features(model, 1))
        save_file({"states": states}, tmp_path / "expected.safetensors")
        save_file(
            {"projected": model.project(torch.ones(1, 4, 64))}, tmp_path / "projected.safetensors"
        )
    return tmp_path


def _saved(path: Path, name: str) -> torch.Tensor:
    loaded: torch.Tensor = compact.load_file(path)[name]
    return loaded


def test_a_saved_model_answers_as_the_one_that_was_trained(folder: Path) -> None:
    model = compact.load(folder, torch.float32)
    tree = merge([[9, -1, -2, 7], [9, -1, 4]])
    with torch.no_grad():
        states = model.hidden_states([tree], features(model, 1))
        untrained = tiny_model().hidden_states([tree], features(model, 1))
    expected = _saved(folder / "expected.safetensors", "states")
    torch.testing.assert_close(states, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(untrained, expected, atol=0.1)
    torch.testing.assert_close(
        model.project(torch.ones(1, 4, 64)), _saved(folder / "projected.safetensors", "projected")
    )
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_rounding_to_bfloat16_leaves_the_rotary_angles_alone(folder: Path) -> None:
    model = compact.load(folder, torch.bfloat16)
    language = model.network.model.language_model
    assert model.dtype == torch.bfloat16
    assert language.rotary_emb.inv_freq.dtype == torch.float32
    assert model.network.lm_head.weight is language.get_input_embeddings().weight
    assert next(model.network.model.vision_tower.parameters()).dtype == torch.float32


def test_only_what_was_trained_is_written(folder: Path) -> None:
    names = set(compact.load_file(folder / "adapter_model.safetensors"))
    assert names
    assert all("lora" in name for name in names)
