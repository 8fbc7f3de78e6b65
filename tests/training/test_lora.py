"""LoRA layers in fewer passes: the numbers are peft's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from emoverse.training.lora import quicken


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.second = nn.Linear(5, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).tanh())


def _adapted(dtype: torch.dtype = torch.float64, **settings: Any) -> PeftModel:
    torch.manual_seed(0)
    values = {"r": 2, "lora_alpha": 8, "target_modules": ["first", "second"]} | settings
    return get_peft_model(_Small(), LoraConfig(init_lora_weights=False, **values)).to(dtype)


def _run(model: PeftModel, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output and every gradient."""
    model.zero_grad()
    out = model(x)
    (out**2).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"out": out.detach(), **({"x": x.grad} if x.grad is not None else {}), **gradients}


def _same(model: PeftModel, count: int, *, x_grad: bool = True) -> None:
    one, two = (torch.ones(3, 2, 6, dtype=torch.float64) for _ in range(2))
    for x in (one, two):
        x[1] = -0.5
        x.requires_grad_(x_grad)
    theirs = _run(model, one)
    assert quicken(model) == count
    ours = _run(model, two)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-14, msg=name)


def test_outputs_and_gradients_are_pefts() -> None:
    _same(_adapted(), 2)


def test_what_is_frozen_gets_no_gradient() -> None:
    """A stage may rest layers, and the first layer's input is data."""
    model = _adapted()
    for name, parameter in model.named_parameters():
        if "first.lora_A" in name or "second.lora_B" in name:
            parameter.requires_grad_(False)
    _same(model, 2, x_grad=False)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_layers_that_do_more_are_left_to_peft(settings: dict[str, Any]) -> None:
    assert quicken(_adapted(**settings)) == 0


def test_a_trained_base_is_left_to_peft() -> None:
    model = _adapted()
    model.base_model.model.first.base_layer.weight.requires_grad_(True)
    assert quicken(model) == 1


def test_an_adapter_of_another_type_is_run_by_peft() -> None:
    """Until training begins, adapters are float32 over a bfloat16 model."""
    model = _adapted(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()
    x = torch.ones(2, 6, dtype=torch.bfloat16)
    theirs = model(x)
    assert quicken(model) == 2
    assert torch.equal(model(x), theirs)


def test_bfloat16_is_rounded_once() -> None:
    """Nearer to the exact result than peft, which rounds product, share and sum."""
    exact, theirs, ours = _adapted(), _adapted(torch.bfloat16), _adapted(torch.bfloat16)
    exact.load_state_dict(ours.state_dict())  # the rounded weights, in float64
    quicken(ours)
    x = torch.randn(512, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    layers = [model.base_model.model.first for model in (exact, theirs, ours)]
    with torch.no_grad():
        true, far, near = (layer(x.to(layer.base_layer.weight.dtype)).double() for layer in layers)
    assert (near - true).abs().mean() < (far - true).abs().mean()
