"""Several processes, one training: each takes a share of every step's batches.

Started by `accelerate launch` or `torchrun`. All processes draw the same plan and the same steps
from the seed; a step's batches are dealt out, and the gradients, already weighted by the step's
total, are summed. The result is that of one process with the same recipe, up to the order of
floating-point sums. With FSDP the frozen weights of the language model, which are nearly all of
it, are split over the processes; what is trained is small and stays whole everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from emoverse.errors import EmoVerseError
from emoverse.models.any_mllm import Mllm
from emoverse.models.emoverse import EmoVerse
from emoverse.training.rows import Row
from emoverse.training.speed import layers_of


@dataclass(frozen=True, slots=True, eq=False)
class Crew:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: this process, from 0; process 0 writes files and speaks.
        size: how many there are.
        device: where this one computes.
        sharded: frozen weights are split (FSDP).
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sharded: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0


def join() -> Crew:
    """The crew that the environment tells of; alone without `WORLD_SIZE`.

    Raises:
        EmoVerseError: there are several processes, but accelerate is not installed.
    """
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Crew(device=device)
    try:
        from accelerate import PartialState  # type: ignore[import-untyped]
    except ImportError:
        raise EmoVerseError(
            "Training in several processes needs accelerate; pip install 'emoverse[train]'."
        ) from None
    # The others wait while the leader looks at all pictures for the first time.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
    return Crew(state.process_index, state.num_processes, state.device, sharded)


def shard(model: EmoVerse | Mllm, crew: Crew) -> None:
    """Split the frozen weights of the language model over the crew, layer by layer (FSDP2)."""
    if not crew.sharded or crew.size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(crew.device.type, (crew.size,))
    for layer in layers_of(model):
        trained = {p for p in layer.parameters() if p.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)


def share(step: Sequence[Sequence[Row]], crew: Crew) -> tuple[list[Sequence[Row]], int]:
    """This process's batches of a step, dealt by tokens, and how many the busiest one has."""
    if crew.size == 1:
        return list(step), len(step)
    loads = [0] * crew.size
    shares: list[list[Sequence[Row]]] = [[] for _ in range(crew.size)]
    cost = [sum(len(row.tree.tokens) for row in batch) for batch in step]
    for place in sorted(range(len(step)), key=lambda place: (-cost[place], place)):
        rank = loads.index(min(loads))
        shares[rank].append(step[place])
        loads[rank] += cost[place]
    return shares[crew.rank], max(map(len, shares))


def sum_gradients(live: Sequence[nn.Parameter], crew: Crew) -> None:
    """Add up the crew's gradients; a weight that no process touched keeps none."""
    if crew.size == 1:
        return
    asked = [parameter for parameter in live if parameter.requires_grad]
    touched = torch.tensor([float(p.grad is not None) for p in asked], device=crew.device)
    torch.distributed.all_reduce(touched)
    flat = torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).float().flatten()
            for p, count in zip(asked, touched.tolist(), strict=True)
            if count
        ]
    )
    torch.distributed.all_reduce(flat)
    start = 0
    for parameter, count in zip(asked, touched.tolist(), strict=True):
        if count:
            part = flat[start : start + parameter.numel()]
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
            start += parameter.numel()


def gather(value: Any, crew: Crew) -> list[Any]:
    """Every process's value, in the order of the crew."""
    if crew.size == 1:
        return [value]
    values: list[Any] = [None] * crew.size
    torch.distributed.all_gather_object(values, value)
    return values


def wait(crew: Crew) -> None:
    """Go on when all processes have come here."""
    if crew.size > 1:
        torch.distributed.barrier()
