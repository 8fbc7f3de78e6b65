"""The page goes through the API's limits; asked without a browser, as an attacker would."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from emoverse.commands.serve import address
from emoverse.errors import EmoVerseError
from emoverse.faces import drawn
from emoverse.serving import page_clips
from emoverse.serving.page_tabs import ADD
from emoverse.serving.settings import Limits, Settings, checked

from ..faces.clips import write
from .browsing import Scripted
from .conftest import Told
from .running import TOKEN, Running, make_settings, running, wait_for

pytest.importorskip("gradio", reason="needs the `serve` extra")


@pytest.fixture(scope="module")
def engine() -> Scripted:
    return Scripted(pause=0)


@pytest.fixture(scope="module")
def small(
    landmarker: Path, engine: Scripted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    limits = Limits(upload=300_000, clip_seconds=2, pending=1)
    folder = tmp_path_factory.mktemp("small")
    with running(make_settings(folder, limits, page=True), lambda _: engine) as server:
        yield server


def ask(server: Running, *values: Any, button: str = "read") -> str:
    """What the page's status says at the end, when its button is pressed with these values."""
    page = server.client.get("/page/").text
    config = json.loads(re.search(r"window.gradio_config = (.*?);</script>", page)[1])  # type: ignore[index]
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    (index,) = (
        event["id"]
        for event in config["dependencies"]
        if [ids[button], "click"] in [list(target) for target in event["targets"]]
    )
    asked = {"data": values, "fn_index": index, "session_hash": f"s{threading.get_ident()}"}
    joined = server.client.post("/page/gradio_api/queue/join", json=asked)
    assert joined.status_code == 200, joined.text
    told = []
    address = f"/page/gradio_api/queue/data?session_hash={asked['session_hash']}"
    with server.client.stream("GET", address) as stream:
        for line in stream.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            # The first word comes along, for when there is another clip by then.
            told += [
                words
                for words in re.findall(
                    r'role=\\?\\?"(?:status|alert)\\?\\?">(.*?)</span>', json.dumps(event)
                )
                if words != ADD
            ]
            if event.get("msg") in ("process_completed", "close_stream"):
                break
    return told[-1].encode().decode("unicode_escape") if told else ""


def add(server: Running, content: bytes, name: str = "a.mp4") -> httpx2.Response:
    return server.client.post("/page/clips", files={"file": (name, content)})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/page/config"),
        ("GET", "/page/gradio_api/info"),
        ("GET", "/page/gradio_api/openapi.json"),
        ("GET", "/page/gradio_api/file=/etc/passwd"),
        ("GET", "/page/gradio_api/file/etc/passwd"),
        ("GET", "/page/gradio_api/proxy=http://127.0.0.1:1/"),
        ("GET", "/page/gradio_api/vibe-code/"),
        ("GET", "/page/gradio_api/runs"),
        ("GET", "/page/monitoring"),
        ("POST", "/page/gradio_api/upload"),
        ("POST", "/page/gradio_api/run/read"),
        ("POST", "/page/gradio_api/call/read"),
        ("POST", "/page/gradio_api/component_server"),
        ("POST", "/page/gradio_api/vibe-edit"),
        ("POST", "/page/login"),
        ("PUT", "/page/"),
        ("GET", "/page/static/../../gradio_api/info"),
    ],
)
def test_gradios_other_addresses_are_closed(small: Running, method: str, path: str) -> None:
    assert small.client.request(method, path).status_code == 404


def test_every_address_of_the_page_needs_the_token(small: Running) -> None:
    bare = httpx2.Client(base_url=small.url, timeout=120)
    for method, path in (
        ("GET", "/"),
        ("GET", "/page/"),
        ("GET", "/page/theme.css"),
        ("GET", "/page/examples/smile"),
        ("POST", "/page/clips"),
        ("POST", "/page/gradio_api/queue/join"),
    ):
        answer = bare.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_the_pages_address_is_a_url_for_every_kind_of_host() -> None:
    assert address("localhost", 8000) == "http://localhost:8000/"
    assert address("::1", 8000) == "http://[::1]:8000/"


def test_gradios_faults_are_lines_of_the_log_and_told_without_what_was_sent(
    small: Running, told: Told
) -> None:
    told.listen()
    page = small.client.get("/page/").text
    config = json.loads(re.search(r"window.gradio_config = (.*?);</script>", page)[1])  # type: ignore[index]
    known = [event["id"] for event in config["dependencies"] if not event["backend_fn"]]
    join, data = "/page/gradio_api/queue/join", "/page/gradio_api/queue/data"
    asked = {"data": ["secretwords"], "fn_index": known[0], "session_hash": "faulty"}
    assert small.client.post(join, json=asked).status_code == 200
    with small.client.stream("GET", data, params={"session_hash": "faulty"}) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line:
                break
    wrong = small.client.post(join, json={"data": "secretwords"})
    for answer in (small.client.post(join, json=asked | {"fn_index": 999}), wrong):
        assert answer.json()["error"]["code"] == "page_failed"
        assert "secret" not in answer.text

    wait_for(lambda: '"page_fault"' in told.text)
    assert all(line.startswith("{") for line in told.text.splitlines()), told.text
    assert "secret" not in told.text


