"""The README's commands exist and take the arguments that it gives them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

import emoverse
from emoverse.cli import app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SHELL = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
COMMANDS = typer.main.get_command(app)


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("emoverse ")])
def test_emoverse_command_parses(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    command = COMMANDS.commands[name]
    while hasattr(command, "commands"):  # `annotate` has commands of its own
        name, *arguments = arguments
        command = command.commands[name]
    with command.make_context(name, arguments) as context:
        assert context.params


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_make_target_is_known(line: str, root: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(line)[1:]],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_listed_and_none_else() -> None:
    listed = set(re.findall(r"^\| `emoverse (\w+)` \|", README, re.M))
    assert listed == set(COMMANDS.commands)


def test_named_files_exist(root: Path) -> None:
    for name in ("LICENSE", "constraints.txt", "recipes/compact.yaml"):
        assert name in README
        assert (root / name).is_file(), name


def test_python_names_exist() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        compile(block, "README.md", "exec")
        for name in re.findall(r"emoverse\.(\w+)", block):
            assert callable(getattr(emoverse, name))


@pytest.mark.parametrize("name", ["README.md", "docs/long-video.md", "docs/api.md"])
def test_python_that_starts_workers_can_be_saved_as_a_script(root: Path, name: str) -> None:
    page = (root / name).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        if re.search(r"read_film\(|read_folder\(|analyze_many\(", block):
            assert 'if __name__ == "__main__":' in block


def test_conversation_example_is_json() -> None:
    import json

    (block,) = re.findall(r"```json\n(.*?)```", README, re.S)
    assert {"speaker", "text"} <= set(json.loads(block)["turns"][0])


def test_version_is_in_the_changelog(root: Path) -> None:
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {emoverse.__version__}" in changes
