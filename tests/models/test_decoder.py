from __future__ import annotations

import pytest
import torch

from emoverse.inference.scoring import Question, read
from emoverse.models import precision
from emoverse.models.decoder import Branch, begin
from emoverse.models.llama import Shape, _Matrix

from .tiny import alone, laid_out, tiny_model

PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


@pytest.mark.parametrize("kind", ["plain", "fused", "packed"])
def test_steps_give_the_hidden_states_of_the_whole_sequence(kind: str) -> None:
    model = tiny_model()
    fused = None if kind == "plain" else laid_out(model, packed=kind == "packed")
    branches = [one for one in read(model, [Question(p) for p in PROMPTS]) if type(one) is Branch]
    steps, seen = begin(model, branches, fused)
    written: list[list[int]] = [[], []]
    for new in ([[20, 21], [22, 23]], [[24], [25]]):
        count = len(new[0])
        positions = [
            [len(p) + len(w) + n for n in range(count)]
            for p, w in zip(PROMPTS, written, strict=True)
        ]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        visible = torch.cat([seen[:, None].expand(-1, count, -1), causal.expand(2, -1, -1)], dim=-1)
        states = steps.step(torch.tensor(new), torch.tensor(positions), visible)
        seen = torch.cat([seen, torch.ones(2, count, dtype=torch.bool)], dim=-1)
        for row, tokens in enumerate(new):
            written[row] += tokens
            expected = alone(model, PROMPTS[row] + written[row])[-count:]
            error = (states[row] - expected).abs().max() / expected.abs().max()
            assert error < (5e-3 if kind == "packed" else 1e-5)
            assert kind != "packed" or error > 1e-6  # they are in use
    everything = steps.logits(states[:, -1])
    few = steps.logits(states[:, -1], torch.tensor([3, 7]))
    tolerance = 1e-2 if kind == "packed" else 1e-4
    torch.testing.assert_close(few, everything[:, [3, 7]], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 5, 80])
def test_packed_bfloat16_weights_give_the_products_of_plain_ones(rows: int) -> None:
    if not precision.packs(torch.bfloat16):
        pytest.skip("this machine or PyTorch packs no bfloat16 weights")
    rng = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 64, generator=rng)
    given = torch.randn(rows, 64, generator=rng).bfloat16()
    with torch.inference_mode():
        packed = _Matrix.of(weight, torch.bfloat16, packed=True)
        found = packed(given)
        assert found.dtype == torch.bfloat16
        assert isinstance(packed.weight, torch.Tensor) and packed.weight.is_mkldnn
    exact = given.double() @ weight.bfloat16().double().T
    # What is added up is float32; the sum is rounded once, to 8 bits.
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-3)


def test_many_steps_find_room() -> None:
    model = tiny_model()
    (branch,) = read(model, [Question(PROMPTS[0])])
    assert isinstance(branch, Branch)
    steps, _ = begin(model, [branch], laid_out(model))
    tokens = [n % 50 for n in range(300)]
    for place, token in enumerate(tokens):
        position = len(PROMPTS[0]) + place
        visible = torch.ones(1, 1, position + 1, dtype=torch.bool)
        states = steps.step(torch.tensor([[token]]), torch.tensor([[position]]), visible)
    expected = alone(model, PROMPTS[0] + tokens)[-1]
    torch.testing.assert_close(states[0, 0], expected, rtol=1e-3, atol=1e-3)


def test_other_architectures_have_no_shape_of_ours() -> None:
    config = tiny_model().network.model.language_model.config.to_dict()
    assert Shape.of(config) is not None
    assert Shape.of(config | {"hidden_act": "gelu"}) is None
