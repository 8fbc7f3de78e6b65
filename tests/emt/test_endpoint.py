from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from emoverse.emt import endpoint
from emoverse.emt.endpoint import Endpoint, EndpointError, Question, Reply, ask, cache_file, connect
from emoverse.errors import EmoVerseError
from tests.emt.chat_server import Answer, Server, serving
from tests.ports import closed_port

JPEG = b"\xff\xd8\xff\xe0 not a whole picture"


def put(server: Server, cache: Path, question: Question, **settings: Any) -> Reply:
    settings = {"back_off": 0.01, "timeout": 60.0, "retries": 3} | settings
    endpoint = Endpoint(server.url, "small", **settings)

    async def run() -> Reply:
        async with connect(endpoint) as client:
            return await ask(client, endpoint, question, cache)

    return asyncio.run(run())


def test_a_question_carries_prompt_pictures_settings_and_key(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n..."
    with serving(lambda body, number: Answer(" Fine. \n")) as server:
        question = Question("What is it?", (JPEG, png), max_tokens=7, seed=3)
        reply = put(server, tmp_path, question, key="secret-1")
    assert (reply.text, reply.finish, reply.tokens_in, reply.tokens_out) == (
        "Fine.",
        "stop",
        100,
        10,
    )
    body = server.bodies[0]
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == (
        "small",
        7,
        0,
        3,
    )
    first, second, text = body["messages"][0]["content"]
    assert first["image_url"]["url"] == f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    assert second["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "What is it?"}
    assert server.headers[0]["Authorization"] == "Bearer secret-1"


def test_a_text_question_is_a_plain_string(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer()) as server:
        put(server, tmp_path, Question("Hello"))
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "Hello"}]
    assert "Authorization" not in server.headers[0]


def test_an_answer_is_kept_by_model_prompt_pictures_and_settings(tmp_path: Path) -> None:
    question = Question("Hello", (JPEG,))
    with serving(lambda body, number: Answer(f"answer {number}")) as server:
        first = put(server, tmp_path, question)
        again = put(server, tmp_path, question)
        put(server, tmp_path, Question("Hello", (JPEG + b"!",)))
        put(server, tmp_path, Question("Hello", (JPEG,), temperature=0.7))
    assert (first.attempts, again.attempts) == (1, 0)
    assert (again.text, again.tokens_in) == ("answer 0", 100)
    assert len(server.bodies) == 3
    one, other = (cache_file(tmp_path, model, question) for model in ("small", "large"))
    assert one.is_file()
    assert one != other


def test_a_damaged_kept_answer_is_asked_anew(tmp_path: Path) -> None:
    file = cache_file(tmp_path, "small", Question("Hello"))
    with serving(lambda body, number: Answer(f"answer {number}")) as server:
        put(server, tmp_path, Question("Hello"))
        whole = file.read_text()
        for damage in (whole[:20], "", "[]", '{"model": "small"}'):
            file.write_text(damage)
            assert put(server, tmp_path, Question("Hello")).attempts == 1
    assert json.loads(file.read_text())["text"] == "answer 4"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_passing_troubles_are_tried_again(tmp_path: Path, status: int) -> None:
    with serving(lambda body, number: Answer(status=status if number < 2 else 200)) as server:
        assert put(server, tmp_path, Question("Hello")).attempts == 3


def test_a_server_that_never_recovers_is_given_up(tmp_path: Path) -> None:
    with (
        serving(lambda body, number: Answer(status=500)) as server,
        pytest.raises(EndpointError, match=r"HTTP 500: told by the server \(4 attempts\)") as error,
    ):
        put(server, tmp_path, Question("Hello"))
    assert not error.value.hopeless
    assert len(server.bodies) == 4
    assert list(tmp_path.rglob("*.json")) == []


def test_pauses_grow_and_differ(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer(status=500)) as server, pytest.raises(EndpointError):
        put(server, tmp_path, Question("Hello"), back_off=0.1)
    pauses = [late - early for early, late in zip(server.times, server.times[1:], strict=False)]
    for number, (pause, whole) in enumerate(zip(pauses, (0.1, 0.2, 0.4), strict=True)):
        assert whole / 2 <= pause
        assert whole / 2 <= endpoint._pause(0.1, number, None) <= whole


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("0.5", 0.5),
        (lambda: format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2)), 0.9),
        ("soon", 0.0),
    ],
)
def test_retry_after_is_honoured(tmp_path: Path, header: Any, wait: float) -> None:
    def answer(body: dict[str, Any], number: int) -> Answer:
        value = header() if callable(header) else header
        return Answer(status=429, headers={"Retry-After": value}) if number == 0 else Answer()

    started = time.monotonic()
    with serving(answer) as server:
        assert put(server, tmp_path, Question("Hello")).attempts == 2
    assert wait <= time.monotonic() - started < wait + 60


