"""What a server refuses, and what it survives."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.inference.engine import Engine
from emoverse.serving.settings import Limits, Settings, checked
from emoverse.tasks import er

from ..faces.clips import state_duration, write
from ..models.tiny import tiny_model
from .conftest import Told
from .running import TOKEN, Running, make_settings, running, wait_for

TURNS = {"turns": [{"text": "Look at this."}]}


class Gate(Engine):
    """An engine that answers when it is let, and counts what it was asked."""

    def __init__(self) -> None:
        super().__init__(tiny_model())
        self.free = threading.Event()
        self.batches: list[int] = []

    def ask(self, questions, told=None):  # type: ignore[no-untyped-def]
        self.batches.append(len(questions))
        assert self.free.wait(300)
        return super().ask(questions, told)


@pytest.fixture(scope="module")
def small(landmarker: Path, root_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Running:
    limits = Limits(upload=300_000, clip_seconds=2, pixels=100 * 100, header_seconds=1)
    folder = tmp_path_factory.mktemp("small")
    with running(make_settings(folder, limits, roots=(root_folder,))) as server:
        yield server


def test_too_many_bytes_are_refused(small: Running) -> None:
    told = small.client.post("/v1/analyze", files={"file": ("a.mp4", b"x" * 400_000)})
    assert (told.status_code, told.json()["error"]["code"]) == (413, "too_large")

    def drops():  # type: ignore[no-untyped-def]
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(10):
            yield b"x" * 50_000

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    untold = small.client.post("/v1/analyze", content=drops(), headers=kind)
    assert (untold.status_code, untold.json()["error"]["code"]) == (413, "too_large")


def test_large_json_is_refused_before_it_is_parsed(live: Running) -> None:
    kind = {"Content-Type": "application/json"}
    many = b'{"path": [' + b"{}," * 400_000 + b"{}]}"
    large = b'{"path": "' + b"x" * (5 << 20) + b'"}'
    turns = b'{"turns": [' + b"1," * 400_000 + b"1]}"
    chat = b'{"messages": [' + b"[]," * 400_000 + b"1]}"
    for address, body in (
        ("/v1/analyze", many),
        ("/v1/jobs", many),
        ("/v1/analyze", large),
        ("/v1/jobs", large),
        ("/v1/dialogue", turns),
        ("/v1/chat/completions", chat),
    ):
        answer = live.client.post(address, content=body, headers=kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), address
    twice = [("Content-Type", "application/json"), ("Content-Type", "multipart/form-data")]
    assert live.client.post("/v1/analyze", content=large, headers=twice).status_code == 413
    commas = {"turns": [{"text": "," * 400}]}
    assert live.client.post("/v1/dialogue", json=commas).status_code == 200


def test_too_many_pixels_or_seconds_are_refused(small: Running, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.fromarray(np.zeros((10, 2000, 3), np.uint8)).save(wide)
    long = write(tmp_path / "long.mp4", count=100)
    big = write(tmp_path / "big.mp4", count=2, size=(320, 240))
    lying = state_duration(write(tmp_path / "lying.mp4", count=100), 1.0)
    grows = tmp_path / "grows.h264"
    first, then = (write(tmp_path / f"{n}.h264", count=9, size=(n, 48)) for n in (64, 320))
    grows.write_bytes(first.read_bytes() + then.read_bytes())
    refused = (
        *((wide, "pixels"), (big, "pixels"), (grows, "pixels")),
        *((long, "seconds long"), (lying, "seconds long")),
    )
    for file, word in refused:
        with file.open("rb") as content:
            answer = small.client.post(
                "/v1/analyze", files={"file": (file.name, content)}, data={"text": "Hi"}
            )
        assert answer.status_code == 422
        assert word in answer.json()["error"]["message"]


def _png_of_zeros(side: int) -> bytes:
    """A black picture, written without holding its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packed = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    rows = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    )


