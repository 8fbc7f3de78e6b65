"""`--backend openai`: the same front over another OpenAI-compatible server, here one of our own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from emoverse.emt import endpoint as remote
from emoverse.inference.dialogue import dialogue_interview
from emoverse.serving.backends import Remote
from emoverse.serving.settings import Limits
from emoverse.tasks import er

from ..models import families
from ..openai_server import transformers_serve
from .running import TOKEN, Running, make_settings, running
from .test_api import TURNS, chat_body, data_url


@pytest.fixture(scope="module")
def front(live: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = make_settings(
        tmp_path_factory.mktemp("front"),
        backend="openai",
        endpoint=f"{live.url}/v1",
        backend_model="tiny",
        endpoint_key=TOKEN,
    )
    with running(settings, _no_model) as server:
        yield server


def _no_model(_: str) -> None:
    raise AssertionError("no model is loaded here")


def test_a_clip_is_answered_by_the_model_behind(live: Running, front: Running, clip: bytes) -> None:
    asked = {"files": {"file": ("a.mp4", clip)}, "data": {"text": "I love it"}}
    there = live.client.post("/v1/analyze", **asked).json()
    answer = front.client.post("/v1/analyze", **asked)
    assert answer.status_code == 200, answer.text
    here = answer.json()
    assert here["model"] == "tiny"
    # The model behind is shown frames, from which it may reason without a face.
    assert set(here["answers"]) == set(there["answers"]) | {"eri"}
    for task in there["answers"]:
        value = here["answers"][task]
        assert value["text"] == there["answers"][task]["text"]
        assert value["label"] == there["answers"][task]["label"]
        assert value["probabilities"] == {}
    assert here["duration"] == there["duration"]


def test_a_conversation_is_answered_by_the_model_behind(live: Running, front: Running) -> None:
    there = live.client.post("/v1/dialogue", json={"turns": TURNS}).json()
    here = front.client.post("/v1/dialogue", json={"turns": TURNS}).json()
    assert here["pairs"] == there["pairs"]
    assert [t["emotion"] for t in here["turns"]] == [t["emotion"] for t in there["turns"]]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("2_joy,99;7_anger,1", []),
        ("2_joy,0;2_joy,1;2_anger,2", [(2, "joy", 1)]),
        ("1_joy,1;3_joy,2;2_joy,3", []),
        ("2", [(2, "joy", 2)]),
        ("1;2", [(2, "joy", 1), (2, "joy", 2)]),
        ("none", []),
    ],
)
def test_causes_are_taken_only_as_the_question_allows_them(
    tmp_path: Path, said: str, wanted: list[tuple[int, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        tmp_path, backend="openai", endpoint="http://127.0.0.1:9/v1", backend_model="m"
    )
    emotions = ("neutral", "joy", "neutral")
    turns = [{"speaker": "A:B", "text": "Hm.", "emotion": emotion} for emotion in emotions]

    async def reply(*_: object) -> remote.Reply:
        return remote.Reply(said, "stop", False, None, None)

    monkeypatch.setattr(remote, "ask", reply)

    async def pairs() -> list[tuple[int, str, int]]:
        backend = Remote(settings)
        found = await backend.conduct(dialogue_interview(turns, lambda _: None, "m"))
        await backend.stop()
        return list(found.pairs)

    assert asyncio.run(pairs()) == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_passed_on(front: Running, stream: bool) -> None:
    asked = {
        "model": "tiny",
        "messages": [{"role": "user", "content": er.query("I love it")}],
        "stream": stream,
    }
    answer = front.client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200
    assert any(choice in answer.text for choice in er.choices())
    assert answer.text.endswith("data: [DONE]\n\n") == stream


def test_a_chat_is_sampled_as_its_client_wants(
    front: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[remote.Question] = []

    async def reply(_: object, __: object, question: remote.Question, ___: object) -> remote.Reply:
        asked.append(question)
        return remote.Reply("Joy.", "stop", False, None, None)

    monkeypatch.setattr(remote, "ask", reply)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}]}
    more = {"temperature": 0.7, "seed": 5, "max_tokens": 9}
    for stream in (False, True):
        answer = front.client.post("/v1/chat/completions", json=body | more | {"stream": stream})
        assert answer.status_code == 200
    assert [(q.temperature, q.seed, q.max_tokens) for q in asked] == [(0.7, 5, 9)] * 2
    more = {"seed": 2**62, "max_tokens": 10**6}
    assert front.client.post("/v1/chat/completions", json=body | more).status_code == 200
    assert (asked[-1].seed, asked[-1].max_tokens) == (2**62, 4096)


def test_a_dead_endpoint_is_told_without_its_address(tmp_path: Path, landmarker: Path) -> None:
    settings = make_settings(
        tmp_path,
        backend="openai",
        endpoint="http://127.0.0.1:9/v1",
        backend_model="secret-model",
    )
    with running(settings, _no_model) as server:
        answer = server.client.post("/v1/dialogue", json={"turns": TURNS})
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "backend_failed"
        assert "127.0.0.1" not in answer.text


@pytest.mark.slow
def test_a_server_of_another_project_answers_about_clips(
    tmp_path: Path, clip: bytes, landmarker: Path
) -> None:
    """`transformers serve` with a small random model that sees pictures."""
    network, processor = families.idefics3()
    folder = tmp_path / "model"
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    with transformers_serve(folder, tmp_path / "server.log") as url:
        settings = make_settings(
            tmp_path / "front",
            Limits(request_seconds=600),
            backend="openai",
            endpoint=url,
            backend_model=str(folder),
        )
        with running(settings, _no_model) as server:
            asked = {"files": {"file": ("a.mp4", clip)}, "data": {"text": "I love it"}}
            answer = server.client.post("/v1/analyze", **asked)
            assert answer.status_code == 200, answer.text
            answers = answer.json()["answers"]
            assert set(answers) == {"msa", "er", "eri"}  # the clip shows no face
            assert any(value["text"] for value in answers.values())
            for value in answers.values():
                assert value["probabilities"] == {}
            words = {"type": "text", "text": "What is it?"}
            picture = {"type": "image_url", "image_url": {"url": data_url(_jpeg(), "image/jpeg")}}
            plain = _prompt_tokens(server, [words])
            assert _prompt_tokens(server, [picture, words]) > plain + 16


def _prompt_tokens(server: Running, content: list[dict[str, object]]) -> int:
    """Tokens of a chat's prompt, as the model behind counts them."""
    body = chat_body(server, content, max_tokens=8)
    answer = server.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    assert 0 < usage["completion_tokens"] <= 8
    return int(usage["prompt_tokens"])


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()
