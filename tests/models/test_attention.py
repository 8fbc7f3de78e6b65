from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from emoverse.models.attention import grouped_bmm


def _tensors(heads: int, groups: int, steps: int, keys: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, heads, steps, 8, generator=rng),
        torch.randn(2, groups, keys, 8, generator=rng),
        torch.randn(2, groups, keys, 8, generator=rng),
    )


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (9, 3), (4, 1)])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_it_equals_pytorchs_attention(
    heads: int, groups: int, masked: bool, scaling: float | None
) -> None:
    query, key, value = _tensors(heads, groups, 5, 7)
    mask = None
    if masked:
        visible = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
        visible[..., 0] = True
        mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    ours, weights = grouped_bmm(torch.nn.Module(), query, key, value, mask, scaling)
    theirs = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    )
    assert weights is None
    assert ours.shape == (2, 5, heads, 8)
    torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_mask_for_more_keys_than_there_are_is_cut() -> None:
    query, key, value = _tensors(4, 2, 3, 6)
    mask = torch.zeros(2, 1, 3, 10)
    ours, _ = grouped_bmm(torch.nn.Module(), query, key, value, mask)
    same, _ = grouped_bmm(torch.nn.Module(), query, key, value, None)
    torch.testing.assert_close(ours, same)


def test_gradients_equal_pytorchs() -> None:
    ours = [t.requires_grad_() for t in _tensors(4, 2, 5, 5)]
    theirs = [t.detach().clone().requires_grad_() for t in ours]
    mask = torch.full((5, 5), torch.finfo(torch.float32).min).triu(1)[None, None]
    grouped_bmm(torch.nn.Module(), *ours, mask)[0].square().sum().backward()
    functional.scaled_dot_product_attention(
        *theirs, attn_mask=mask, enable_gqa=True
    ).square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
