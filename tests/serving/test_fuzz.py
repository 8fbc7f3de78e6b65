"""Hostile input: generated requests by the OpenAPI page, and media files with damage."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoverse.serving.settings import Limits

from ..faces.clips import write
from .running import TOKEN, Running, make_settings, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def target(
    landmarker: Path, root_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    limits = Limits(
        request_seconds=600, decode_seconds=20, clip_seconds=20, pixels=640 * 480, body_seconds=5
    )
    folder = tmp_path_factory.mktemp("target")
    with running(make_settings(folder, limits, roots=(root_folder,), decoders=2)) as server:
        yield server


def test_generated_requests_never_break_the_server(target: Running) -> None:
    pytest.importorskip("schemathesis")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{target.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "15"),
            *("--checks", "not_a_server_error,response_schema_conformance,status_code_conformance"),
            *("--checks", "content_type_conformance", "--request-timeout", "600", "--seed", "1"),
        ],
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert target.client.get("/healthz").status_code == 200


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pieces cut out, doubled or overwritten, sizes in headers blown up."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(found))
        length = rng.randint(1, 1 + len(found) // 4)
        kind = rng.randrange(5)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = found[at : at + length]
        elif kind == 3:
            found[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        else:
            found[at : at + length] = rng.randbytes(length)
        if not found:
            return b"\0"
    return bytes(found)


def test_damaged_media_never_break_the_server(target: Running, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    files = [
        write(tmp_path / "a.mp4", count=10, audio=True),
        write(tmp_path / "b.mkv", count=10),
        write(tmp_path / "c.avi", count=10, codec="mpeg4"),
        write(tmp_path / "d.webm", count=5, codec="libvpx"),
    ]
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for name in ("e.png", "f.jpg", "g.webp", "h.gif", "i.tiff"):
        Image.fromarray(noise).save(tmp_path / name)
        files.append(tmp_path / name)
    rng = random.Random(0)
    seen: dict[int, int] = {}
    for number in range(180):
        file = files[number % len(files)]
        answer = target.client.post(
            "/v1/analyze",
            files={"file": (file.name, _damaged(file.read_bytes(), rng))},
            data={"text": "Hi", "tasks": "msa"},
        )
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 422), (number, answer.text)
        assert str(target.service.settings.folder) not in answer.text
        if answer.status_code == 422:
            assert answer.json()["error"]["code"] == "bad_media"
    assert set(seen) == {200, 422}, seen
    assert target.client.get("/healthz").json()["status"] == "ok"
    assert list(target.service.scratch.iterdir()) == []