def test_a_picture_bomb_is_refused(small: Running, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(_png_of_zeros(30_000))
    assert bomb.stat().st_size < 300_000
    with bomb.open("rb") as content:
        answer = small.client.post("/v1/analyze", files={"file": ("b.png", content)})
    assert answer.status_code == 422
    assert small.client.post("/v1/dialogue", json=TURNS).status_code == 200


def _connect(server: Running) -> socket.socket:
    port = int(server.url.rsplit(":", 1)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_a_body_that_drips_is_cut_off(landmarker: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, Limits(body_seconds=1.5))
    with running(settings) as server, _connect(server) as line:
        head = f"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        start = time.monotonic()
        line.sendall(head.encode())
        answer = line.recv(4096)
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert 1 < time.monotonic() - start < 60


def test_a_client_that_breaks_off_an_upload_is_no_fault(live: Running, told: Told) -> None:
    told.listen()
    for count, kind in enumerate(("application/json", "multipart/form-data; boundary=x"), 1):
        with _connect(live) as line:
            head = f"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n--x\r\n"
            line.sendall(head.encode())
            time.sleep(0.2)
        wait_for(lambda count=count: told.text.count('"status": 499') >= count)
    assert "fault" not in told.text


def test_headers_that_drip_are_cut_off(small: Running) -> None:
    with _connect(small) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A")
        start = time.monotonic()
        assert line.recv(4096) == b""
        assert time.monotonic() - start < 60
    with _connect(small) as quiet:
        assert quiet.recv(4096) == b""


@pytest.fixture
def gated(landmarker: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    engine = Gate()
    limits = Limits(pending=4, request_seconds=300)
    settings = make_settings(tmp_path, limits, window=0.05)
    with running(settings, lambda _: engine) as server:
        yield server, engine
        engine.free.set()


def test_a_full_server_says_when_to_come_back(gated: tuple[Running, Gate]) -> None:
    server, engine = gated
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.client.post, "/v1/dialogue", json=TURNS) for _ in range(4)]
        wait_for(lambda: server.client.get("/metrics").text.count("emoverse_pending_requests 4.0"))
        refused = server.client.post("/v1/dialogue", json=TURNS)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert server.client.get("/healthz").status_code == 200
        engine.free.set()
        assert [answer.result().status_code for answer in asked] == [200] * 4
    assert server.client.post("/v1/dialogue", json=TURNS).status_code == 200


def test_requests_that_wait_are_answered_together(gated: tuple[Running, Gate]) -> None:
    server, engine = gated
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.client.post, "/v1/dialogue", json=TURNS)
        wait_for(lambda: engine.batches)
        rest = [pool.submit(server.client.post, "/v1/dialogue", json=TURNS) for _ in range(3)]
        wait_for(lambda: len(server.service.backend._queue._new) == 3)
        engine.free.set()
        answers = [first.result(), *(answer.result() for answer in rest)]
    assert engine.batches[0] == 1 and 3 in engine.batches
    assert len({answer.json()["turns"][0]["emotion"] for answer in answers}) == 1


def test_a_client_that_leaves_frees_its_place(gated: tuple[Running, Gate]) -> None:
    server, engine = gated
    with pytest.raises(httpx2.TimeoutException):
        server.client.post("/v1/dialogue", json=TURNS, timeout=1)
    wait_for(lambda: "emoverse_pending_requests 0.0" in server.client.get("/metrics").text)
    engine.free.set()


