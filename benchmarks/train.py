"""Speed of training: `python benchmarks/train.py [--shape tiny|compact|4b] [--data clips|talk]`.

One run, side by side, of the same random weights (an InternVL folder), drawn data (one M2SE plan),
LoRA and answers per step: EmoVerse; a plain transformers Trainer loop with padding; and ms-swift 4
without and with packing, where EMOVERSE_PEER_SWIFT names a Python that has it. `--parts` adds what
each part of EmoVerse's speed brings: the same training with it switched off.

- samples/s: answers learnt a second. tokens/s: the tokens of those answers' own prompts and
  answers, without padding, shared ones counted for each.
- MFU: 4 x (weights of the language model's layers) x (tokens really run, without padding) a
  second, over the multiplications a second that this machine does on large bfloat16 matrices. (A
  LoRA needs no gradients of weights: 2 forwards, 2 backwards.)
- peak memory: of the GPU, or of the process.
- machine: those multiplications a second, measured before the row. Rows of pieces (`--only`) can be
  held to each other only where it is alike.

EmoVerse's first row starts with pictures that were never seen; the time to look at them is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import transformers
from train_bench.case import SHAPES, Shape, drawn, make_model
from train_bench.ours import PARTS, read_ours

from emoverse.emt.export import swift_row
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json, write_text
from emoverse.m2se.plan import planned
from emoverse.m2se.recipe import load_recipe
from emoverse.tasks import SYSTEM_PROMPT

_WARM = 1  # steps before those that are counted
_HERE = Path(__file__).parent / "train_bench"

STAGES = """
  - {name: stage1, samples: STAGE1, rates: {msa: 0.95, er: 0.1, fer: 0.95}, epochs: 1,
     lora_lr: 1.0e-4, projector_lr: 0}
  - {name: stage2, rates: {msa: 0.05, er: 0.95, eri: 0.95, ecpe: 0.95}, epochs: 1,
     lora_lr: 1.0e-4, projector_lr: 0}
"""
"""The paper's rates; the second stage is what the first leaves."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    out: Path
    shape: Shape
    seconds: float
    weights: int
    peak: float
    sample_tokens: float

    def row(self, name: str, told: dict[str, Any], looking: float = 0.0) -> dict[str, Any]:
        """A row of the table from steps, and the seconds that looking at pictures took."""
        kept = told["steps"]
        seconds = sum(one["seconds"] for one in kept) + looking
        samples = sum(one["samples"] for one in kept)
        run = sum(one["tokens"] for one in kept)
        steps = sum(one.get("steps", 1) for one in kept)
        return {
            "name": name,
            "samples_per_s": samples / seconds,
            "tokens_per_s": samples * self.sample_tokens / seconds,
            "mfu": 4 * self.weights * run / seconds / self.peak,
            "peak": self.peak,
            "memory_gb": told["memory"] / 1e9,
            "answers_per_step": samples / steps,
            "steps": len(kept),
            "seconds": seconds,
        }


def prepare(
    shape: Shape, dialogues: int, data: str, out: Path, seconds: float
) -> tuple[Bench, Path, Path, int]:
    """Draw the data, write model, recipe and the peers' data.

    Returns:
        The bench, the recipe, the peers' data and the number of answers.
    """
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    records = drawn(folder, dialogues, shape.frames, shape.side, data)
    dump_records(folder / "train.jsonl", records)
    weights = make_model(out / "model", shape, records)
    recipe = out / "recipe.yaml"
    samples = len({record.meta["sample"] for record in records})
    write_text(
        recipe,
        f"model: {out / 'model'}\ntrain: {folder / 'train.jsonl'}\n"
        f"lora: {{r: {shape.rank}, alpha: 32, dropout: 0, targets: [{', '.join(shape.targets)}]}}\n"
        f"row_tokens: {shape.row_tokens}\nbatch_tokens: {shape.batch_tokens}\n"
        f"batch_samples: {shape.answers}\nframes: {shape.frames}\nmax_length: 4096\n"
        "trackers: []\nsave_minutes: 1000\n"
        f"stages:{STAGES.replace('STAGE1', str(samples // 2))}",
    )
    plans = planned(load_recipe(recipe))
    asked = [record for stage in plans for record in stage.records]
    rows = [json.dumps(swift_row(r, lambda name: str((folder / name).resolve()))) for r in asked]
    theirs = write_text(folder / "peers.jsonl", "".join(f"{row}\n" for row in rows))
    processor_tokens = _sample_tokens(out / "model", asked, shape)
    return (
        Bench(out, shape, seconds, weights, peak_flops(), processor_tokens),
        recipe,
        theirs,
        len(asked),
    )


