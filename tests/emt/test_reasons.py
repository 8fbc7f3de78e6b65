"""`emoverse build --describe-endpoint`, from raw folders to ERI records."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emoverse import cli
from emoverse.corpora.records import Utterance
from emoverse.emt.clips import Look
from emoverse.emt.endpoint import Endpoint
from emoverse.emt.reasons import Describer, records
from emoverse.emt.record import Record, load_records
from emoverse.emt.sources import Spoken

from . import drawn
from .chat_server import Answer, Server, prompt, serving
from .conftest import tree

SCENE = (
    "A drawn person stands before a plain wall and looks at somebody. The mouth is open and the "
    "brows are raised while the person speaks."
)


def describes(body: dict[str, Any]) -> bool:
    return isinstance(body["messages"][-1]["content"], list)


def answer(body: dict[str, Any], number: int) -> Answer:
    """A scene, or a reason for the label that the question names."""
    if describes(body):
        return Answer(SCENE)
    label = prompt(body).partition("labelled: ")[2].partition(".")[0]
    return Answer(
        "The person in the video says something short while others listen, and the words and "
        f"the face together show a {label} state of mind, {label} about what has happened."
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory, landmarker: Path) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    drawn.meld(folder / "meld", clips=3)
    drawn.mosei(folder / "mosei", [(0.0, 1.5), (2.0, 4.5)])
    assert run(arguments(folder, folder / "EMT")) == 0
    return folder


@pytest.fixture
def out(raw: Path, tmp_path: Path) -> Path:
    """A dataset that was built without an endpoint, so that its faces are measured already."""
    return copied(raw, tmp_path / "EMT")


def copied(raw: Path, out: Path) -> Path:
    shutil.copytree(raw / "EMT", out)
    return out


def arguments(raw: Path, out: Path, *more: str) -> list[str]:
    named = ["--meld", raw / "meld", "--mosei", raw / "mosei", "--out", out, "--workers", "1"]
    return ["build", *map(str, named), *more]


def asking(server: Server) -> list[str]:
    models = ["--describe-model", "eyes", "--reason-model", "mind"]
    prices = ["--price", "1", "2", "--reason-price", "10", "20"]
    return ["--describe-endpoint", server.url, *models, *prices]


def run(command: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(command))
    return int(ended.value.code or 0)


def reasons(out: Path) -> dict[str, Record]:
    return {one.id: one for one in load_records(out / "train.jsonl") if one.task == "eri"}


def test_a_whole_build_asks_for_reasons_once(
    raw: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answer) as server:
        assert run(arguments(raw, out, *asking(server))) == 0
        asked = len(server.bodies)
        first, told = tree(out), capsys.readouterr()
        assert run(arguments(raw, out, *asking(server))) == 0
        assert len(server.bodies) == asked, "every answer was on disk"
        again = capsys.readouterr()
    # Five clips, two of them parts of one video, a description and a reason each; a clip whose
    # sentiment is 0 is neutral and has a reason too.
    made = reasons(out)
    assert asked == 10 and len(made) == 5
    surprise = made["meld/train_dia0_utt2/eri"]
    assert "surprise" in surprise.response and surprise.label == "surprise"
    clip = raw / "meld" / "train" / "train_splits" / "dia0_utt2.mp4"
    assert surprise.videos == (str(clip),) and surprise.meta["dialogue"] == "meld/train/dia0"
    (peak,) = made["mosei/abc_1/eri"].images
    assert (out / peak).is_file() and made["mosei/abc_1/eri"].videos == ()

    seen = [body["messages"][-1]["content"] for body in server.bodies if describes(body)]
    assert {len(content) for content in seen} == {9}, "eight frames and the prompt"
    assert len({json.dumps(content) for content in seen}) == 5, "every part of a video is its own"

    report = json.loads((out / "build.json").read_text())["reasons"]
    assert (report["clips"], report["accepted"], report["failed"]) == (5, 5, 0)
    assert report["models"]["eyes"]["cost"] == pytest.approx(5 * (100 * 1 + 10 * 2) / 1e6)
    assert report["models"]["mind"]["cost"] == pytest.approx(5 * (100 * 10 + 10 * 20) / 1e6)
    assert "run" not in report and tree(out) == first
    assert "Reasons: 5 of 5 clips; 0 were turned down, 0 failed" in told.out
    assert "mind: 5 answers, 500 tokens in, 50 out, 0.01 US dollars" in told.out
    assert "10 answers asked for, 0 on disk" in told.err
    assert "0 answers asked for, 10 on disk" in again.err
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert {"reasons/reasons.jsonl", "reasons/rejected.jsonl"} <= set(listed)


def test_what_is_turned_down_fails_or_stops_is_told(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def grumpy(body: dict[str, Any], number: int) -> Answer:
        if not describes(body) and "Line 1" in prompt(body):
            return Answer("I'm sorry, I can't help with that.")
        if not describes(body) and "Line 2" in prompt(body):
            return Answer(status=400)
        return answer(body, number)

    with serving(grumpy) as server:
        assert run(arguments(raw, copied(raw, tmp_path / "a"), *asking(server))) == 0
    printed = capsys.readouterr()
    assert "Reasons: 3 of 5 clips; 1 was turned down (1 refusal), 1 failed;" in printed.out
    assert "The first that failed: HTTP 400" in printed.err
    with serving(lambda body, number: Answer(status=401)) as server:
        assert run(arguments(raw, copied(raw, tmp_path / "b"), *asking(server))) == 0
    told = capsys.readouterr()
    assert "Reasons: 0 of 5 clips" in told.out
    assert "Reasons were broken off: The endpoint turns every question away" in told.err
    assert reasons(tmp_path / "b") == {} and len(load_records(tmp_path / "b" / "train.jsonl")) > 5


def test_the_users_own_prompts_and_limits(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "describe.txt").write_text("Tell of $count pictures.")
    (mine / "reason.txt").write_text("Why is $mood?")
    limits = ["--concurrency", "1", "--request-timeout", "60", "--max-tokens", "99"]
    with serving(answer) as server:
        command = [*asking(server), "--prompts", str(mine), *limits]
        assert run(arguments(raw, tmp_path / "new", *command)) == 1
        assert "only $label, $clues can be filled in" in capsys.readouterr().err
        assert not (tmp_path / "new").exists(), "told before the work"
        (mine / "reason.txt").write_text("It is labelled: $label. Why? $clues")
        out = copied(raw, tmp_path / "out")
        assert run(arguments(raw, out, *command)) == 0
    assert server.most_at_once <= 2, "one at each of the two models"
    assert {body["max_tokens"] for body in server.bodies} == {99}
    told = {prompt(body).partition(".")[0] for body in server.bodies}
    assert "Tell of 8 pictures" in told and "It is labelled: joy" in told
    report = json.loads((out / "build.json").read_text())["reasons"]
    digest = hashlib.sha256((mine / "reason.txt").read_bytes()).hexdigest()
    assert report["prompts"]["reason"] == digest


def test_without_an_endpoint_reasons_are_skipped(
    raw: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(raw, out)) == 0
    assert "No endpoint was named (--describe-endpoint)" in capsys.readouterr().out
    skipped = json.loads((out / "build.json").read_text())["reasons"]["skipped"]
    assert "no reasons were made" in skipped
    assert reasons(out) == {} and not (out / "reasons").exists()


class _Looks:
    """Every clip shows the same face, a smile by default."""

    def __init__(self, out: Path, **intensities: float) -> None:
        self.out, self._intensities = out, intensities or {"AU12": 3.0}

    def of(self, utterance: Utterance) -> Look:
        return Look(utterance.id, peak="crops/peak.jpg", intensities=self._intensities)


def test_nobody_is_asked_about_what_is_left_out(tmp_path: Path) -> None:
    still = tmp_path / "still.jpg"
    Image.fromarray(drawn.face(0.5)).save(still)

    def said(name: str, split: str, dialogue: str, corpus: str = "meld") -> Utterance:
        return Utterance(name, corpus, split, dialogue, 1, "Hi.", emotion="joy", clip=still)

    rows = (said("a", "train", "dia0"), said("b", "train", "dia1"), said("c", "valid", "dia0"))
    video = (said("v_1", "train", "v", "mosei"), said("v_2", "valid", "v", "mosei"))
    corpora = [Spoken("MELD", rows), Spoken("CMU-MOSEI", video)]
    with serving(answer) as server:
        who = Describer(Endpoint(server.url, "small"))
        left_out = {"meld/train/dia0", "mosei/v"}
        made, report = records(corpora, _Looks(tmp_path), who, left_out)  # type: ignore[arg-type]
    assert {record.id for record in made} == {"meld/b/eri", "meld/c/eri", "mosei/v_2/eri"}
    assert report["clips"] == 3


@pytest.mark.parametrize(
    ("label", "intensities", "face", "kept"),
    [
        # Eq 3's caption of a sad face tells its AU15 alone, of a glad one its AU14.
        ("sadness", {"AU12": 3.0, "AU15": 1.2}, "smiles", True),
        ("joy", {"AU15": 3.0, "AU23": 2.0, "AU14": 1.5}, "smiles with an open mouth", False),
        ("joy", {"AU12": 3.0, "AU15": 0.4}, "has a downturned mouth", False),
    ],
)
def test_a_reason_is_judged_by_the_face_and_not_by_its_caption(
    tmp_path: Path, label: str, intensities: dict[str, float], face: str, kept: bool
) -> None:
    def told(body: dict[str, Any], number: int) -> Answer:
        reason = answer(body, number).text
        return Answer(SCENE) if describes(body) else Answer(reason.replace("says", f"{face}, says"))

    still = tmp_path / "still.jpg"
    Image.fromarray(drawn.face(0.5)).save(still)
    one = Utterance("a", "meld", "train", "dia0", 1, "Hi.", emotion=label, clip=still)
    with serving(told) as server:
        who = Describer(Endpoint(server.url, "small"))
        looks = _Looks(tmp_path, **intensities)
        made, report = records([Spoken("MELD", (one,))], looks, who)  # type: ignore[arg-type]
    assert len(made) == kept
    assert report["rejected"] == ({} if kept else {"action_units": 1})


@pytest.mark.slow
def test_a_build_killed_while_it_asks_goes_on_without_asking_again(
    raw: Path, out: Path, tmp_path: Path
) -> None:
    killed = threading.Event()

    def slow(body: dict[str, Any], number: int) -> Answer:
        if number >= 3:
            killed.wait(300)
        return answer(body, number)

    with serving(answer) as server:
        whole = copied(raw, tmp_path / "whole")
        assert run(arguments(raw, whole, *asking(server))) == 0
        needed = len(server.bodies)
    with serving(slow) as server:
        command = [sys.executable, "-m", "emoverse", *arguments(raw, out, *asking(server))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while len(list(out.glob("reasons/answers/*/*.json"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed.set()
        before = -1  # what was asked last may still be on its way
        while before < (before := len(server.bodies)):
            time.sleep(2)
        kept = len(list(out.glob("reasons/answers/*/*.json")))
        assert 2 <= kept < needed and not (out / "reasons" / "reasons.jsonl").exists()
        assert run(arguments(raw, out, *asking(server))) == 0
        assert len(server.bodies) - before == needed - kept
    assert tree(out) == tree(whole)