def test_a_server_that_hangs_costs_one_timeout(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer(delay=0.0 if number else 60.0)) as server:
        assert put(server, tmp_path, Question("Hello"), timeout=3.0).attempts == 2
    assert 1 < server.times[1] - server.times[0] < 60


@pytest.mark.parametrize(
    "raw",
    [b"<html>gateway</html>", b'{"choices": [', b'{"choices": []}', b"[]", b"\xff\xfe", b"null"],
)
def test_what_is_no_chat_completion_is_tried_again(tmp_path: Path, raw: bytes) -> None:
    with serving(lambda body, number: Answer(raw=raw if number == 0 else None)) as server:
        assert put(server, tmp_path, Question("Hello")).attempts == 2
    with (
        serving(lambda body, number: Answer(raw=raw)) as server,
        pytest.raises(EndpointError, match="not a chat completion"),
    ):
        put(server, tmp_path, Question("Hello again"), retries=1)


def test_a_body_that_cannot_be_unpacked_is_tried_again(tmp_path: Path) -> None:
    packed = Answer(headers={"Content-Encoding": "gzip"}, raw=b"not gzip")
    with serving(lambda body, number: Answer() if number else packed) as server:
        assert put(server, tmp_path, Question("Hello")).attempts == 2
    with (
        serving(lambda body, number: packed) as server,
        pytest.raises(EndpointError, match="an unreadable answer from"),
    ):
        put(server, tmp_path, Question("Hello again"), retries=1)


@pytest.mark.parametrize(
    ("status", "hopeless"), [(400, False), (413, False), (401, True), (404, True)]
)
def test_a_refused_request_is_not_repeated(tmp_path: Path, status: int, hopeless: bool) -> None:
    with (
        serving(lambda body, number: Answer(status=status)) as server,
        pytest.raises(EndpointError, match="told by the server") as error,
    ):
        put(server, tmp_path, Question("Hello"))
    assert error.value.hopeless is hopeless
    assert len(server.bodies) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with closed_port() as port, pytest.raises(EndpointError, match="no connection"):
        put(Server(f"http://127.0.0.1:{port}/v1"), tmp_path, Question("Hello"), retries=1)


def test_a_refusal_the_server_marks_and_missing_usage(tmp_path: Path) -> None:
    refused = {"choices": [{"message": {"content": None, "refusal": "I will not."}}]}
    with serving(lambda body, number: Answer(raw=json.dumps(refused).encode())) as server:
        reply = put(server, tmp_path, Question("Hello"))
    assert (reply.text, reply.refusal, reply.tokens_in) == ("I will not.", True, None)


def test_thinking_is_no_part_of_the_answer(tmp_path: Path) -> None:
    with serving(lambda body, number: Answer("<think>hm\nhm</think>\n\nYes.")) as server:
        assert put(server, tmp_path, Question("Hello")).text == "Yes."


def test_a_picture_of_another_kind_is_told(tmp_path: Path) -> None:
    with (
        serving(lambda body, number: Answer()) as server,
        pytest.raises(EndpointError, match="JPEG, PNG or WebP"),
    ):
        put(server, tmp_path, Question("Hello", (b"GIF89a",)))
    assert server.bodies == []


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_a_wrong_url_is_told_at_once(url: str) -> None:
    with pytest.raises(EmoVerseError, match="not a URL"):
        connect(Endpoint(url, "small"))


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_the_url_may_end_in_several_ways(tmp_path: Path, tail: str) -> None:
    with serving(lambda body, number: Answer()) as server:
        root = server.url.removesuffix("/v1")
        endpoint = Endpoint(root + tail, "small", retries=0)

        async def run() -> Reply:
            async with connect(endpoint) as client:
                return await ask(client, endpoint, Question("Hello"), tmp_path)

        assert asyncio.run(run()).text == "ok"


def test_the_key_is_never_shown() -> None:
    assert "secret" not in repr(Endpoint("http://host/v1", "small", key="secret"))
