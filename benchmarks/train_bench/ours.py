"""EmoVerse's own run of `benchmarks/train.py`, in a process of its own.

`python benchmarks/train_bench/ours.py SETTINGS.json` trains a recipe, with one part of what makes
it quick switched off where the settings say so, for so many seconds at most.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoverse.errors import EmoVerseError, Stopped
from emoverse.models import any_mllm
from emoverse.training import optimiser, speed, step, train, trainer

PARTS: dict[str, tuple[str, list[str]]] = {
    "no shared prefixes": ("packed rows", ["rows=packed"]),
    "no rows": ("each sample by the model's own forward pass, padded", ["rows=padded"]),
    "no kept visual tokens": ("the encoder runs in each step", ["visual_cache_gb=0"]),
    "sdpa attention": ("PyTorch's fused kernels", ["attention=sdpa"]),
    "all logits": ("the output layer at every token", []),
    "fused loss always": ("linear_cross_entropy for few answers too", []),
    "gradient checkpointing": ("layers run again backwards", ["gradient_checkpointing=true"]),
    "float32": ("weights and products", []),
    "plain AdamW": ("not fused", []),
    "peft's LoRA layers": ("the adapter's share in passes of its own", []),
    "compiled layers": ("torch.compile", ["compile=true"]),
}
"""What `--parts` switches: name to what it then does, and the recipe's keys."""

_COUNTED = ("seconds", "samples", "tokens", "steps")


def ours(settings: dict[str, Any]) -> None:
    """Train a few steps to warm up, then from the start again; the log tells the rest."""
    _switch(settings["part"])
    out, cache = Path(settings["out"]), os.environ["EMOVERSE_CACHE"]
    if settings["unseen"]:  # and stays so while warming up
        os.environ["EMOVERSE_CACHE"] = f"{cache}_warm"
    plain, done = trainer.train_step, 0

    def counted(*given: Any) -> Any:
        nonlocal done
        done += 1
        if done == settings["warm"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*given)

    trainer.train_step = counted
    with suppress(Stopped):
        train(settings["recipe"], settings["overrides"], out=out.with_name(f"{out.name}_warm"))
    os.environ["EMOVERSE_CACHE"] = cache
    gc.collect()  # memory is the second model's alone
    timer = threading.Timer(settings["seconds"], lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.daemon = True

    def timed(*given: Any) -> Any:
        if timer.ident is None:
            timer.start()
        return plain(*given)

    trainer.train_step = timed
    with suppress(Stopped):
        train(settings["recipe"], settings["overrides"], out=out)
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
    elif part == "fused loss always":
        speed._FUSED_FROM = 0
    elif part == "peft's LoRA layers":
        speed.quicken = lambda language: 0
    elif part == "plain AdamW":
        fused = torch.optim.AdamW
        optimiser.torch.optim.AdamW = lambda *given, **named: fused(  # type: ignore[assignment,misc]
            *given, **named | {"fused": False, "foreach": False}
        )


def read_ours(out: Path) -> dict[str, Any]:
    """Steps, memory and looking time of a run of ours from its log.

    A stage that was cut short counts as much as if it had gone on at its speed: stages differ in
    what an answer costs.
    """
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    heads = {row["stage"]: row for row in rows if "queries" in row}
    done = [row for row in rows if "loss" in row]
    stages = json.loads((out / "recipe.json").read_text())["stages"]
    if not set(heads) == {row["stage"] for row in done} == {stage["name"] for stage in stages}:
        raise EmoVerseError(f"{out}: the time was over before the last stage; raise --seconds.")
    ran: dict[str, int] = defaultdict(int)
    for row in done:
        ran[row["stage"]] += row["samples"]
    asked = {name: sum(head["queries"].values()) for name, head in heads.items()}
    steps = [
        {key: row[key] * asked[row["stage"]] / ran[row["stage"]] for key in _COUNTED}
        for row in [row | {"steps": 1} for row in done]
    ]
    first = next(iter(heads.values()))
    return {
        "steps": steps,
        "memory": max(row["memory_gb"] for row in done) * 1e9,
        "looking": first["looking_seconds"],
        "attention": first["attention"],
    }


if __name__ == "__main__":
    ours(json.loads(Path(sys.argv[1]).read_text()))
