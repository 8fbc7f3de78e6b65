from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.m2se.plan import planned
from emoverse.m2se.recipe import Lora, Stage, load_recipe
from emoverse.models import compact
from emoverse.models.emoverse import EmoVerse
from emoverse.training import checkpoint, trainer, visual
from emoverse.training.checkpoint import Made, Place
from emoverse.training.optimiser import Trained, add_lora, schedule
from emoverse.training.rows import rows, sample_of
from emoverse.training.step import batch_losses, train_step
from emoverse.training.visual import Visual

from ..models.tiny import tiny_model
from .runs import whole_picture
from .test_rows import records, samples

RECIPE = """
model: compact
train: {train}
valid: {train}
vit: {vit}
visual_cache_gb: 0
lora: {{r: 2, dropout: 0.2}}
row_tokens: 200
batch_tokens: 400
batch_samples: 2
save_minutes: 0
stages:
  - name: first
    rates: {{msa: 1, er: 1}}
    samples: 4
    epochs: 2
    lora_lr: 1e-2
    projector_lr: 1e-2
  - name: second
    rates: {{msa: 1, er: 1, ecpe: 1}}
    epochs: 2
    lora_lr: 1e-2
    projector_lr: 1e-2
"""


MADE = Made("steps", {"lora.r": "2"})


