"""EmoVerse's own run of `benchmarks/train.py`, in a process of its own.

`python benchmarks/train_bench/ours.py SETTINGS.json` trains a recipe, with one part of what makes
it quick switched off where the settings say so, for so many seconds at most.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoverse.models import any_mllm
from emoverse.training import optimiser, step, train, trainer
from emoverse.training.stopping import Stopped

PARTS: dict[str, tuple[str, list[str]]] = {
    "no shared prefixes": ("packed rows", ["rows=packed"]),
    "no rows": ("each sample by the model's own forward pass, padded", ["rows=padded"]),
    "no kept visual tokens": ("the encoder runs in each step", ["visual_cache_gb=0"]),
    "sdpa attention": ("PyTorch's fused kernels", ["attention=sdpa"]),
    "all logits": ("the output layer at every token", []),
    "float32": ("weights and products", []),
    "plain AdamW": ("not fused", []),
    "compiled layers": ("torch.compile", ["compile=true"]),
}
"""What `--parts` switches: name to what it then does, and the recipe's keys."""


def ours(settings: dict[str, Any]) -> None:
    """Train, and stop as Ctrl-C would when the time is over; the log tells the rest."""
    _switch(settings["part"])
    timer = threading.Timer(settings["seconds"], lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.daemon = True
    plain = trainer.train_step

    def timed(*given: Any) -> Any:
        if timer.ident is None:
            timer.start()
        return plain(*given)

    trainer.train_step = timed
    with suppress(Stopped):
        train(settings["recipe"], settings["overrides"], out=Path(settings["out"]))
    timer.cancel()


def _switch(part: str) -> None:
    if part == "all logits":

        def everywhere(model: Any, batch: Any, visual: Any, padded: Any = None) -> torch.Tensor:
            trees, features = visual.batch([row.tree for row in batch])
            hidden = model.hidden_states(trees, features)
            logits = model.network.lm_head(hidden).float()
            nodes = [torch.from_numpy(row.nodes).to(hidden.device) for row in batch]
            wanted = torch.cat([logits[place, some] for place, some in enumerate(nodes)])
            targets = torch.from_numpy(np.concatenate([row.targets for row in batch]))
            return torch.nn.functional.cross_entropy(
                wanted, targets.to(wanted.device), reduction="none"
            )

        step.batch_losses = everywhere  # type: ignore[assignment]
    elif part == "float32":
        load = any_mllm.load
        any_mllm.load = lambda *given, **named: load(  # type: ignore[assignment]
            *given, **named | {"dtype": torch.float32}
        )
    elif part == "plain AdamW":
        fused = torch.optim.AdamW
        optimiser.torch.optim.AdamW = lambda *given, **named: fused(  # type: ignore[assignment,misc]
            *given, **named | {"fused": False, "foreach": False}
        )


def read_ours(out: Path) -> dict[str, Any]:
    """Steps, memory and looking time of a run of ours from its log."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    head = next(row for row in rows if "queries" in row)
    return {
        "steps": [{key: row[key] for key in ("seconds", "samples", "tokens")} for row in steps],
        "memory": max(row["memory_gb"] for row in steps) * 1e9,
        "looking": head["looking_seconds"],
        "attention": head["attention"],
    }


if __name__ == "__main__":
    ours(json.loads(Path(sys.argv[1]).read_text()))
