"""The trainers that `benchmarks/train.py` measures EmoVerse against.

`PYTHON benchmarks/train_bench/peers.py KIND SETTINGS.json` trains on the CPU or the one GPU there
is, for so many seconds or one epoch, and writes what each optimiser step took. KIND is `trainer`, a
plain transformers Trainer loop with padding, or `swift`, ms-swift 4's own `sft`, which needs a
Python that has it and nothing of EmoVerse.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import transformers

Settings = dict[str, Any]


class Clock:
    """Notes every optimiser step of a transformers `Trainer`, and stops it in time.

    Its `training_step` is wrapped, for ms-swift's trainer is one too.
    """

    def __init__(self, seconds: float, warm: int) -> None:
        self.seconds, self.warm = seconds, warm
        self.steps: list[dict[str, float]] = []
        self.current = {"samples": 0.0, "tokens": 0.0, "padded": 0.0}
        self.begun = time.time()

    def start(self) -> None:
        """Wrap the Trainer's step, and add the callback that notes and stops."""
        plain = transformers.Trainer.training_step
        made = transformers.Trainer.__init__
        clock = self

        def counted(
            trainer: Any, model: Any, inputs: dict[str, Any], *more: Any, **named: Any
        ) -> Any:
            clock.count(inputs)
            return plain(trainer, model, inputs, *more, **named)

        @wraps(made)  # ms-swift looks at its arguments
        def watched(trainer: Any, *given: Any, **named: Any) -> None:
            made(trainer, *given, **named)
            trainer.add_callback(_Note(clock))

        transformers.Trainer.training_step = counted
        transformers.Trainer.__init__ = watched

    def count(self, inputs: dict[str, Any]) -> None:
        """Samples, and tokens with and without padding, of one forward pass."""
        labels, mask = inputs["labels"], inputs.get("attention_mask")
        places = inputs.get("position_ids")
        if mask is not None:
            self.current["samples"] += len(labels)
            self.current["tokens"] += float(mask.sum())
        else:  # samples side by side, each counted from 0
            self.current["samples"] += float((places == 0).sum())
            self.current["tokens"] += labels.numel()
        self.current["padded"] += labels.numel()

    def tick(self) -> bool:
        """A step has ended; whether it is time to stop."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.time()
        self.steps.append({"seconds": now - self.begun} | self.current)
        self.current = dict.fromkeys(self.current, 0.0)
        self.begun = now
        return sum(step["seconds"] for step in self.steps[self.warm :]) > self.seconds


class _Note(transformers.TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.clock.begun = time.time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = self.clock.tick() or control.should_training_stop
        return control


def trainer(settings: Settings) -> None:
    """transformers' Trainer, a LoRA by peft, every batch through the processor and padded."""
    from peft import LoraConfig, get_peft_model

    from emoverse.models.internvl2.processor import open_processor

    folder = settings["model"]
    processor = open_processor(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model.requires_grad_(False)
    names = "|".join(settings["targets"])
    lora = LoraConfig(
        r=settings["r"],
        lora_alpha=settings["alpha"],
        lora_dropout=0.0,
        target_modules=rf".*language_model.*\.({names})",
    )
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    transformers.Trainer(
        model=get_peft_model(model, lora),
        args=transformers.TrainingArguments(
            output_dir=settings["out"],
            per_device_train_batch_size=settings["batch"],
            gradient_accumulation_steps=settings["accumulation"],
            num_train_epochs=1,
            learning_rate=1e-4,
            lr_scheduler_type="cosine",
            warmup_steps=2,
            bf16=True,
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_steps=5,
            report_to=[],
            dataloader_num_workers=1,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
        ),
        train_dataset=rows,
        data_collator=_collator(processor, Path(settings["data"]).parent),
    ).train()


def _collator(processor: Any, root: Path) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    from PIL import Image

    def pictures(row: dict[str, Any]) -> list[Any]:
        return [Image.open(root / name).convert("RGB") for name in row.get("images", ())]

    def written(row: dict[str, Any], *, answered: bool) -> str:
        turns = []
        for turn in row["messages"]:
            text = turn["content"].replace("<image>", "")
            shown = [{"type": "image"}] * turn["content"].count("<image>")
            turns.append(
                {"role": turn["role"], "content": [*shown, {"type": "text", "text": text}]}
            )
        kept = turns if answered else turns[:-1]
        return str(processor.apply_chat_template(kept, add_generation_prompt=not answered))

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        whole = [written(row, answered=True) for row in rows]
        asked = [written(row, answered=False) for row in rows]
        images = [pictures(row) for row in rows]
        batch = processor(
            text=whole,
            images=images if any(images) else None,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        labels = torch.full_like(batch["input_ids"], -100)
        for row, (all_of_it, before) in enumerate(zip(whole, asked, strict=True)):
            end = int(batch["attention_mask"][row].sum())
            answer = len(processor.tokenizer(all_of_it).input_ids)
            answer -= len(processor.tokenizer(before).input_ids)
            labels[row, end - answer : end] = batch["input_ids"][row, end - answer : end]
        return {**batch, "labels": labels}

    return collate


def swift(settings: Settings) -> None:
    """ms-swift's `sft`, with its packing where the settings say so."""
    from swift.arguments import SftArguments
    from swift.model import MODEL_MAPPING
    from swift.pipelines import sft_main

    for meta in MODEL_MAPPING.values():  # timm, which only other checkpoints of the family use
        for group in meta.model_groups:
            group.requires = [name for name in group.requires or [] if name != "timm"]
    flash = settings["attention"].startswith("flash")
    if settings["packing"] and not flash:

        def allowed(arguments: Any) -> None:
            """Its packing wants FlashAttention; transformers' own masks do it exactly too."""
            arguments.padding_free = True

        SftArguments._check_padding_free = allowed
    given = {
        "model": settings["model"],
        "model_type": "internvl",
        "template": "internvl_hf",
        "use_hf": "true",
        "dataset": settings["data"],
        "tuner_type": "lora",
        "lora_rank": settings["r"],
        "lora_alpha": settings["alpha"],
        "lora_dropout": 0,
        "target_modules": "all-linear",
        "torch_dtype": "bfloat16",
        "attn_impl": settings["attention"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings["batch"],
        "gradient_accumulation_steps": settings["accumulation"],
        "gradient_checkpointing": "false",
        "vit_gradient_checkpointing": "false",
        "max_length": settings["max_length"],
        "output_dir": settings["out"],
        "split_dataset_ratio": 0,
        "load_from_cache_file": "false",
        "save_strategy": "no",
        "logging_steps": 5,
        "report_to": "none",
        "packing": str(settings["packing"]).lower(),
        "seed": 0,
        "use_cpu": str(not torch.cuda.is_available()).lower(),
    }
    if settings["packing"]:
        given["packing_length"] = settings["packing_length"]
    sft_main([text for key, value in given.items() for text in (f"--{key}", str(value))])


def main() -> None:
    """Train, and write the steps and the most memory held."""
    kind, path = sys.argv[1:]
    settings: Settings = json.loads(Path(path).read_text())
    clock = Clock(settings["seconds"], settings["warm"])
    clock.start()
    {"trainer": trainer, "swift": swift}[kind](settings)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    Path(settings["result"]).write_text(json.dumps({"steps": clock.steps, "memory": memory}))


if __name__ == "__main__":
    main()
