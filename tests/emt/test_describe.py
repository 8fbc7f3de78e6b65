from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emoverse.emt.describe import Clip, describe_clips, sampled_frames
from emoverse.emt.endpoint import Endpoint
from emoverse.errors import EmoVerseError
from tests.emt.chat_server import Answer, Server, prompt, serving
from tests.openai_server import transformers_serve
from tests.ports import closed_port

SCENE = (
    "A woman stands in a bright kitchen and looks at a friend. Her eyes are wide and she "
    "leans forward while the others sit at the table."
)
GLAD = (
    "In the video, the person smiles at the friend who has come back, and the warm words show "
    "that the person is full of joy about it."
)
ANGRY = GLAD.replace("smiles", "shouts").replace("joy", "anger")


def jpeg(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def clip(name: str = "a", shade: int = 0, **known: Any) -> Clip:
    known = {"transcript": f"You came, {name}!", "caption": ("Grinning",), "label": "joy"} | known
    return Clip(name, (jpeg(shade), jpeg(shade + 1)), **known)


def endpoint(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.url, "small", **{"back_off": 0.01, "retries": 2, **settings})


def describes(body: dict[str, Any]) -> bool:
    return isinstance(body["messages"][0]["content"], list)


def good(body: dict[str, Any], number: int = 0) -> Answer:
    return Answer(SCENE if describes(body) else GLAD)


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_two_questions_a_clip(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with serving(good) as server:
        reasons, report = describe_clips(
            [clip("a"), clip("b", 9)],
            endpoint(server, concurrency=1, prices=(1.0, 10.0)),
            out=tmp_path,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert reasons == {"a": GLAD, "b": GLAD}
    picture, text = server.bodies[:2]
    assert len(picture["messages"][0]["content"]) == 3
    assert "These are 2 frames" in prompt(picture)
    for clue in ("You came, a!", "Grinning", SCENE, "joy"):
        assert clue in prompt(text)
    assert "joy" not in prompt(picture), "the describer must not be led by the label"
    assert seen == [(1, 2), (2, 2)]
    assert rows(tmp_path / "reasons.jsonl")[1] == {"id": "b", "reason": GLAD, "description": SCENE}
    price = pytest.approx((400 * 1 + 40 * 10) / 1e6)
    spent = {"tokens_in": 400, "tokens_out": 40, "cost": price}
    assert report["models"] == {"small": {"answers": 4, "uncounted": 0, **spent}}
    assert report["run"] == {"asked": 4, "cached": 0, **spent}
    assert report["cost"] == price


def test_a_clip_without_frames_is_reasoned_from_the_rest(tmp_path: Path) -> None:
    with serving(good) as server:
        reasons, _ = describe_clips(
            [Clip("a", transcript="Hi", label="joy")], endpoint(server), out=tmp_path
        )
    assert reasons == {"a": GLAD}
    assert len(server.bodies) == 1
    assert "Person and scene" not in prompt(server.bodies[0])


def test_frames_may_be_files(tmp_path: Path) -> None:
    file = tmp_path / "frame.jpg"
    file.write_bytes(jpeg())
    with serving(good) as server:
        _, report = describe_clips(
            [Clip("a", (file, str(file)), label="joy"), Clip("b", (tmp_path / "gone.jpg",))],
            endpoint(server),
            out=tmp_path,
        )
    assert (report["accepted"], report["failed"]) == (1, 1)
    assert "gone.jpg" in rows(tmp_path / "rejected.jsonl")[0]["detail"]


def test_a_clip_that_cannot_be_decoded_fails_alone(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    still = tmp_path / "still.jpg"
    still.write_bytes(jpeg())
    with serving(good) as server:
        reasons, report = describe_clips(
            [Clip("bad", video=bad, label="joy"), Clip("still", video=still, label="joy")],
            endpoint(server),
            out=tmp_path / "out",
        )
    assert list(reasons) == ["still"]
    assert (report["failed"], report["stopped"]) == (1, None)
    assert "bad.mp4" in rows(tmp_path / "out" / "rejected.jsonl")[0]["detail"]


def test_clips_that_end_in_an_error_keep_what_was_done(tmp_path: Path) -> None:
    def broken() -> Iterator[Clip]:
        yield clip("a")
        raise EmoVerseError("b.mp4: not a video; remove it.")

    with serving(good) as server:
        reasons, report = describe_clips(broken(), endpoint(server), out=tmp_path)
    assert list(reasons) == ["a"]
    assert "b.mp4" in report["stopped"]
    assert report["unasked"] is None


def test_two_models_at_two_places(tmp_path: Path) -> None:
    with serving(good) as eyes, serving(good) as mind:
        describe_clips(
            [clip("a")],
            endpoint(eyes),
            reasoner=Endpoint(mind.url, "large", prices=(1.0, 1.0)),
            out=tmp_path,
        )
    assert ([b["model"] for b in eyes.bodies], [b["model"] for b in mind.bodies]) == (
        ["small"],
        ["large"],
    )


def test_without_an_endpoint_the_report_says_so(tmp_path: Path) -> None:
    reasons, report = describe_clips([clip("a")], None, out=tmp_path / "out")
    assert reasons == {}
    assert "--describe-endpoint" in report["skipped"]
    assert (report["clips"], report["unasked"]) == (1, 1)
    assert not (tmp_path / "out").exists()


def test_a_rerun_asks_nothing_and_writes_the_same(tmp_path: Path) -> None:
    clips = [clip(str(number), 20 * number) for number in range(12)]
    with serving(good) as server:
        first, before = describe_clips(clips, endpoint(server), out=tmp_path)
        whole = (tmp_path / "reasons.jsonl").read_bytes()
        again, after = describe_clips(iter(clips), endpoint(server, concurrency=3), out=tmp_path)
    assert first == again
    assert list(again) == [one.id for one in clips]
    assert (tmp_path / "reasons.jsonl").read_bytes() == whole
    assert (before.pop("run")["asked"], after.pop("run")["asked"]) == (24, 0)
    assert before == after
    assert len(server.bodies) == 24
    assert server.most_at_once <= 8


def test_no_more_questions_at_once_than_allowed(tmp_path: Path) -> None:
    slow = lambda body, number: Answer(good(body).text, delay=0.4)  # noqa: E731
    with serving(slow) as server:
        clips = [clip(str(number), number) for number in range(6)]
        describe_clips(clips, endpoint(server, concurrency=3), out=tmp_path)
    assert server.most_at_once == 3


def test_bad_answers_are_asked_once_more_and_kept_with_their_reason(tmp_path: Path) -> None:
    """The first reason names another emotion; the second try, which may differ, is good."""

    def answer(body: dict[str, Any], number: int) -> Answer:
        return good(body) if describes(body) or body["seed"] else Answer(ANGRY)

    with serving(answer) as server:
        reasons, report = describe_clips([clip("a")], endpoint(server), out=tmp_path)
    assert reasons == {"a": GLAD}
    assert (report["accepted"], report["rejected"]) == (1, {})
    assert server.bodies[-1]["temperature"] > 0
    [row] = rows(tmp_path / "rejected.jsonl")
    assert (row["step"], row["check"], row["text"], row["label"]) == (
        "reason",
        "label",
        ANGRY,
        "joy",
    )


def test_every_check_has_its_count(tmp_path: Path) -> None:
    told = {
        "refuses": "I'm sorry, but I can't help with identifying people in images.",
        "short": "Joy, because of it.",
        "other": ANGRY,
        "face": GLAD.replace("smiles at", "has a downturned mouth before"),
        "foreign": "Die Person freut sich sehr, weil ihr Freund endlich wieder zu Hause ist (joy).",
        "empty": "",
    }

    def answer(body: dict[str, Any], number: int) -> Answer:
        return (
            Answer(SCENE)
            if describes(body)
            else Answer(told[prompt(body).split("!")[0][-9:].split()[-1]])
        )

    clips = [clip(name, 2 * at) for at, name in enumerate(told)]
    with serving(answer) as server:
        reasons, report = describe_clips(clips, endpoint(server), out=tmp_path, tries=1)
    assert reasons == {}
    assert report["rejected"] == {
        "refusal": 1,
        "length": 1,
        "label": 1,
        "action_units": 1,
        "language": 1,
        "empty": 1,
    }
    assert [row["id"] for row in rows(tmp_path / "rejected.jsonl")] == list(told)


def test_a_refused_description_ends_the_clip(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer("I cannot identify people in images.")) as server:
        _, report = describe_clips([clip("a")], endpoint(server), out=tmp_path)
    assert report["rejected"] == {"refusal": 1}
    assert all(map(describes, server.bodies))


def test_one_bad_clip_does_not_stop_the_others(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], number: int) -> Answer:
        return Answer(status=400) if "bad" in prompt(body) else good(body)

    clips = [clip(name, 2 * at) for at, name in enumerate(("a", "bad", "c", "c", "d"))]
    with serving(answer) as server:
        reasons, report = describe_clips(clips, endpoint(server, concurrency=1), out=tmp_path)
    assert list(reasons) == ["a", "c", "d"]
    assert (report["failed"], report["stopped"]) == (2, None)
    details = [row["detail"] for row in rows(tmp_path / "rejected.jsonl")]
    assert "HTTP 400" in details[0]
    assert "occurs twice" in details[1]


def test_failed_clips_succeed_at_the_next_run(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer(status=503)) as server:
        _, report = describe_clips([clip("a")], endpoint(server), out=tmp_path)
    assert report["failed"] == 1
    with serving(good) as server:
        reasons, report = describe_clips([clip("a")], endpoint(server), out=tmp_path)
    assert reasons == {"a": GLAD}
    assert (tmp_path / "rejected.jsonl").read_text() == ""


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (404, 1), (500, 30)])
def test_a_dead_endpoint_ends_the_run_not_the_build(
    tmp_path: Path, status: int, asked: int
) -> None:
    clips = [clip(str(number), number) for number in range(40)]
    with serving(lambda body, number: Answer(status=status)) as server:
        reasons, report = describe_clips(clips, endpoint(server, concurrency=1), out=tmp_path)
    assert reasons == {}
    assert len(server.bodies) == asked
    assert f"HTTP {status}" in report["stopped"]
    assert report["failed"] + report["unasked"] == 40


def test_an_endpoint_that_is_not_there_is_given_up_at_once(tmp_path: Path) -> None:
    clips = [clip(str(number), number) for number in range(40)]
    with closed_port() as port:
        nowhere = endpoint(Server(f"http://127.0.0.1:{port}/v1"), concurrency=1, retries=5)
        _, report = describe_clips(clips, nowhere, out=tmp_path)
    assert report["stopped"].startswith("The endpoint cannot be reached: no connection to")
    assert "(2 attempts)" in report["failure"]
    assert (report["failed"], report["unasked"]) == (1, 39)


def test_clips_are_read_as_they_are_needed(tmp_path: Path) -> None:
    ahead = 0

    def many() -> Iterator[Clip]:
        nonlocal ahead
        for number in range(30):
            ahead = max(ahead, number - len(server.bodies) // 2)
            yield clip(str(number), number)

    with serving(good) as server:
        _, report = describe_clips(many(), endpoint(server, concurrency=2), out=tmp_path)
    assert (report["clips"], report["accepted"], report["unasked"]) == (30, 30, 0)
    assert ahead <= 2


def test_own_prompts(tmp_path: Path) -> None:
    (tmp_path / "describe.txt").write_text("Look at $count for $$5.")
    (tmp_path / "reason.txt").write_text("Why $label?\n$clues")
    with serving(good) as server:
        describe_clips([clip("a")], endpoint(server), out=tmp_path / "out", prompts=tmp_path)
        assert prompt(server.bodies[0]) == "Look at 2 for $5."
        (tmp_path / "reason.txt").write_text("Why $emotion?")
        with pytest.raises(EmoVerseError, match=r"reason\.txt: only \$label, \$clues"):
            describe_clips([clip("a")], endpoint(server), out=tmp_path / "out", prompts=tmp_path)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the middle; the rerun asks only the rest and ends with the same files."""
    script = (
        "import sys; from pathlib import Path; from tests.emt.test_describe import *\n"
        "clips = [clip(str(n), n) for n in range(20)]\n"
        "describe_clips(clips, Endpoint(sys.argv[1], 'small', concurrency=2),"
        " out=Path(sys.argv[2]))\n"
    )
    killed = threading.Event()

    def slow(body: dict[str, Any], number: int) -> Answer:
        if number >= 9:
            killed.wait(300)
        return good(body, number)

    clips = [clip(str(number), number) for number in range(20)]
    with serving(slow) as server:
        command = [sys.executable, "-c", script, server.url, str(tmp_path / "killed")]
        root = Path(__file__).parents[2]
        process = subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
        deadline = time.monotonic() + 300
        while len(list((tmp_path / "killed").rglob("answers/*/*.json"))) < 9:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        assert not (tmp_path / "killed" / "reasons.jsonl").exists()
        kept = len(list((tmp_path / "killed").rglob("answers/*/*.json")))
        assert 0 < kept < 40
        _, report = describe_clips(clips, endpoint(server), out=tmp_path / "killed")
        describe_clips(clips, endpoint(server), out=tmp_path / "whole")
    assert report["run"]["cached"] == kept
    for name in ("reasons.jsonl", "rejected.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_frames_are_spread_over_the_clip(shared: Path) -> None:
    file = shared / "video" / "single_face.mp4"
    if not file.is_file():
        pytest.skip(f"needs {file}, which is not part of the project")
    pictures = sampled_frames(file, count=4, side=64)
    assert len(pictures) == 4
    assert len(set(pictures)) == 4
    for picture in pictures:
        assert max(Image.open(io.BytesIO(picture)).size) == 64


@pytest.mark.slow
def test_reasons_from_a_real_model(compact_weights: Path, tmp_path: Path) -> None:
    """SmolLM2-135M behind `transformers serve`; what it says is judged, not assumed."""
    clips = [
        Clip("a", (), "I can not believe that you came, this is wonderful!", ("Grinning",), "joy"),
        Clip("b", (), "They took my dog away and I never saw him again.", (), "sadness"),
    ]
    with transformers_serve(compact_weights, tmp_path / "server.log") as url:
        model = Endpoint(
            url,
            str(compact_weights),
            concurrency=1,
            timeout=900,
            max_tokens=40,
        )
        reasons, report = describe_clips(clips, model, out=tmp_path / "out", tries=1)
        used = report["models"][str(compact_weights)]
        assert report["failed"] == report["unasked"] == 0
        assert report["accepted"] + sum(report["rejected"].values()) == 2
        assert len(reasons) == report["accepted"] == len(rows(tmp_path / "out" / "reasons.jsonl"))
        assert used["uncounted"] == 0
        assert used["answers"] == report["run"]["asked"] == 2
        assert used["tokens_in"] > 200
        assert 10 < used["tokens_out"] <= 2 * 40
        again, after = describe_clips(clips, model, out=tmp_path / "out", tries=1)
        assert (again, after["run"]["asked"]) == (reasons, 0)