def test_a_form_of_another_site_is_refused(small: Running) -> None:
    basic = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    bare = httpx2.Client(base_url=small.url, headers={"Authorization": basic}, timeout=120)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        for path in ("/page/clips", "/page/gradio_api/queue/join"):
            assert bare.post(path, headers=headers).status_code == 403, headers
    same = {"Origin": small.url, "Sec-Fetch-Site": "same-origin"}
    assert bare.post("/page/clips", headers=same).status_code == 422
    # Behind a proxy `Host` may be another: the browser's own word counts.
    proxied = {"Origin": "https://emo.example", "Sec-Fetch-Site": "same-origin"}
    assert bare.post("/page/clips", headers=proxied).status_code == 422


def test_the_page_is_not_part_of_the_api(small: Running) -> None:
    paths = small.client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith("/page") or path == "/"]
    assert small.client.get("/").headers["location"] == "page/"
    assert small.client.get("/favicon.ico").headers["content-type"].startswith("image/svg")


def test_uploads_are_held_to_the_limits(small: Running, tmp_path: Path) -> None:
    assert add(small, b"x" * 400_000).status_code == 413
    assert add(small, b"").json()["error"]["code"] == "bad_media"
    none = small.client.post("/page/clips", files={"other": ("a", b"x")})
    assert none.json()["error"]["code"] == "bad_request"
    event = {"data": ["x" * (1 << 20)], "fn_index": 0, "session_hash": "x"}
    assert small.client.post("/page/gradio_api/queue/join", json=event).status_code == 413
    long = write(tmp_path / "long.mp4", count=100)
    found = add(small, long.read_bytes(), "../../long.mp4").json()
    assert found["name"] == "long.mp4"
    assert "long.mp4 is 3 seconds long, and at most 2" in ask(small, {"id": found["id"]}, "Hi")
    broken = add(small, b"#EXTM3U\nhttp://127.0.0.1:1/a.ts", "list.m3u8").json()
    assert "list.m3u8" in ask(small, {"id": broken["id"]}, "Hi")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        7,
        [],
        {},
        {"id": None},
        {"id": 3},
        {"path": "/etc/passwd"},
        {"id": "../../../etc/passwd"},
        {"id": "0" * 32},
        {"example": "../a"},
        {"example": "/etc/passwd"},
        {"example": ["smile"]},
    ],
)
def test_only_what_was_uploaded_is_read(small: Running, value: Any) -> None:
    told = ask(small, value, "Hi")
    assert re.match("There is no|The server no longer has this clip", told), told
    assert "passwd" not in told


def test_a_clip_without_a_face_needs_words(small: Running, tmp_path: Path) -> None:
    grey = add(small, write(tmp_path / "grey.mp4", count=6).read_bytes(), "grey.mp4").json()["id"]
    told = ask(small, {"id": grey}, " ")
    assert told == "No face was found in grey.mp4, and there is no text; write what is said."
    assert ask(small, {"id": grey}, "Hello there.") == "Done."
    assert "over 4000 characters" in ask(small, {"id": grey}, "x" * 4001)


def test_a_full_server_sends_the_page_away_as_well(small: Running) -> None:
    pending = small.service.metrics.pending._value.get
    with small.service.places.taken():
        assert "requests are under way; try again" in ask(small, {"example": "smile"}, "Hi")
        assert add(small, b"x").status_code == 429
        assert small.client.post("/v1/dialogue", json={}).status_code == 429
    assert pending() == 0


