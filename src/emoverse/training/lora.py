"""A LoRA layer in fewer passes over memory than peft's: y = x W' + s (x A') B'.

peft computes the adapter's share, scales it and adds it, each a pass over the whole output, and
autograd sums two gradients of the input. Here both shares are added by the matrix products
themselves (`addmm`), forwards and backwards; the result is rounded once instead of three times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional


def quicken(language: nn.Module) -> int:
    """Let every plain LoRA layer of a language model run this way.

    Layers that do more (dropout, a quantised or trained base, DoRA, several adapters) are left as
    peft has them.

    Returns:
        How many layers it is.
    """
    plain = [
        module
        for module in language.modules()
        if isinstance(module, LoraLinear) and _is_plain(module)
    ]
    for module in plain:
        module.forward = partial(_forward, module)  # type: ignore[method-assign]
    return len(plain)


def _is_plain(module: LoraLinear) -> bool:
    if module.merged or module.lora_variant or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    base = module.base_layer
    return (
        type(base) is nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and isinstance(module.lora_dropout[name], nn.Identity)
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )


def _forward(module: LoraLinear, x: torch.Tensor) -> torch.Tensor:
    name = module.active_adapters[0]
    down, up = module.lora_A[name].weight, module.lora_B[name].weight
    base = module.base_layer
    if not x.dtype == down.dtype == base.weight.dtype:  # before `Trained` has made them alike
        result: torch.Tensor = type(module).forward(module, x)
        return result
    apply: Callable[..., torch.Tensor] = _Adapted.apply
    return apply(x, base.weight, base.bias, down, up, module.scaling[name])


class _Adapted(torch.autograd.Function):
    """(..., in) to (..., out), of a frozen weight (out, in) and A (r, in), B (out, r)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.T
        out = functional.linear(rows, weight, bias).addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows, weight, down, up, low = ctx.saved_tensors
        out = gradients[0].reshape(-1, gradients[0].shape[-1])
        for_x, _, _, for_down, for_up, _ = ctx.needs_input_grad
        inner = (out @ up).mul_(ctx.scale) if for_x or for_down else None
        d_x = d_down = d_up = None
        if for_x:
            d_x = (out @ weight).addmm_(inner, down).view(ctx.shape)
        if for_down and inner is not None:
            d_down = inner.T @ rows
        if for_up:
            d_up = (out.T @ low).mul_(ctx.scale)
        return d_x, None, None, d_down, d_up, None