def write_recipe(folder: Path) -> Path:
    """A recipe of a few steps for the tiny model, with pictures and a conversation."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (112, 112, 3), np.uint8)).save(folder / name)
    train = dump_records(folder / "train.jsonl", records())
    vit = folder / "vit.safetensors"
    vit.write_bytes(b"weights")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(train=train, vit=vit), encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compact, "assemble", tiny_model)
    monkeypatch.setattr(compact, "load_vit", lambda model, path: None)
    monkeypatch.setattr(visual, "face_crop", whole_picture)
    return write_recipe(tmp_path)


def _visual(model: EmoVerse) -> Visual:
    size = model.image_tokens
    tokens = torch.randn(2, size, 64, generator=torch.Generator().manual_seed(4))
    return Visual(
        {"a.png": 0, "b.png": 1},
        np.array([0, size, 2 * size]),
        lambda items: model.project(tokens[list(items)]),
    )


def _trained(seed: int = 0) -> tuple[EmoVerse, Trained]:
    model = tiny_model()
    torch.manual_seed(seed)
    add_lora(model, Lora(r=2, dropout=0.0))
    return model, Trained(model)


def _stop_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Interrupt training before the given optimiser step."""
    step: Callable[..., Any] = trainer.train_step
    calls = iter(range(1000))

    def counted(*args: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(trainer, "train_step", counted)


def _log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def _equal(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_merged_rows_have_the_losses_of_their_samples_alone() -> None:
    model = tiny_model()
    seen, given = _visual(model), samples(model)
    merged = rows(given, 10_000, random.Random(0))
    assert len(merged) < len(given)
    with torch.no_grad():
        together = batch_losses(model, merged, seen)
        place = 0
        for row in merged:
            for owner, sample in enumerate(row.samples):
                (single,) = rows([sample], 10_000, random.Random(0))
                mine = together[place : place + len(row.nodes)][
                    torch.from_numpy(row.owners == owner)
                ]
                torch.testing.assert_close(
                    mine, batch_losses(model, [single], seen), atol=1e-4, rtol=1e-4
                )
            place += len(row.nodes)
        assert place == len(together)


def test_only_the_pictures_of_a_batch_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    seen: list[int] = []
    project = EmoVerse.project

    def counted(self: EmoVerse, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return project(self, tokens)

    monkeypatch.setattr(EmoVerse, "project", counted)
    by_id = {sample.record.id: sample for sample in samples(model)}
    for name in ("er2", "msa"):
        batch_losses(model, rows([by_id[name]], 999, random.Random(0)), _visual(model))
    assert seen == [1]


def test_a_checkpoint_gives_weights_and_moments_back_to_the_bit(tmp_path: Path) -> None:
    model, state = _trained()
    batch = rows(samples(model), 10_000, random.Random(0))
    for _ in range(2):
        state.set_rates(1e-2, 1e-2)
        train_step(model, state, [batch], _visual(model))
    checkpoint.save(tmp_path, state, Place(1, 7, 12.5), MADE)
    other_model, other = _trained(seed=1)
    assert not all(map(torch.equal, state.live, other.live))
    assert checkpoint.restore(tmp_path, other, MADE) == Place(1, 7, 12.5)
    for again in range(2):
        assert state.names == other.names
        for mine, theirs in ((state.live, other.live), (state.master, other.master)):
            assert all(map(torch.equal, mine, theirs))
        for a, b in zip(state.master, other.master, strict=True):
            left, right = state.optimizer.state[a], other.optimizer.state[b]
            assert left.keys() == right.keys()
            assert all(torch.equal(left[key], right[key]) for key in left)
        if again == 0:
            for one, trained in ((model, state), (other_model, other)):
                trained.set_rates(1e-2, 1e-2)
                train_step(one, trained, [batch], _visual(one))


def test_a_stage_leaves_what_it_freezes_as_it_was(recipe: Path, tmp_path: Path) -> None:
    trainer.train(recipe, out=tmp_path / "a")
    frozen = ["stages.0.projector_lr=0", "stages.1.projector_lr=0"]
    frozen += ["stages.0.first_layer=1", "stages.1.first_layer=1"]
    trainer.train(recipe, frozen, out=tmp_path / "b")
    fresh = load_file(tmp_path / "a" / "adapter_model.safetensors")
    lora = load_file(tmp_path / "b" / "adapter_model.safetensors")
    for name, value in lora.items():
        if "lora_B" in name:  # LoRA starts with B = 0
            assert bool((value == 0).all()) == ("layers.0." in name), name
            assert bool((fresh[name] != 0).any()), name
    start = tiny_model().network.model.multi_modal_projector.state_dict()
    for name, value in load_file(tmp_path / "b" / "projector.safetensors").items():
        assert torch.equal(value, start[name].to(torch.bfloat16))


def test_a_run_starts_from_what_an_earlier_one_learnt(recipe: Path, tmp_path: Path) -> None:
    first = trainer.train(recipe, out=tmp_path / "first")
    still = [f"stages.{n}.{part}_lr=0" for n in (0, 1) for part in ("lora", "projector")]
    second = trainer.train(recipe, [f"start={first}", *still], out=tmp_path / "second")
    for name in ("adapter_model", "projector"):
        assert _equal(first / f"{name}.safetensors", second / f"{name}.safetensors"), name
    with pytest.raises(EmoVerseError, match="same model and lora"):
        trainer.train(recipe, [f"start={first}", "lora.r=4"], out=tmp_path / "other")
    with pytest.raises(EmoVerseError, match="not a folder that"):
        trainer.train(recipe, [f"start={tmp_path}"], out=tmp_path / "none")


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer.train(recipe, out=whole)
    steps = sum("loss" in row for row in _log(whole))
    assert steps > stop
    with monkeypatch.context() as patched:
        _stop_at(patched, stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(recipe, out=cut)
    trainer.train(recipe, out=cut, resume=True)
    for name in ("checkpoint", "adapter_model", "projector"):
        assert _equal(whole / f"{name}.safetensors", cut / f"{name}.safetensors"), name
    losses = [[row["loss"] for row in _log(out) if "loss" in row] for out in (whole, cut)]
    assert losses[0] == losses[1]


def test_a_new_run_leaves_nothing_of_the_one_before(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = trainer.train(recipe, out=tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    _stop_at(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(recipe, ["stages.0.lora_lr=1e-4"], out=out)
    with pytest.raises(EmoVerseError, match="no checkpoint to resume from"):
        trainer.train(recipe, ["stages.0.lora_lr=1e-4"], out=out, resume=True)
    assert not list((out / "best").iterdir())
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {"face_vit.safetensors", "log.jsonl", "notes.txt", "plan.tsv", "recipe.json"}


def test_a_refused_run_leaves_its_folder_as_it_was(recipe: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "valid.jsonl"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((tmp_path / "train.jsonl").read_bytes())
    with pytest.raises(EmoVerseError, match="must lie in one folder"):
        trainer.train(recipe, [f"valid={elsewhere}", "valid_samples=2"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(EmoVerseError, match="absent: not a folder"):
        trainer.train(recipe, [f"start={tmp_path / 'absent'}"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error:.*is_gradient_checkpointing:FutureWarning")
def test_adapting_warns_of_nothing() -> None:
    add_lora(tiny_model(), Lora(r=2, dropout=0.0))


def test_a_refused_resume_changes_nothing(recipe: Path, tmp_path: Path) -> None:
    out = trainer.train(recipe, out=tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(EmoVerseError, match="other data, seed"):
        trainer.train(recipe, ["seed=9"], out=out, resume=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("lora.alpha=999", "made with another lora.alpha"),
        ("lora.targets=[q_proj]", "made with another lora.targets"),
        ("projector=linear", "made with another projector"),
    ],
)
def test_a_checkpoint_is_not_taken_for_other_settings(
    recipe: Path, tmp_path: Path, changed: str, told: str
) -> None:
    def made(*overrides: str) -> Made:
        loaded = load_recipe(recipe, overrides)
        return checkpoint.made_with(loaded, planned(loaded))

    _, state = _trained()
    checkpoint.save(tmp_path, state, Place(), made())
    faster = ["stages.0.lora_lr=1", "stages.0.warmup=0", "save_minutes=3"]
    assert checkpoint.restore(tmp_path, state, made(*faster)) == Place()
    with pytest.raises(EmoVerseError, match=told):
        checkpoint.check(tmp_path, made(changed))


def test_a_checkpoint_with_parts_that_are_no_longer_trained_is_told() -> None:
    _, state = _trained()
    tensors = state.tensors()
    model = tiny_model()
    add_lora(model, Lora(r=2, dropout=0.0, targets=("q_proj",)))
    with pytest.raises(EmoVerseError, match="does not fit the model at"):
        Trained(model).load(tensors)


def test_a_rate_of_zero_freezes_the_lora() -> None:
    _, state = _trained()
    state.unfreeze(Stage("still", {"msa": 1.0}, lora_lr=0.0))
    asked = {part: p.requires_grad for part, p in zip(state.parts, state.live, strict=True)}
    assert asked == {"lora": False, "projector": True}


def test_a_first_layer_beyond_the_last_is_told() -> None:
    model = tiny_model()
    add_lora(model, Lora(first_layer=1))
    with pytest.raises(EmoVerseError, match=r"leaves none of its 2 layers; use 0 to 1"):
        add_lora(tiny_model(), Lora(first_layer=2))


def test_a_run_does_not_take_the_place_of_the_one_it_starts_from(
    recipe: Path, tmp_path: Path
) -> None:
    out = trainer.train(recipe, out=tmp_path / "out")
    for start in (out, out / "best"):
        with pytest.raises(EmoVerseError, match="name another --out"):
            trainer.train(recipe, [f"start={start}"], out=out)
    assert (out / "adapter_model.safetensors").is_file()


def test_training_lowers_the_loss_and_writes_what_analyze_takes(
    recipe: Path, tmp_path: Path
) -> None:
    out = trainer.train(recipe, ["stages.1.epochs=8", "lora.dropout=0.0"], out=tmp_path / "run")
    for name in (
        "adapter_model.safetensors",
        "adapter_config.json",
        "projector.safetensors",
        "face_vit.safetensors",
        "recipe.json",
    ):
        assert (out / name).is_file(), name
    log = _log(out)
    heads = [row for row in log if "queries" in row]
    assert [head["stage"] for head in heads] == ["first", "second"]
    assert sum(sum(head["queries"].values()) for head in heads) == len(records())
    assert all(head["tokens"] <= head["tokens_unmerged"] for head in heads)
    second = [np.mean(list(row["loss"].values())) for row in log if "loss" in row]
    assert np.mean(second[-3:]) < np.mean(second[:3])


def test_the_speed_told_is_that_of_the_steps_without_scoring(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = trainer.valid_scores

    def slowly(*args: Any, **given: Any) -> Any:
        time.sleep(2)
        return score(*args, **given)

    monkeypatch.setattr(trainer, "valid_scores", slowly)
    log = _log(trainer.train(recipe, ["stages.1.samples=1"], out=tmp_path / "run"))
    steps = [row for row in log if "loss" in row and row["stage"] == "first"]
    assert len(steps) == 2  # with an epoch's scores between them
    expected = sum(row["tokens"] for row in steps) / sum(row["seconds"] for row in steps)
    assert steps[-1]["tokens_per_s"] == pytest.approx(expected, rel=0.1)


def test_samples_that_are_too_long_are_left_out_and_counted(recipe: Path, tmp_path: Path) -> None:
    model = tiny_model()
    lengths = [len(sample_of(r, model.tokenizer, {}).tokens) for r in records() if r.task == "ecpe"]
    shorter = min(lengths) - 1
    out = trainer.train(recipe, [f"max_length={shorter}"], out=tmp_path / "run")
    assert sum(row.get("too_long", 0) for row in _log(out)) == len(lengths)


def test_a_loss_that_is_not_a_number_stops_with_a_sentence(recipe: Path, tmp_path: Path) -> None:
    wild = ["stages.0.lora_lr=1e38", "stages.0.projector_lr=1e38", "save_minutes=10"]
    with pytest.raises(
        EmoVerseError,
        match=r"Stage first, step \d+: the (valid )?loss is not a number; .* and start again\.",
    ):
        trainer.train(recipe, wild, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_loss_that_stays_no_number_after_a_checkpoint_says_when_to_start_again(
    recipe: Path, tmp_path: Path
) -> None:
    wild = ["stages.0.lora_lr=1e30", "stages.0.projector_lr=1e30", "valid="]
    told = r"lower lora_lr and projector_lr, and go on .*--resume, or start again without it"
    with pytest.raises(EmoVerseError, match=told):
        trainer.train(recipe, [*wild, "save_minutes=0"], out=tmp_path / "run")


def test_attention_that_the_machine_does_not_have_is_told_before_pictures_are_looked_at(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "watch", lambda *_, **__: pytest.fail("looked"))
    with pytest.raises(EmoVerseError, match="flex cannot train on a CPU"):
        trainer.train(recipe, ["attention=flex"], out=tmp_path / "run")


def test_a_full_memory_is_told_wherever_it_comes(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    for name, told in (("watch", "Looking at pictures"), ("open_model", "Loading the model")):
        monkeypatch.setattr(trainer, name, full)
        with pytest.raises(EmoVerseError, match=f"^{told}: out of memory; "):
            trainer.train(recipe, out=tmp_path / "run")


def test_resuming_without_a_checkpoint_is_told(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no checkpoint to resume from"):
        trainer.train(recipe, out=tmp_path / "empty", resume=True)


def test_the_rate_rises_then_falls_to_zero() -> None:
    rates = [schedule("cosine", step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 <= rates[-1] < 0.001
    assert schedule("cosine", 0, 1, 0.05) == 1
