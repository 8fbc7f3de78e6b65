"""The model card of a trained model: what it is, what it learnt from, how it scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoverse.files import read_json, write_text
from emoverse.training.report import read_log

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_USE = (
    "It estimates which sentiment or emotion an expression shows, not what a person feels. Do not "
    "use it to judge, hire, grade, diagnose or watch anyone, and ask the people you film. Results "
    "differ between cultures, ages and languages that its data does not cover."
)


def write_card(run: Path, out: Path) -> Path:
    """Write `README.md` with the hub's metadata into `out`, about the training in `run`.

    Args:
        run: the folder `emoverse train` wrote (or its `best` folder).
        out: where the card goes.
    """
    settings: dict[str, Any] = read_json(run / "recipe.json")
    best = not (run / "log.jsonl").is_file()
    log = read_log((run.parent if best else run) / "log.jsonl")
    base = settings["model"]
    name = "HuggingFaceTB/SmolLM2-135M-Instruct" if base == "compact" else base
    # The compact model's face ViT is a class of our own.
    lines = ["---", f"library_name: {'emoverse' if base == 'compact' else 'transformers'}"]
    # The hub refuses a card whose base is no repository of its own.
    lines += [f"base_model: {name}"] if _HUB_ID.fullmatch(name) and not Path(name).exists() else []
    lines += ["pipeline_tag: image-text-to-text", "tags: [emotion, sentiment, m2se, emoverse]"]
    lines += ["---", "", f"# {out.name}", ""]
    lines.append(
        f"{Path(name).name}, trained by M2SE (multistage, multitask instruction tuning for "
        "sentiment and emotion, arXiv 2412.08049) with EmoVerse."
    )
    lines += ["", "## What it learnt", "", "| stage | task | queries | rate |", "|---|---|---|---|"]
    stages = {stage["name"]: stage for stage in settings["stages"]}
    for head in log.heads:
        rates: Mapping[str, float] = stages.get(head["stage"], {}).get("rates", {})
        for task, count in sorted(head["queries"].items()):
            lines.append(f"| {head['stage']} | {task} | {count} | {rates.get(task, 0):g} |")
    lora = settings["lora"]
    lines += ["", "## How", ""]
    lines.append(
        f"LoRA of rank {lora['r']}, alpha {lora['alpha']}, dropout {lora['dropout']:g}, on "
        f"{', '.join(lora['targets'])}; seed {settings['seed']}; {log.total_steps} steps."
    )
    if settings.get("quantize"):
        lines.append(
            f"The frozen weights were in {settings['quantize']} (bitsandbytes) during training."
        )
    scored = [row for row in log.valid if row.get("best") or not best]
    if scored:
        row = scored[-1]
        last = row["valid"]
        names = sorted({key for figures in last.values() for key in figures if key != "n"})
        lines += ["", "## Scores on the valid split", ""]
        lines += [f"After stage {row['stage']}, step {row['step']}.", ""]
        lines += [f"| task | n | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
        for task, figures in sorted(last.items()):
            cells = [f"{figures[key]:.2f}" if key in figures else "" for key in names]
            lines.append(f"| {task} | {figures['n']:.0f} | {' | '.join(cells)} |")
        lines += ["", "`exact`: share of gold answers that greedy decoding writes word for word."]
    lines += ["", "## Use", "", _USE, ""]
    return write_text(out / "README.md", "\n".join(lines))