def test_a_conversation_is_held_to_the_apis_limits(small: Running) -> None:
    def talk(turns: Any) -> str:
        return ask(small, {"turns": turns}, button="find")

    assert talk([{"text": "Hi", "emotion": "joy"}]) == "Done."
    assert talk([]) == "There is no utterance yet; write one into the table."
    assert talk([{"text": "Hi"}] * 51) == "The table has over 50 rows; remove some."
    long = "Row 1: the text may have at most 4000 characters; shorten it."
    assert talk([{"text": "x" * 4001}]) == long
    named = talk([{"text": "Hi"}, {"text": "Ho", "speaker": "x" * 101}, {"text": 7}, {}])
    # The page writes an apostrophe as an entity.
    assert named.replace("&#39;", "'") == (
        "Row 2: the speaker's name may have at most 100 characters; shorten it. "
        "Row 3: the text must be a text. Row 4 has no words; write them or remove it."
    )
    silent = [{"text": "Hi"}, {"speaker": "Ann", "text": " "}, {"text": "Ho"}]
    assert talk(silent) == "Row 2 has no words; write them or remove it."
    assert "20000 characters" in talk([{"text": "x" * 3000}] * 7)
    assert "takes no paths" in talk([{"text": "Hi", "clip": "/etc/passwd"}])
    assert "takes no paths" in talk([{"text": "", "clip": "a.mp4"}])
    assert "Row 1: the clip" in talk([{"text": "Hi", "clip": ""}])
    assert "Row 1 has an unknown field" in talk([{"text": "Hi", "evil": 1}])
    assert talk([3]) == "Row 1 is no utterance; remove it."
    assert "emotion" in talk([{"text": "Hi", "emotion": "<script>"}])
    for none in ({"turns": 3}, {"turns": [{"text": "Hi"}], "evil": 1}, None):
        told = ask(small, none, button="find")
        assert told == "This is no conversation; fill in the table."


def test_a_fault_is_not_quoted(
    small: Running,
    engine: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    told: Told,
) -> None:
    told.listen()

    def broken(*_: Any) -> Any:
        raise ValueError("the user's own words")

    monkeypatch.setattr(engine, "_say", broken)
    said = ask(small, {"turns": [{"text": "Hi"}]}, button="find")
    assert said == "The server failed; see its log."
    wait_for(lambda: "page_fault" in told.text)
    assert "own words" not in told.text


def test_a_slow_answer_is_given_up(landmarker: Path, tmp_path: Path) -> None:
    engine = Scripted()
    engine.free.clear()
    settings = make_settings(tmp_path, Limits(request_seconds=3), page=True)
    with running(settings, lambda _: engine) as server:
        try:
            assert "No answer in 3 seconds" in ask(server, {"example": "smile"}, "Hi")
            assert server.service.metrics.pending._value.get() == 0
        finally:
            engine.free.set()


def test_clips_are_deleted_when_nobody_asks_for_them(
    small: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small.service.clips.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(page_clips, "KEPT_SECONDS", 0.5)
    assert add(small, b"one").status_code == 200
    wait_for(lambda: not list(folder.iterdir()))
    # And the oldest when there are too many.
    monkeypatch.setattr(page_clips, "KEPT_SECONDS", 60.0)
    monkeypatch.setattr(page_clips, "_MOST_CLIPS", 3)
    keys = [add(small, b"x").json()["id"] for _ in range(5)]
    assert len(list(folder.iterdir())) == 3
    assert "no longer has this clip" in ask(small, {"id": keys[0]}, "Hi")
    big = [add(small, b"x" * 290_000).json()["id"] for _ in range(3)]
    monkeypatch.setattr(small.service.clips, "_most", 600_000)
    add(small, b"x")
    assert "no longer has this clip" in ask(small, {"id": big[0]}, "Hi")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 600_000


def test_clips_do_not_outlive_the_server(landmarker: Path, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, page=True), lambda _: Scripted()) as server:
        assert add(server, b"one").status_code == 200
        folder = server.service.clips.folder
        assert list(folder.iterdir())
    assert not list(folder.iterdir())


def test_examples_are_ours(small: Running) -> None:
    played = small.client.get("/page/examples/smile", headers={"Range": "bytes=0-99"})
    assert (played.status_code, len(played.content)) == (206, 100)
    assert played.headers["content-type"] == "video/mp4"
    assert small.client.get("/page/examples/..%2f..%2fetc%2fpasswd").status_code == 404
    assert small.client.get("/page/examples/grimace").status_code == 404
    assert {one.name for one in page_clips.examples()} >= set(drawn.LOOKS)


def test_without_a_page_there_is_none(live: Running) -> None:
    for path in ("/", "/page/", "/page/clips", "/page/examples/smile"):
        assert live.client.get(path).status_code == 404


def test_the_api_alone_needs_no_gradio() -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; "
        "from emoverse.serving.app import create_app; create_app(load=lambda _: None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_models_to_compare_are_named_clearly() -> None:
    page = Settings(page=True, token="a" * 8)
    assert checked(replace(page, others=("runs/b", "runs/c"))).others == ("runs/b", "runs/c")
    with pytest.raises(EmoVerseError, match="Two models are called 'b'"):
        checked(replace(page, others=("runs/b", "more/b")))
    with pytest.raises(EmoVerseError, match="'compact'"):
        checked(replace(page, others=("compact",)))
    with pytest.raises(EmoVerseError, match="--no-page"):
        checked(replace(page, page=False, others=("runs/b",)))
