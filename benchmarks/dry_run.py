"""A full-size dry run: `python benchmarks/dry_run.py [recipes/emoverse-8b.yaml] [--json FILE]`.

One optimisation step and one clip's five answers, at the full shapes of a recipe's model and with
random weights, so that nothing has to be downloaded. First on PyTorch's meta device, where every
operation runs on shapes alone: that shows that the step and the answers work, and counts their
floating-point operations. Then, where there is a CUDA device, for real, with

- step time, and MFU: the counted operations a second over those this card does on large bfloat16
  matrices;
- peak memory of step and answers, beside what `emoverse train --estimate` works out;
- tokens a second of a training row (one clip of eight frames with its queries);
- seconds for five answers about one clip, and words a second;
- the hours that the paper's schedule would take.

`benchmarks/train.py --shape 4b` holds real training, prefix sharing and all, to ms-swift's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from train import peak_flops
from transformers import DynamicCache

from emoverse.files import write_json
from emoverse.m2se.recipe import Recipe, load_recipe
from emoverse.models.any_mllm import Mllm
from emoverse.training.estimate import Estimate, built, estimate
from emoverse.training.projection import ENTRIES, EPOCHS

_OPENING, _QUERY = 24, 64  # tokens of the system prompt and of a query
_SAID = {"msa": 3, "er": 3, "fer": 16, "eri": 48, "ecpe": 12}  # tokens of an answer
_ANSWERS = 256  # tokens of a training row that carry loss
_ROUNDS = 5
_FEW = 2  # words of an answer on the meta device


@dataclass(slots=True)
class DryRun:
    """A model and one clip of noise.

    Attributes:
        model: with its LoRA, what is trained marked so.
        recipe: whose shapes are run.
        pixels: (frames, 3, side, side) bfloat16.
        optimiser: of what is trained.
    """

    model: Mllm
    recipe: Recipe
    pixels: torch.Tensor
    optimiser: torch.optim.Optimizer

    def look(self) -> torch.Tensor:
        """(1, visual tokens, width) of the clip, behind the projector."""
        features = self.model.network.model.get_image_features(self.pixels).pooler_output
        rows: torch.Tensor = torch.cat([part.reshape(-1, part.shape[-1]) for part in features])
        return rows[None]

    def words(self, count: int) -> torch.Tensor:
        """(1, count, width) embeddings of any words."""
        ids = torch.zeros(1, count, dtype=torch.long, device=self.pixels.device)
        found: torch.Tensor = self.model.network.get_input_embeddings()(ids)
        return found

    def mask(self, tokens: int, before: int = 0) -> torch.Tensor | None:
        """None for causal attention; on the meta device, where none cannot be read, any mask."""
        if self.pixels.device.type != "meta":
            return None
        shape = (1, 1, tokens, before + tokens)
        return torch.zeros(shape, dtype=torch.bfloat16, device="meta")

    def learn(self) -> torch.Tensor:
        """One optimisation step on one full row; gives the loss."""
        seen = self.look()
        rest = self.recipe.row_tokens - seen.shape[1] - _OPENING
        states = torch.cat([self.words(_OPENING), seen, self.words(rest)], dim=1)
        language: Any = self.model.language.train()
        states = language(
            inputs_embeds=states, attention_mask=self.mask(states.shape[1]), use_cache=False
        ).last_hidden_state
        logits = self.model.head(states[0, -_ANSWERS:]).float()
        targets = torch.zeros(_ANSWERS, dtype=torch.long, device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def answer(self, longest: int = 1000) -> int:
        """Five answers about one clip, its tokens run once; gives the number of words said."""
        self.model.language.eval()
        cache = DynamicCache()
        shown = torch.cat([self.words(_OPENING), self.look()], dim=1)
        self._further(shown, cache)
        said = 0
        for length in _SAID.values():
            step = self.words(_QUERY)
            for _ in range(min(length, longest)):
                word = self.model.head(self._further(step, cache)[:, -1:]).argmax(dim=-1)
                step = self.model.network.get_input_embeddings()(word)
                said += 1
            cache.crop(shown.shape[1] - cache.get_seq_length())
        return said

    def _further(self, states: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Hidden states of tokens after those in the cache, which takes them in."""
        mask = self.mask(states.shape[1], cache.get_seq_length())
        language: Any = self.model.language
        found: torch.Tensor = language(
            inputs_embeds=states, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return found


def prepared(recipe: Recipe, device: str) -> DryRun:
    """Model, clip and optimiser on a device."""
    model = built(recipe, device)
    side = model.network.config.vision_config.image_size
    pixels = torch.zeros(recipe.frames, 3, *side, dtype=torch.bfloat16, device=device)
    live = [p for p in model.network.parameters() if p.requires_grad]
    return DryRun(model, recipe, pixels, torch.optim.AdamW(live, lr=1e-5))


def counted(recipe: Recipe) -> dict[str, Any]:
    """Both on the meta device: what they are made of, and their operations."""
    run = prepared(recipe, "meta")
    with FlopCounterMode(display=False) as learning:
        run.learn()
    with FlopCounterMode(display=False) as answering:
        said = run.answer(longest=_FEW)  # a word is a word, and shapes are slow to run
    return {
        "parameters": sum(
            p.numel() for name, p in run.model.network.named_parameters() if "lora_" not in name
        ),
        "trained": sum(p.numel() for group in run.optimiser.param_groups for p in group["params"]),
        "row_tokens": recipe.row_tokens,
        "step_tflop": learning.get_total_flops() / 1e12,
        "answers": len(_SAID),
        "words_said": said,
        "answers_tflop": answering.get_total_flops() / 1e12,
    }


def measured(recipe: Recipe, about: dict[str, Any], plan: Estimate) -> dict[str, Any]:
    """Both on the GPU."""
    run = prepared(recipe, "cuda")
    step, step_memory = _timed(run.learn)
    run.optimiser.state.clear()
    answers, answer_memory = _timed(run.answer)
    with torch.no_grad():
        looking, _ = _timed(run.look)
    peak = peak_flops()
    # The step looks at its clip; in a training that is done once, not once an epoch.
    token = (step - looking) / recipe.row_tokens
    return {
        "gpu": torch.cuda.get_device_name(),
        "measured_peak_tflops": peak / 1e12,
        "step_s": step,
        "mfu": about["step_tflop"] * 1e12 / step / peak,
        "tokens_per_s": recipe.row_tokens / step,
        "step_peak_gb": step_memory / 1e9,
        "estimated_step_peak_gb": plan.training(recipe.row_tokens) / 1e9,
        "look_s": looking,
        "five_answers_s": answers,
        "words_per_s": sum(_SAID.values()) / answers,
        "answers_peak_gb": answer_memory / 1e9,
        "schedule_h": ENTRIES * (looking + EPOCHS * plan.prompt * token) / 3600,
    }


def _timed(run: Callable[[], Any]) -> tuple[float, int]:
    """Median seconds of some rounds after a first one, and the peak of the GPU's memory."""
    run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - begun)
    return median(took), torch.cuda.max_memory_allocated()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=Path("recipes/emoverse-4b.yaml"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    found: dict[str, Any] = {"model": recipe.model, "meta": counted(recipe)}
    if torch.cuda.is_available():
        found["cuda"] = measured(recipe, found["meta"], estimate(recipe))
    for part in ("meta", "cuda"):
        print(f"{part}: {'no such device here' if part not in found else ''}")
        for name, value in found.get(part, {}).items():
            print(f"  {name}: {value:,.2f}" if isinstance(value, float) else f"  {name}: {value}")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
