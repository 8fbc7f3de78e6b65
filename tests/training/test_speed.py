from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import Lora, Recipe, Stage
from emoverse.models import any_mllm
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.training import speed
from emoverse.training.optimiser import Trained, add_lora
from emoverse.training.rows import rows
from emoverse.training.speed import language_of, layers_of, peak_memory, token_losses, tune
from emoverse.training.step import train_step

from ..models.families import FAMILIES
from ..models.tiny import tiny_model
from .test_rows import samples
from .test_trainer import _visual

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RECIPE = Recipe("compact", "train.jsonl", (Stage("all", {"er": 1}),))


def _mllm() -> Mllm:
    model = any_mllm.prepare("internvl", *FAMILIES["internvl"]())
    add_lora(model, Lora(r=2, dropout=0.0))
    return model


def test_the_recipe_sets_how_the_language_model_attends() -> None:
    for model in (_mllm(), tiny_model()):
        for wanted, chosen in (("sdpa", "sdpa"), ("auto", "grouped"), ("grouped", "grouped")):
            assert tune(model, replace(RECIPE, attention=wanted), CPU, 100) == chosen
            name = language_of(model).config._attn_implementation
            assert name == {"sdpa": "sdpa", "grouped": "grouped_bmm"}[chosen]
    model = _mllm()
    assert tune(model, replace(RECIPE, row_tokens=3072), CPU, 100) == "sdpa"
    assert tune(model, RECIPE, CPU, 2500) == "sdpa"  # samples longer than the recipe's rows
    assert tune(model, replace(RECIPE, row_tokens=3072), GPU, 100) == "flex"
    assert model.attention == "tree_flex"
    language_of(model).config.attention_dropout = 0.1
    assert tune(model, RECIPE, CPU, 100) == "sdpa"


def test_the_compact_models_rows_are_too_short_for_flex() -> None:
    long = replace(RECIPE, row_tokens=3072)
    assert tune(tiny_model(), long, GPU, 100) == "sdpa"
    with pytest.raises(EmoVerseError, match="too short for FlexAttention"):
        tune(tiny_model(), replace(long, attention="flex"), GPU, 100)


@pytest.mark.skipif(not hasattr(functional, "linear_cross_entropy"), reason="PyTorch before 2.13")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_losses_are_those_of_all_logits(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(16, 300, bias=False).to(dtype).requires_grad_(False)
    targets = torch.randint(0, 300, (40,), generator=rng)
    weights = torch.rand(40, generator=rng)
    found = []
    for limit in (2**28, 1):
        monkeypatch.setattr(speed, "_FUSED_FROM", limit)
        rng.manual_seed(1)
        hidden = torch.randn(40, 16, generator=rng).to(dtype).requires_grad_()
        losses = token_losses(head, hidden, targets)
        assert losses.dtype == torch.float32
        (losses * weights).sum().backward()
        found.append((losses.detach(), hidden.grad))
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **near)


@pytest.mark.slow
def test_compiled_layers_have_the_same_losses_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced, found = [], []
    compile_layer = torch.nn.Module.compile

    def trace(layer: torch.nn.Module, *, dynamic: bool) -> None:
        # Ours is what is traced; PyTorch's code for it takes a minute to be made.
        compile_layer(layer, dynamic=dynamic, backend="aot_eager")
        traced.append(layer)

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    for compiled in (False, True):
        model = tiny_model()
        torch.manual_seed(0)
        add_lora(model, Lora(r=2, dropout=0.0))
        tune(model, replace(RECIPE, compile=compiled), CPU, 100)
        state = Trained(model)
        assert all("_orig_mod" not in name for name in state.names)
        batch = rows(samples(model), 10_000, random.Random(0))
        state.set_rates(1e-2, 1e-2)
        steps = [train_step(model, state, [batch], _visual(model)) for _ in range(2)]
        losses = {
            task: [loss for by_task, _ in steps for loss in by_task[task]] for task in steps[0][0]
        }
        found.append([*losses.values(), [norm for _, norm in steps]])
    assert len(traced) == len(layers_of(model))
    for plain, compiled in zip(*found, strict=True):
        assert plain == pytest.approx(compiled, rel=1e-3)


@pytest.mark.parametrize("make", [_mllm, tiny_model])
def test_checkpointed_layers_learn_the_same_and_keep_less(
    make: Callable[[], Mllm | EmoVerse],
) -> None:
    found, kept = [], []
    for checkpointed in (False, True):
        model = make()
        if isinstance(model, EmoVerse):
            add_lora(model, Lora(r=2, dropout=0.2))
        for name, value in model.network.named_parameters():
            if "lora_" in name:  # half of which starts at zero
                value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        language = language_of(model)
        tune(model, replace(RECIPE, gradient_checkpointing=checkpointed), CPU, 100)
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        torch.manual_seed(3)  # dropout is drawn again in the backward pass
        states = torch.randn(2, 40, language.config.hidden_size)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = language(inputs_embeds=states, use_cache=False).last_hidden_state
        kept.append(sum(sizes))
        out.square().sum().backward()
        gradients = [p.grad for p in model.network.parameters() if p.grad is not None]
        assert len(gradients) > 20
        found.append([out.detach(), *gradients])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)
    assert kept[1] < 0.5 * kept[0]


def test_the_layers_are_found_under_lora() -> None:
    assert len(layers_of(_mllm())) == 3
    assert len(layers_of(tiny_model())) == 2


def test_memory_is_what_the_process_holds() -> None:
    before = peak_memory(CPU)
    held = torch.ones(200_000_000 // 4)
    assert peak_memory(CPU) >= before
    assert peak_memory(CPU) > held.numel() * 4 / 1e9