def test_an_answer_that_takes_too_long_is_given_up(landmarker: Path, tmp_path: Path) -> None:
    engine = Gate()
    limits = Limits(request_seconds=0.5)
    with running(make_settings(tmp_path, limits), lambda _: engine) as server:
        answer = server.client.post("/v1/dialogue", json=TURNS)
        engine.free.set()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_question_that_fails_takes_no_other_along(
    landmarker: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Faulty(Gate):
        def ask(self, questions, told=None):  # type: ignore[no-untyped-def]
            found = super().ask(questions, told)
            if any("poison" in question.record.query for question in questions):
                raise ZeroDivisionError("poison and other secrets")
            return found

    engine = Faulty()
    with running(make_settings(tmp_path, window=0.3), lambda _: engine) as server:
        engine.free.set()
        bad = {"turns": [{"text": "poison"}]}
        with ThreadPoolExecutor(4) as pool:
            asked = [TURNS, bad, TURNS]
            answers = list(pool.map(lambda a: server.client.post("/v1/dialogue", json=a), asked))
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert "poison" not in answers[1].text
    written = capfd.readouterr().err
    assert "ZeroDivisionError" in written and "poison" not in written
    assert "Zero" not in answers[1].text and "Traceback" not in answers[1].text


def test_a_talk_with_two_failing_questions_leaves_the_model_at_work(
    landmarker: Path, tmp_path: Path
) -> None:
    class Faulty(Gate):
        def ask(self, questions, told=None):  # type: ignore[no-untyped-def]
            if questions[0].record.task == "ecpe":
                raise ZeroDivisionError
            return super().ask(questions, told)

    engine = Faulty()
    engine.free.set()
    said = [{"text": "Great", "emotion": "joy"}, {"text": "Oh no", "emotion": "anger"}]
    with running(make_settings(tmp_path), lambda _: engine) as server:
        assert server.client.post("/v1/dialogue", json={"turns": said}).status_code == 500
        assert server.client.post("/v1/dialogue", json=TURNS, timeout=30).status_code == 200
        assert server.client.get("/healthz").json()["status"] == "ok"


def test_health_tells_that_the_model_no_longer_answers(landmarker: Path, tmp_path: Path) -> None:
    with running(make_settings(tmp_path)) as server:
        server.service.backend._queue.stop()
        answer = server.client.get("/healthz")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_stopped")


def test_a_question_of_too_many_tokens_is_refused(
    landmarker: Path, root_folder: Path, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, Limits(tokens=300), roots=(root_folder,))
    long = "so happy " * 200
    with running(settings) as server:
        chat = {"model": server.service.backend.name, "stream": True}
        for address, asked in (
            ("/v1/analyze", {"path": "sub/grey.mp4", "text": long}),
            ("/v1/dialogue", {"turns": [{"text": long}]}),
            ("/v1/dialogue", {"turns": [{"text": "so happy " * 30, "emotion": "joy"}] * 8}),
            (
                "/v1/chat/completions",
                chat | {"messages": [{"role": "user", "content": er.query(long)}]},
            ),
        ):
            answer = server.client.post(address, json=asked)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")
            assert "300 tokens" in answer.json()["error"]["message"]
        assert server.client.post("/v1/dialogue", json=TURNS).status_code == 200


def test_what_libraries_warn_of_are_lines_of_the_log(live: Running, told: Told) -> None:
    told.listen()
    upgrade = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    for sent in ("secret\r\n\r\n", f"{upgrade}\r\n"):
        with _connect(live) as line:
            line.sendall(sent.encode())
            assert line.recv(4096)
    live.client.post(
        "/v1/analyze",
        content=b"--x\r\nsecret",
        headers={"Content-Type": "multipart/form-data; boundary=y"},
    )

    def libraries() -> set[str]:
        lines = [json.loads(line) for line in told.text.splitlines()]
        return {line.get("library", "").partition(".")[0] for line in lines}

    wait_for(lambda: libraries() >= {"uvicorn", "python_multipart"})
    assert "secret" not in told.text


def test_faults_of_threads_and_of_the_loop_are_lines_of_the_log(
    landmarker: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret")

    with running(make_settings(tmp_path)) as server:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        server.service.loop.call_soon_threadsafe(fail)
        assert server.client.get("/v1/jobs").status_code == 200
    lines = capfd.readouterr().err.splitlines()
    events = [json.loads(line) for line in lines]
    faults = {event["event"] for event in events if event.get("error") == "ZeroDivisionError"}
    assert faults == {"thread_fault", "loop_fault"}
    assert not any("secret" in line for line in lines)


def _decoders() -> list[psutil.Process]:
    own = psutil.Process().children(recursive=True)
    return [child for child in own if "emoverse.serving.decode" in " ".join(child.cmdline())]


def test_a_decoder_that_dies_is_replaced(
    landmarker: Path, root_folder: Path, tmp_path: Path, clip: bytes
) -> None:
    before = {child.pid for child in _decoders()}
    with running(make_settings(tmp_path)) as server:
        (decoder,) = [child for child in _decoders() if child.pid not in before]
        (worker,) = server.service.sandbox._all
        assert TOKEN not in str(decoder.environ())
        decoder.kill()
        decoder.wait()
        wait_for(lambda: worker.process.returncode is not None)
        for _ in range(2):
            answer = server.client.post(
                "/v1/analyze", files={"file": ("a.mp4", clip)}, data={"text": "Hi"}
            )
            assert answer.status_code == 200, answer.text
    assert {child.pid for child in _decoders()} == before


def test_decoding_has_limits_of_time_and_memory(
    landmarker: Path, tmp_path: Path, clip: bytes
) -> None:
    for number, limits in enumerate((Limits(decode_seconds=0), Limits(pixels=10**9))):
        with running(make_settings(tmp_path / str(number), limits)) as server:
            if number:
                # As large as a decoder is now: what comes next must fail.
                (worker,) = server.service.sandbox._all
                size = psutil.Process(worker.process.pid).memory_info().vms
                psutil.Process(worker.process.pid).rlimit(psutil.RLIMIT_AS, (size, size))
            answer = server.client.post(
                "/v1/analyze", files={"file": ("a.mp4", clip)}, data={"text": "Hi"}
            )
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"]["code"] == "bad_media"
            assert server.client.post("/v1/dialogue", json=TURNS).status_code == 200


def test_without_a_token_only_this_machine_may_ask(landmarker: Path, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, token=None)) as server:
        assert server.client.get("/v1/jobs").status_code == 200
        assert server.client.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 403
        elsewhere = {"Origin": "https://evil.example"}
        assert server.client.post("/v1/dialogue", json=TURNS, headers=elsewhere).status_code == 403
        own = {"Origin": server.url}
        assert server.client.post("/v1/dialogue", json=TURNS, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "0.0.0.0", "token": None}, "a token is needed"),
        ({"token": "short"}, "8 or more"),
        ({"backend": "vllm"}, "use local or openai"),
        ({"backend": "openai"}, "needs --endpoint and --backend-model"),
        ({"endpoint": "http://localhost/v1"}, "is for --backend openai"),
        ({"roots": (Path("/none/such"),)}, "no such folder"),
    ],
)
def test_unsound_settings_are_told(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EmoVerseError, match=message) as caught:
        checked(make_settings(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    shown = repr(Settings(token="pass-word", endpoint_key="pass-key", folder=tmp_path))
    assert "pass-" not in shown