def _sample_tokens(folder: Path, asked: list[Record], shape: Shape) -> float:
    """Mean tokens of a sample: its text's and its pictures'."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    around = len(tokenizer(SYSTEM_PROMPT).input_ids) + 14
    return mean(
        around
        + len(tokenizer(f"{record.query}{record.response}").input_ids)
        + len(record.images) * (shape.tokens + 8)
        for record in asked
    )


def peak_flops() -> float:
    """Operations a second on large bfloat16 matrices, the best of three."""
    cuda = torch.cuda.is_available()
    size = 8192 if cuda else 2048
    one = torch.randn(size, size, dtype=torch.bfloat16, device="cuda" if cuda else "cpu")
    best = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        for _ in range(20 if cuda else 2):
            one @ one
        if cuda:
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / (20 if cuda else 2))
    return 2 * size**3 / best


def run_ours(bench: Bench, recipe: Path, part: str, cache: str, again: bool) -> dict[str, Any]:
    """One training of ours in a process of its own."""
    name = f"emoverse {part or ('again' if again else 'first')}".replace(" ", "_")
    settings = {
        "part": part,
        "recipe": str(recipe),
        "overrides": PARTS[part][1] if part else [],
        "out": str(bench.out / name),
        "seconds": bench.seconds,
        "warm": _WARM,
        "unseen": not again,
    }
    path = write_json(bench.out / f"{name}.json", settings)
    folder = bench.out / cache
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(f"{folder}_warm", ignore_errors=True)
    _run([sys.executable, str(_HERE / "ours.py"), str(path)], bench.out / f"{name}.log", folder)
    return read_ours(bench.out / name)


def run_peer(
    bench: Bench,
    kind: str,
    python: str,
    data: Path,
    answers: float,
    packing: int = 0,
    attention: str = "sdpa",
) -> dict[str, Any]:
    """One training of a peer in a process of its own.

    Args:
        bench: what all share.
        kind: `trainer` or `swift`.
        python: that has it.
        data: the peers' file.
        answers: of an optimiser step.
        packing: tokens of a pack; 0 for none.
        attention: ms-swift's `attn_impl`.
    """
    name = f"{kind}{'_packing' if packing else ''}"
    shape = bench.shape
    batch = 1 if packing else shape.batch
    together = max(1, round(packing / bench.sample_tokens)) if packing else batch
    settings = {
        "model": str(bench.out / "model"),
        "data": str(data),
        "r": shape.rank,
        "alpha": 32,
        "targets": shape.targets,
        "batch": batch,
        "accumulation": max(1, round(answers / together)),
        "max_length": 4096,
        "packing": bool(packing),
        "packing_length": packing,
        "attention": attention,
        "seconds": bench.seconds,
        "warm": _WARM,
        "out": str(bench.out / name),
        "result": str(bench.out / f"{name}.result.json"),
    }
    path = write_json(bench.out / f"{name}.json", settings)
    _run(
        [python, str(_HERE / "peers.py"), kind, str(path)],
        bench.out / f"{name}.log",
        bench.out / "cache",
    )
    told = dict(read_json(settings["result"]))
    return told | {"steps": told["steps"][_WARM:] or told["steps"]}


def _run(command: list[str], log: Path, cache: Path) -> None:
    told = {"EMOVERSE_CACHE": str(cache.resolve()), "HF_HUB_OFFLINE": "1"}
    told |= {"TOKENIZERS_PARALLELISM": "false", "USE_HF": "1"}
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=os.environ | told)
    if done.returncode:
        last = [line for line in log.read_text().splitlines() if line.strip()][-1:]
        raise EmoVerseError(f"{log}: ended with {done.returncode} ({' '.join(last)[:300]}).")


def table(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The rows as Markdown."""
    base = next((row.get("samples_per_s") for row in rows if row["name"] == "emoverse"), None)
    lines = [
        f"{about['shape']}, {about['data']}: {about['answers']} answers, "
        f"{about['sample_tokens']:.0f} tokens each, {about['answers_per_step']} a step; "
        f"{about['machine']}, {about['threads']} threads",
        "",
        "| trainer | samples/s | EmoVerse is | tokens/s | MFU | peak memory | answers a step | "
        "machine, GFLOP/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "told" in row:
            lines.append(f"| {row['name']} | {row['told']} | | | | | | |")
            continue
        times = f"{base / row['samples_per_s']:.2f} x" if base else ""
        lines.append(
            f"| {row['name']} | {row['samples_per_s']:.2f} | {times} | {row['tokens_per_s']:.0f} | "
            f"{100 * row['mfu']:.1f} % | {row['memory_gb']:.2f} GB | "
            f"{row['answers_per_step']:.1f} | {row['peak'] / 1e9:.0f} |"
        )
    return "\n".join(lines) + "\n"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything that was asked for; a peer that fails says so in its row."""
    shape = SHAPES[options.shape]
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    bench, recipe, theirs, answers = prepare(
        shape, options.dialogues, options.data, out, options.seconds
    )
    about = {
        "shape": options.shape,
        "data": options.data,
        "answers": answers,
        "answers_per_step": shape.answers,
        "sample_tokens": bench.sample_tokens,
        "machine": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.machine(),
        "threads": torch.get_num_threads(),
        "peak": bench.peak,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    rows = _earlier(out, about) if options.only else {}

    def add(name: str, run: Callable[[], dict[str, Any]], looking: bool = False) -> None:
        if options.only and name not in options.only:
            return
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            told = run()
            rows[name] = bench.row(name, told, told["looking"] if looking else 0.0)
        except EmoVerseError as error:
            rows[name] = {"name": name, "told": str(error).replace("|", "/")}

    add("emoverse, pictures seen first", lambda: run_ours(bench, recipe, "", "cache", False), True)
    add("emoverse", lambda: run_ours(bench, recipe, "", "cache", True))
    # Rows are not cut to the exact number of answers, so the others' steps follow ours.
    step = rows.get("emoverse", {}).get("answers_per_step", shape.answers)
    add("transformers Trainer", lambda: run_peer(bench, "trainer", sys.executable, theirs, step))
    swift = os.environ.get("EMOVERSE_PEER_SWIFT")
    if swift:
        flash = options.swift_attention
        packing = max(1024, shape.row_tokens)
        add("ms-swift", lambda: run_peer(bench, "swift", swift, theirs, step, 0, flash))
        packed = lambda: run_peer(bench, "swift", swift, theirs, step, packing, flash)  # noqa: E731
        add("ms-swift, packing", packed)
    else:
        missing = {"name": "ms-swift", "told": "set EMOVERSE_PEER_SWIFT to a Python that has it"}
        rows.setdefault("ms-swift", missing)
    for part in PARTS if options.parts or options.only else ():
        cold = part == "no kept visual tokens"
        name = f"emoverse, {part}"
        add(name, lambda part=part: run_ours(bench, recipe, part, "cache", True), cold)
    found = list(rows.values())
    return {"about": about, "rows": found, "table": table(found, about)}


def _earlier(out: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows that earlier pieces (`--only`) of the same run measured, by name."""
    if not (out / "train.json").is_file():
        return {}
    kept = read_json(out / "train.json")
    same = all(kept["about"][key] == value for key, value in about.items() if key != "peak")
    return {row["name"]: row for row in kept["rows"]} if same else {}


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="compact")
    parser.add_argument("--data", choices=("clips", "talk"), default="clips")
    parser.add_argument("--dialogues", type=int, default=16, help="to draw; each about 20 answers")
    parser.add_argument("--seconds", type=float, default=120, help="of each training, at most")
    parser.add_argument("--parts", action="store_true", help="also without each part of ours")
    parser.add_argument(
        "--only", nargs="*", metavar="ROW", help="these rows of the table; the rest stays"
    )
    parser.add_argument(
        "--swift-attention", default="sdpa", help="ms-swift's attn_impl; flash_attn where it has it"
    )
    parser.add_argument("--out", type=Path, default=Path("out/benchmark_train"))
    options = parser.parse_args()
    found = measure(options)
    write_json(options.out / "train.json", found)
    print(found["table"])
    write_text(options.out / "train.md", found["table"])


if __name__ == "__main__":
    main()
