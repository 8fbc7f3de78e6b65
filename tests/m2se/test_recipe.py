from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from emoverse.errors import EmoVerseError
from emoverse.m2se.recipe import Lora, load_recipe, to_dict

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALL = """
model: compact
train: train.jsonl
valid: valid.jsonl
stages:
  - name: one
    rates: {msa: 1, er: 0.5}
    lora_lr: 1e-5
  - name: two
    rates: {ecpe: 1.0}
    samples: 7
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_recipe_loads_and_tells_what_every_key_does(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.stages
    lines = path.read_text(encoding="utf-8").splitlines()
    told: set[str] = set()
    for number, line in enumerate(lines):
        key = re.match(r"[\s-]*(\w+):", line)
        if not key or line.lstrip().startswith("#") or key[1] in told:
            continue
        told.add(key[1])
        above = lines[number - 1].strip() if number else ""
        assert above.startswith("#") or " # " in line, f"{path.name}: {key[1]} has no comment"
    assert {"stages", "rates"} <= told or told == {"extends"}
    assert "extends" in told or {"model", "train"} <= told


def test_a_recipe_that_extends_another_holds_only_what_differs(small: Path, tmp_path: Path) -> None:
    child = tmp_path / "sub" / "child.yaml"
    child.parent.mkdir()
    child.write_text("extends: ../small.yaml\nseed: 5\nlora: {r: 4}\n", encoding="utf-8")
    recipe = load_recipe(child, ["lora.alpha=9"])
    assert (recipe.seed, recipe.lora.r, recipe.lora.alpha) == (5, 4, 9)
    assert recipe.stages == load_recipe(small).stages
    (tmp_path / "stages.yaml").write_text(
        "extends: small.yaml\nstages: [{name: only, rates: {er: 1}}]\n", encoding="utf-8"
    )
    assert [stage.name for stage in load_recipe(tmp_path / "stages.yaml").stages] == ["only"]


def test_recipes_that_extend_each_other_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n", encoding="utf-8")
    with pytest.raises(EmoVerseError, match="leads back to itself"):
        load_recipe(tmp_path / "a.yaml")


def test_the_ablations_differ_from_the_full_recipe_where_they_say() -> None:
    full = load_recipe(RECIPES / "m2se.yaml")
    shipped = load_recipe(RECIPES / "compact.yaml")
    assert full.stages == shipped.stages[:2]
    assert shipped.stages[2].again and not full.stages[1].again
    for name in ("msa", "er", "ecpe"):
        single = load_recipe(RECIPES / f"single-{name}.yaml")
        assert [set(stage.rates) for stage in single.stages] == [{name}]
        assert (single.lora, single.seed) == (full.lora, full.seed)
    low, high = (load_recipe(RECIPES / f"fer-{rate}.yaml") for rate in ("low", "high"))
    assert low.stages[0].rates["fer"] < 0.2 < 0.9 < high.stages[0].rates["fer"]
    for other in (low, high):
        assert other.stages[1] == full.stages[1]
    for count in (1, 3, 4):
        recipe = load_recipe(RECIPES / f"stage2-t{count}.yaml")
        assert recipe.stages[0] == full.stages[0]
        assert len(recipe.stages[1].rates) == count


def test_there_are_recipes() -> None:
    assert (RECIPES / "compact.yaml").is_file()


def test_values_become_typed_and_the_rest_keeps_its_default(small: Path) -> None:
    recipe = load_recipe(small)
    assert [stage.name for stage in recipe.stages] == ["one", "two"]
    assert recipe.stages[0].lora_lr == 1e-5  # YAML 1.1 reads 1e-5 as text
    assert recipe.stages[0].rates == {"msa": 1.0, "er": 0.5}
    assert isinstance(recipe.stages[0].rates["msa"], float)
    assert (recipe.stages[0].samples, recipe.stages[1].samples) == (None, 7)
    assert recipe.lora == Lora()
    assert recipe.vit is None


def test_a_recipe_goes_through_yaml_and_back(small: Path, tmp_path: Path) -> None:
    recipe = load_recipe(small, ["lora.targets=[q_proj]"])
    again = tmp_path / "again.yaml"
    plain = to_dict(recipe)
    plain["stages"] = [stage | {"lora_targets": []} for stage in plain["stages"]]
    plain["lora"]["targets"] = list(plain["lora"]["targets"])
    plain["trackers"] = list(plain["trackers"])
    again.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert load_recipe(again) == recipe


def test_overrides_reach_every_depth(small: Path) -> None:
    recipe = load_recipe(
        small, ["seed=3", "lora.r=16", "stages.1.epochs=1", "stages.0.rates.eri=0.25", "vit=v.st"]
    )
    assert (recipe.seed, recipe.lora.r, recipe.stages[1].epochs) == (3, 16, 1)
    assert recipe.stages[0].rates["eri"] == 0.25
    assert recipe.vit == "v.st"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed' must be written key=value"),
        ("sede=1", "unknown key 'sede'; use one of "),
        ("lora.rank=1", "lora: unknown key 'rank'; use one of alpha"),
        ("lroa.r=1", "unknown key 'lroa'"),
        ("stages.5.epochs=1", "there is no key 'stages.5.epochs' to override"),
        ("model.x=1", "there is no key 'model.x' to override"),
        ("seed=[1", "'seed=\\[1' is not valid YAML"),
        ("seed=many", "seed: 'many' must be int"),
        ("seed=true", "seed: True must be int"),
        ("stages.0.epochs=1.5", "stages.0: epochs: 1.5 must be int"),
        ("stages.0.lora_lr=fast", "lora_lr: 'fast' is not a number"),
        ("stages.0.samples=some", "samples: 'some' must be int or None"),
        ("stages=one", "stages: expected a list"),
        ("lora=8", "lora: expected `key: value` lines"),
        ("stages.0.rates=1", "rates: expected `task: rate` lines"),
        ("stages.0.rates.joy=1", "stage 'one' has joy: 1.0; use tasks msa, er, fer, eri, ecpe"),
        ("rows=shared", "rows: 'shared'; use merged, packed, padded"),
        ("projector=qformer", "projector: 'qformer'; use own, linear, mlp"),
        ("trackers=[mlflow]", "trackers: 'mlflow'; use tensorboard"),
        ("stages.0.schedule=step", "schedule: 'step'; use cosine, linear, constant"),
        ("stages.0.lora_targets=[head]", "stage 'one' trains 'head', which is not among"),
        ("stages.0.epochs=0", "stage 'one' needs epochs of 1 or more"),
        ("stages.1.name=one", "stages need names, each its own"),
        ("stages=[]", "stages need names, each its own"),
        ("batch_tokens=0", "batch_tokens: 0; use 1 or more"),
        ("stages.-1.epochs=1", "there is no key 'stages.-1.epochs' to override"),
        ("stages.0.name='#a'", "stage '#a' cannot be told apart in a plan file"),
        ('stages.0.name="a\\tb"', "cannot be told apart in a plan file"),
        ("stages.0.samples=-5", "stage 'one', samples: -5; use 1 or more"),
        ("stages.0.lora_lr=.nan", "stage 'one', lora_lr: nan; use 0 or more"),
        ("stages.0.projector_lr=-1", "stage 'one', projector_lr: -1.0; use 0 or more"),
        ("stages.0.first_layer=-4", "stage 'one', first_layer: -4; use 0 or more"),
        ("lora.first_layer=-4", "lora.first_layer: -4; use 0 or more"),
        ("lora.r=0", "lora.r: 0; use 1 or more"),
        ("lora.dropout=7", "lora.dropout: 7.0; use less than 1"),
        ("valid_samples=-3", "valid_samples: -3; use 0 or more"),
        ("save_minutes=.nan", "save_minutes: nan; use 0 or more"),
        ("visual_cache_gb=.inf", "visual_cache_gb: inf; use 0 or more, and no infinity"),
        ("trackers=[wandb,wandb]", "trackers: wandb, wandb; name each once"),
        ("share=0", "share: 0.0; use more than 0 and at most 1"),
        ("share=1.5", "share: 1.5; use more than 0 and at most 1"),
        ("stages.0.rates.er=1.5", "stage 'one' has er: 1.5; .* rates from 0 to 1"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_that_names_the_key(
    small: Path, override: str, message: str
) -> None:
    with pytest.raises(EmoVerseError, match=message) as caught:
        load_recipe(small, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "not valid YAML"),
        ("", "expected `key: value` lines"),
        ("- a", "expected `key: value` lines"),
        ("model: compact", "key 'train' is missing"),
        (SMALL.replace("name: one\n    ", ""), r"stages\.0: key 'name' is missing"),
    ],
)
def test_a_malformed_file_is_told_in_one_sentence(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EmoVerseError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
