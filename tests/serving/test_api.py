"""What clients of the API rely on."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import httpx2
import pytest

from emoverse.inference.engine import Engine
from emoverse.models import weights
from emoverse.tasks import er, eri, fer, labels

from ..faces.clips import write_audio
from .conftest import Told
from .running import Running, make_settings, running, wait_for

TURNS = [
    {"speaker": "Ann", "text": "Look at this."},
    {"speaker": "Bob", "text": "Oh!", "emotion": "surprise"},
]


def test_health_needs_no_token_and_everything_else_does(live: Running) -> None:
    bare = httpx2.Client(base_url=live.url, timeout=120)
    assert bare.get("/healthz").json()["status"] == "ok"
    for method, path in (
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/models"),
        ("GET", "/v1/jobs"),
        ("POST", "/v1/analyze"),
        ("GET", "/nowhere"),
    ):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic"}):
            answer = bare.request(method, path, headers=headers)
            assert answer.status_code == 401, path
            assert "WWW-Authenticate" in answer.headers


def test_a_browser_shows_the_token_as_a_password_for_pages_only(live: Running) -> None:
    token = live.client.headers["Authorization"].split()[1]
    bare = httpx2.Client(base_url=live.url, auth=("anyone", token), timeout=120)
    assert bare.get("/openapi.json").status_code == 200
    assert bare.get("/v1/jobs").status_code == 401


def test_an_uploaded_clip_is_read(live: Running, clip: bytes) -> None:
    answer = live.client.post(
        "/v1/analyze",
        files={"file": ("../../my clip.mp4", clip)},
        data={"text": "I love it", "tasks": "msa,er"},
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["clip"] == "my clip.mp4"
    assert set(found["answers"]) == {"msa", "er"}
    assert set(found["answers"]["er"]["probabilities"]) == set(labels.EMOTIONS)
    assert (found["width"], found["height"]) == (64, 48)
    assert "No face was found in my clip.mp4." in found["warnings"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert list(live.service.scratch.iterdir()) == []


def test_a_clip_under_a_root_is_read(live: Running, root_folder: Path) -> None:
    for path in ("sub/grey.mp4", str(root_folder / "sub" / "grey.mp4")):
        asked = {"path": path, "text": "I love it", "tasks": ["msa"]}
        answer = live.client.post("/v1/analyze", json=asked)
        assert answer.status_code == 200, answer.text
        assert str(root_folder) not in json.dumps(answer.json()["warnings"]) or path.startswith("/")


@pytest.mark.parametrize(
    "path",
    [
        "../outside.mp4",
        "sub/../../outside.mp4",
        "sub/../sub/grey.mp4",
        "linked/../{root}/sub/grey.mp4",
        "linked/none/../../{root}/sub/grey.mp4",
        "/etc/../{root}/sub/grey.mp4",
        "/none/../{root}/sub/grey.mp4",
        "link.mp4",
        "linked/outside.mp4",
        "/etc/passwd",
        "/proc/self/environ",
        "file:///etc/passwd",
        "http://127.0.0.1:1/a.mp4",
        "concat:sub/grey.mp4",
        "sub/grey.mp4\0.png",
        "sub",
        ".",
        "none.mp4",
        "~/a.mp4",
        "%2e%2e/outside.mp4",
        "sub\\..\\..\\outside.mp4",
        "a" * 900,
    ],
)
@pytest.mark.parametrize("address", ["/v1/analyze", "/v1/jobs", "/v1/dialogue"])
def test_no_path_leads_outside_the_roots(
    live: Running, root_folder: Path, path: str, address: str
) -> None:
    path = path.replace("{root}", str(root_folder)[1:])
    asked: dict[str, object] = {"path": path}
    if address == "/v1/dialogue":
        asked = {"turns": [{"text": "Hi", "clip": path}]}
    answer = live.client.post(address, json=asked)
    # One and the same answer, whether something lies there or not.
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["code"] == "no_such_clip"
    assert "outside" not in answer.text and "passwd" not in answer.text


def test_a_server_without_roots_takes_no_paths(landmarker: Path, tmp_path: Path) -> None:
    with running(make_settings(tmp_path)) as server:
        answer = server.client.post("/v1/analyze", json={"path": "a.mp4"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_roots")


def test_an_upload_cannot_name_a_path(live: Running, clip: bytes) -> None:
    answer = live.client.post(
        "/v1/analyze", files={"file": ("a.mp4", clip)}, data={"path": "/etc/passwd"}
    )
    assert answer.status_code == 422


def test_a_playlist_cannot_make_the_server_open_other_files(
    live: Running, root_folder: Path
) -> None:
    other = root_folder / "sub" / "grey.mp4"
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{other}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {other}\n",
        f"<MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>",
    ):
        for name in ("a.m3u8", "a.mp4", "a.ffconcat", "a.mpd"):
            answer = live.client.post(
                "/v1/analyze", files={"file": (name, text.encode())}, data={"text": "Hi"}
            )
            assert answer.status_code == 422, text
            assert answer.json()["error"]["code"] == "bad_media"


def test_what_is_no_clip_is_told_in_one_sentence(
    live: Running, clip: bytes, tmp_path: Path
) -> None:
    sound = write_audio(tmp_path / "a.mp4").read_bytes()
    for data in (b"", b"hello", clip[:300], sound, b"\x00" * 5000, b"RIFF\xff\xff\xff\xffAVI "):
        answer = live.client.post(
            "/v1/analyze", files={"file": ("a.mp4", data)}, data={"text": "Hi"}
        )
        assert answer.status_code == 422, answer.text
        message = answer.json()["error"]["message"]
        assert "\n" not in message and "/" not in message and "Traceback" not in message


def test_neither_face_nor_words_is_told(live: Running, clip: bytes) -> None:
    answer = live.client.post("/v1/analyze", files={"file": ("a.mp4", clip)})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "no face was found and no text was given" in message and "--" not in message


@pytest.mark.parametrize(
    "asked",
    [
        {},
        [],
        {"path": ""},
        {"path": "sub/grey.mp4", "tasks": []},
        {"path": "sub/grey.mp4", "tasks": ["ecpe"]},
        {"path": "sub/grey.mp4", "txet": "Hi"},
        {"path": 7},
        {"path": "sub/grey.mp4", "text": "x" * 4001},
    ],
)
def test_a_malformed_request_is_told(live: Running, asked: object) -> None:
    answer = live.client.post("/v1/analyze", json=asked)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    ("address", "asked", "message"),
    [
        ("analyze", [], "The body must be a JSON object."),
        ("dialogue", [], "The body must be a JSON object."),
        ("dialogue", {"turns": [7]}, "turns.0: Must be a JSON object"),
        ("analyze", {"path": "a", "tasks": "msa,x"}, "tasks.1: Input should be 'msa', 'er', "),
        ("chat/completions", {"content": 7}, "messages.0.content: Input should be a valid string"),
        (
            "chat/completions",
            {"content": [{"type": "image_url", "image_url": {}}]},
            "messages.0.content.0.image_url.url: Field required",
        ),
        (
            "chat/completions",
            {"content": [{"type": "text", "text": "\ud800"}]},
            "messages.0.content.0.text: Input should be a valid string, unable to parse raw data "
            "as a unicode string",
        ),
        (
            "chat/completions",
            {"content": "\ud800"},
            "messages.0.content: Input should be a valid string, unable to parse raw data as a "
            "unicode string",
        ),
    ],
)
def test_a_mistakes_place_is_told_plainly(
    live: Running, address: str, asked: object, message: str
) -> None:
    if address.startswith("chat"):
        asked = chat_body(live, asked["content"])  # type: ignore[index]
    answer = live.client.post(
        f"/v1/{address}",
        content=json.dumps(asked),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)


def test_tasks_are_given_in_every_usual_form(live: Running, clip: bytes) -> None:
    asked = {"path": "sub/grey.mp4", "text": "I love it", "tasks": "er, msa"}
    answers = [live.client.post("/v1/analyze", json=asked)]
    for tasks in ("er,msa", ["er", "msa"]):
        data = {"text": "I love it", "tasks": tasks}
        answers.append(live.client.post("/v1/analyze", files={"file": clip}, data=data))
    assert [list(answer.json()["answers"]) for answer in answers] == [["er", "msa"]] * 3
    twice = live.client.post("/v1/analyze", files={"file": clip}, data={"text": ["a", "b"]})
    assert twice.json()["error"]["message"] == "'text' is given twice; give it once."


def test_a_conversation_is_read(live: Running) -> None:
    answer = live.client.post("/v1/dialogue", json={"turns": TURNS})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [turn["emotion"] for turn in found["turns"]][1] == "surprise"
    for target, _, cause in found["pairs"]:
        assert 1 <= cause <= target <= 2
    wrong = live.client.post("/v1/dialogue", json={"turns": [{"text": "a", "emotion": "blue"}]})
    assert wrong.status_code == 422 and "blue" in wrong.json()["error"]["message"]


def test_a_speaker_may_have_a_colon(live: Running) -> None:
    said = [
        {"speaker": "A:B", "text": "Great", "emotion": "joy"},
        {"speaker": "A: B", "text": "Oh no", "emotion": "anger"},
    ]
    answer = live.client.post("/v1/dialogue", json={"turns": said}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert [turn["speaker"] for turn in answer.json()["turns"]] == ["A:B", "A: B"]


def test_the_answers_are_the_engines_own(live: Running, root_folder: Path) -> None:
    engine: Engine = live.service.backend._engine
    here = engine.analyze(root_folder / "sub" / "grey.mp4", "I love it")
    asked = {"path": "sub/grey.mp4", "text": "I love it"}
    there = live.client.post("/v1/analyze", json=asked).json()
    for task, answer in here.answers.items():
        assert there["answers"][task]["text"] == answer.text
        assert there["answers"][task]["probabilities"] == pytest.approx(
            dict(answer.probabilities), abs=1e-5
        )
    here_too = engine.analyze_dialogue(TURNS)
    there_too = live.client.post("/v1/dialogue", json={"turns": TURNS}).json()
    assert [tuple(pair) for pair in there_too["pairs"]] == list(here_too.pairs)


@pytest.mark.slow
def test_a_face_is_found_as_without_a_server(live: Running) -> None:
    if not weights.pulled():
        pytest.skip("needs the demo clip; run `emoverse pull compact`")
    demo = weights.demo_clip()
    answer = live.client.post(
        "/v1/analyze", files={"file": ("demo.mp4", demo.read_bytes())}, data={"text": "Oh"}
    )
    assert answer.status_code == 200, answer.text
    here = live.service.backend._engine.analyze(demo, "Oh")
    found = answer.json()
    assert here.peak is not None
    assert found["peak"]["frame"] == here.peak.frame
    assert found["peak"]["intensities"] == pytest.approx(dict(here.peak.intensities))
    assert found["people"] == here.people
    for task, value in here.answers.items():
        assert found["answers"][task]["text"] == value.text


def test_the_openapi_page_describes_every_address(live: Running) -> None:
    page = live.client.get("/openapi.json").json()
    assert set(page["paths"]) == {
        "/healthz",
        "/metrics",
        "/v1/analyze",
        "/v1/dialogue",
        "/v1/jobs",
        "/v1/jobs/{job}",
        "/v1/jobs/{job}/cancel",
        "/v1/jobs/{job}/events",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
    }
    body = page["paths"]["/v1/analyze"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    known = page["components"]["schemas"]
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(page)):
        assert reference.removeprefix("#/components/schemas/") in known, reference


def test_one_model_is_told_by_its_name(live: Running) -> None:
    (listed,) = live.client.get("/v1/models").json()["data"]
    assert live.client.get(f"/v1/models/{listed['id']}").json() == listed
    for other in ("gpt", f"{listed['id']}/x"):
        answer = live.client.get(f"/v1/models/{other}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_health_may_be_asked_without_a_body(live: Running) -> None:
    answer = live.client.head("/healthz")
    assert answer.status_code == 200 and answer.content == b""


def test_figures_are_counted(live: Running) -> None:
    live.client.post("/v1/dialogue", json={"turns": TURNS})
    text = live.client.get("/metrics").text
    assert 'emoverse_requests_total{path="/v1/dialogue",status="200"}' in text
    assert "emoverse_batch_questions_bucket" in text
    live.client.get("/some/path/of/a/client")
    assert "/some/path" not in live.client.get("/metrics").text


def test_the_log_says_nothing_of_what_users_say(live: Running, told: Told, clip: bytes) -> None:
    told.listen()
    live.client.post(
        "/v1/analyze",
        files={"file": ("secretname.mp4", clip)},
        data={"text": "secretwords"},
    )
    live.client.get("/v1/secretpath?secretquery=1")

    def seen() -> list[int]:
        lines = [json.loads(line) for line in told.text.splitlines()]
        return [line["status"] for line in lines if line["event"] == "request"]

    wait_for(lambda: 404 in seen())  # a line is written when its answer is sent
    assert 200 in seen()
    assert "secret" not in told.text


def chat_body(live: Running, content: object, **more: object) -> dict[str, object]:
    return {
        "model": live.service.backend.name,
        "messages": [{"role": "user", "content": content}],
    } | more


def data_url(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_a_chat_answers_a_tasks_question(live: Running, clip: bytes) -> None:
    content = [
        {"type": "video_url", "video_url": {"url": data_url(clip)}},
        {"type": "text", "text": er.query("I love it")},
    ]
    answer = live.client.post("/v1/chat/completions", json=chat_body(live, content))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["choices"][0]["message"]["content"] in er.choices()
    assert found["choices"][0]["finish_reason"] == "stop"
    assert found["emoverse"]["task"] == "er"
    assert sum(found["emoverse"]["probabilities"].values()) == pytest.approx(1)
    assert found["emoverse"]["warnings"] == ["No face was found in medium 1."]
    assert found["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("query", [er.query("I love it"), eri.query("I love it")])
def test_a_stream_says_what_a_whole_answer_says(live: Running, query: str) -> None:
    whole = live.client.post("/v1/chat/completions", json=chat_body(live, query)).json()
    text = whole["choices"][0]["message"]["content"]
    asked = chat_body(live, query, stream=True, stream_options={"include_usage": True})
    events = []
    with live.client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                assert line.startswith("data: ")
                events.append(line[6:])
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert chunks[-1]["usage"] == whole["usage"]
    deltas = [c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]]
    assert "".join(deltas).startswith(text)
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    if "<reason>" in query:
        assert len([delta for delta in deltas if delta]) > 3  # word by word


@pytest.mark.parametrize(
    "kind",
    ["image/jpeg;name=a.jpg", "IMAGE/JPEG", 'image/jpeg;codecs="a,b";x=1', "video/mp4;codecs=avc1"],
)
def test_data_urls_may_have_parameters_and_capitals(live: Running, clip: bytes, kind: str) -> None:
    url = data_url(clip, kind).replace("data:", "DATA:", kind.isupper())
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": er.query("I love it")},
    ]
    answer = live.client.post("/v1/chat/completions", json=chat_body(live, content))
    assert answer.status_code == 200, answer.text


def test_limits_of_an_answer_may_be_any_integer(live: Running) -> None:
    more = {"max_tokens": 2**62, "max_completion_tokens": 100_000, "seed": 2**62}
    answer = live.client.post(
        "/v1/chat/completions", json=chat_body(live, er.query("I love it"), **more)
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.png",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/png,plain",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,",
        "data:image/png;base64,AAAA",
    ],
)
def test_a_chat_reads_nothing_but_sound_data_urls(live: Running, url: str) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": er.query("x")},
    ]
    answer = live.client.post("/v1/chat/completions", json=chat_body(live, content))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] == "bad_media"


def test_what_a_chat_cannot_answer_is_told(live: Running) -> None:
    chat = "/v1/chat/completions"
    stray = live.client.post(chat, json=chat_body(live, "What is the capital of France?"))
    assert stray.status_code == 422 and "shows no task" in stray.json()["error"]["message"]
    wrong = live.client.post(chat, json=chat_body(live, er.query("x")) | {"model": "gpt"})
    assert wrong.status_code == 404 and wrong.json()["error"]["code"] == "model_not_found"
    two = chat_body(live, er.query("x"))
    two["messages"] = [*two["messages"], {"role": "assistant", "content": "Joy."}]  # type: ignore[misc]
    assert live.client.post(chat, json=two).status_code == 422
    shown = chat_body(live, er.query("x"))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    shown["messages"] = [{"role": "system", "content": [picture]}, *shown["messages"]]  # type: ignore[misc]
    refused = live.client.post(chat, json=shown)
    assert refused.status_code == 422
    assert "A system message holds words alone" in refused.json()["error"]["message"]


def test_an_expression_is_not_told_without_a_face(live: Running, clip: bytes) -> None:
    chat = "/v1/chat/completions"
    faceless = [
        {"type": "video_url", "video_url": {"url": data_url(clip)}},
        {"type": "text", "text": fer.query()},
    ]
    for content in (fer.query(), faceless):
        for stream in (False, True):
            answer = live.client.post(chat, json=chat_body(live, content, stream=stream))
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_face")


def test_openais_own_client_can_ask(live: Running) -> None:
    openai = pytest.importorskip("openai")
    token = live.client.headers["Authorization"].split()[1]
    client = openai.OpenAI(base_url=f"{live.url}/v1", api_key=token, max_retries=0)
    name = client.models.list().data[0].id
    found = client.models.retrieve(name)
    assert (found.id, found.owned_by) == (name, "emoverse") and found.created > 1.7e9
    asked = {"model": name, "messages": [{"role": "user", "content": er.query("I love it")}]}
    whole = client.chat.completions.create(**asked, temperature=0.7)
    stream = client.chat.completions.create(**asked, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content in er.choices()
