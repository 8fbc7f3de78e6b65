"""Jobs: progress, cancelling, and what happens when the server stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from emoverse.errors import EmoVerseError
from emoverse.serving.app import create_app
from emoverse.serving.jobs import Store
from emoverse.serving.server import bind, make_server
from emoverse.serving.settings import Limits

from ..faces.clips import write
from .running import TOKEN, Running, make_settings, running, tiny_engine, wait_for
from .test_limits import Gate

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    {"start": 0.5, "end": 1.5, "text": "I love it"},
    {"start": 2.5, "end": 3.5, "text": "I hate it"},
    {"start": 4.5, "end": 5.0, "text": "So do I"},
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds, turned on their side."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(path, count=150, fps=25, gop=60, rotation=(90, False, False))


def _add(server: Running, film: Path, **fields: object) -> httpx2.Response:
    data = {"tasks": "msa", "part": "2", "transcript": json.dumps(LINES)} | fields
    with film.open("rb") as file:
        return server.client.post("/v1/jobs", files={"file": ("film.mp4", file)}, data=data)


def _ended(server: Running, job: str) -> dict[str, object]:
    def over() -> bool:
        return server.client.get(f"/v1/jobs/{job}").json()["state"] in (
            "done",
            "failed",
            "cancelled",
        )

    wait_for(over, 120)
    return server.client.get(f"/v1/jobs/{job}").json()


def test_a_video_is_read_part_by_part(live: Running, film: Path) -> None:
    added = _add(live, film)
    assert added.status_code == 202, added.text
    job = _ended(live, added.json()["id"])
    assert job["state"] == "done", job
    spans = [(round(part["start"], 2), round(part["end"], 2)) for part in job["parts"]]
    assert spans == [(0, 2), (2, 4), (4, 6)]
    found = [part["analysis"] for part in job["parts"]]
    assert [analysis["text"] for analysis in found] == [line["text"] for line in LINES]
    assert {(a["width"], a["height"], a["fps"]) for a in found} == {(48, 64, 25.0)}
    assert job["done"] == job["duration"] == pytest.approx(6, abs=0.1)
    assert list(live.service.store.uploads.iterdir()) == []


def test_a_video_that_holds_its_pictures_is_read_to_its_end(live: Running, tmp_path: Path) -> None:
    slides = write(tmp_path / "slides.mp4", times=[0, 9_000, 20_000])
    job = _ended(live, _add(live, slides, tasks="fer", transcript="[]").json()["id"])
    assert job["state"] == "done" and len(job["parts"]) == 10
    assert all("no face was found" in part["error"] for part in job["parts"])


def test_events_tell_a_jobs_course_and_may_be_taken_up_again(live: Running, film: Path) -> None:
    job = _add(live, film).json()["id"]

    def events(headers: dict[str, str]) -> list[tuple[str, dict[str, object]]]:
        with live.client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
            assert answer.status_code == 200
            blocks = "".join(answer.iter_text()).split("\n\n")
        rows = [dict(line.split(": ", 1) for line in b.splitlines()) for b in blocks if b.strip()]
        return [(row["event"], json.loads(row["data"])) for row in rows if "event" in row]

    seen = events({})
    parts = [value for kind, value in seen if kind == "part"]
    assert [round(part["start"]) for part in parts] == [0, 2, 4]
    assert seen[-1][0] == "end" and seen[-1][1]["state"] == "done"
    progress = [value["done"] for kind, value in seen if kind == "progress"]
    assert progress == sorted(progress)
    again = events({"Last-Event-ID": "1"})
    assert [round(v["start"]) for kind, v in again if kind == "part"] == [4]


def test_a_job_over_a_path_and_one_that_cannot_be_read(live: Running, root_folder: Path) -> None:
    asked = {"path": "sub/grey.mp4", "tasks": ["msa"]}
    job = _ended(live, live.client.post("/v1/jobs", json=asked).json()["id"])
    # A part without words and without a face says so, and the job goes on.
    assert job["state"] == "done" and "no face was found" in job["parts"][0]["error"]
    (root_folder / "broken.mp4").write_bytes(b"no video")
    broken = live.client.post("/v1/jobs", json={"path": "broken.mp4"})
    job = _ended(live, broken.json()["id"])
    assert job["state"] == "failed" and "broken.mp4 is not a video" in job["error"]


def test_parts_are_given_page_by_page(live: Running, film: Path) -> None:
    job = _ended(live, _add(live, film).json()["id"])
    address = f"/v1/jobs/{job['id']}"
    assert (len(job["parts"]), job["next"]) == (3, None)
    first = live.client.get(address, params={"limit": 2}).json()
    rest = live.client.get(address, params={"from": first["next"], "limit": 2}).json()
    assert (first["next"], rest["next"]) == (2, None)
    assert first["parts"] + rest["parts"] == job["parts"]
    bare = live.client.get(address, params={"limit": 0}).json()
    assert (bare["parts"], bare["state"]) == ([], "done")
    for wrong in ({"from": -1}, {"limit": 1001}):
        assert live.client.get(address, params=wrong).status_code == 422


def test_curves_may_be_left_out(live: Running) -> None:
    curve = {"person": 0, "timestamps": [0.0], "scores": [1.0], "intensities": {}}
    analysis = dict.fromkeys(("duration", "width", "height", "fps", "people"), 1) | {
        **dict.fromkeys(("clip", "text", "peak")),
        **{"model": "m", "answers": {}, "turns": [], "pairs": [], "warnings": [], "seconds": {}},
        "curves": [curve],
    }
    store = live.service.store
    row = store.add("a.mp4", Path("a.mp4"), False, {"by": "part"})
    store.end(row.id, "cancelled")
    store.add_part(row.id, 0, {"start": 0, "end": 1, "analysis": analysis}, 1, 1)
    for curves in (True, False):
        params = {"curves": curves}
        (part,) = live.client.get(f"/v1/jobs/{row.id}", params=params).json()["parts"]
        assert part["analysis"]["curves"] == ([curve] if curves else [])


def test_jobs_are_listed_page_by_page(live: Running, film: Path) -> None:
    ids = [_add(live, film).json()["id"] for _ in range(3)]
    pages = [
        live.client.get("/v1/jobs", params={"from": start, "limit": 2}).json()["jobs"]
        for start in (0, 2)
    ]
    assert [job["id"] for page in pages for job in page][:3] == ids[::-1]
    for job in ids:
        _ended(live, job)


def test_there_is_room_for_so_many_jobs_and_bytes(
    landmarker: Path, film: Path, tmp_path: Path
) -> None:
    engine = Gate()
    limits = Limits(jobs=2, job_bytes=10 * film.stat().st_size)
    with running(make_settings(tmp_path, limits), lambda _: engine) as server:
        with ThreadPoolExecutor(6) as pool:  # all of them are let in before any is there
            added = list(pool.map(lambda _: _add(server, film).status_code, range(6)))
        assert sorted(added) == [202, 202, 429, 429, 429, 429]
        assert len(list(server.service.store.uploads.iterdir())) == 2
        engine.free.set()
        for job in server.client.get("/v1/jobs").json()["jobs"]:
            _ended(server, job["id"])
        (server.service.store.uploads / "large").write_bytes(b"x" * 11 * film.stat().st_size)
        refused = _add(server, film)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_jobs")


def test_ended_jobs_are_forgotten_after_a_while(
    landmarker: Path, film: Path, tmp_path: Path
) -> None:
    with running(make_settings(tmp_path)) as server:
        old = _ended(server, _add(server, film).json()["id"])["id"]
    with running(make_settings(tmp_path, keep_days=1.0)) as server:
        assert server.client.get(f"/v1/jobs/{old}").status_code == 200
    with running(make_settings(tmp_path, keep_days=0.0)) as server:
        wait_for(lambda: server.client.get(f"/v1/jobs/{old}").status_code == 404)
        assert server.service.store.parts(old) == []


def test_unknown_jobs_and_malformed_ones_are_told(live: Running, film: Path) -> None:
    for method, path in (
        ("GET", "/v1/jobs/none"),
        ("GET", "/v1/jobs/none/events"),
        ("POST", "/v1/jobs/none/cancel"),
        ("DELETE", "/v1/jobs/none"),
    ):
        assert live.client.request(method, path).status_code == 404
    for fields in ({"part": "0"}, {"part": "x"}, {"transcript": "{"}, {"transcript": "[{}]"}):
        assert _add(live, film, **fields).status_code == 422
    assert list(live.service.store.uploads.iterdir()) == []


def test_a_job_is_cancelled_and_forgotten(landmarker: Path, film: Path, tmp_path: Path) -> None:
    engine = Gate()
    with running(make_settings(tmp_path), lambda _: engine) as server:
        job = _add(server, film).json()["id"]
        wait_for(lambda: engine.batches)
        assert server.client.delete(f"/v1/jobs/{job}").status_code == 409
        found = server.client.post(f"/v1/jobs/{job}/cancel").json()
        assert found["state"] == "cancelled"
        engine.free.set()
        # The next one is not held up by it.
        other = _add(server, film).json()["id"]
        assert _ended(server, other)["state"] == "done"
        assert server.client.get(f"/v1/jobs/{job}").json()["parts"] == []
        assert server.client.delete(f"/v1/jobs/{job}").status_code == 204
        assert server.client.get(f"/v1/jobs/{job}").status_code == 404
        assert [j["id"] for j in server.client.get("/v1/jobs").json()["jobs"]] == [other]
        figures = server.client.get("/metrics").text
        assert 'emoverse_jobs{state="cancelled"} 0.0' in figures
        assert 'emoverse_jobs{state="done"} 1.0' in figures


def test_a_stopped_server_takes_its_jobs_up_again(
    landmarker: Path, film: Path, tmp_path: Path
) -> None:
    engine = Gate()
    with running(make_settings(tmp_path), lambda _: engine) as server:
        job = _add(server, film).json()["id"]
        wait_for(lambda: engine.batches)
        server.service.stop_soon()
        engine.free.set()
    store = Store(tmp_path)
    row = store.get(job)
    assert row is not None and row.state == "queued"
    assert len(store.parts(job)) == 1  # the part at hand was finished
    before = store.parts(job)[0]
    store.close()
    with running(make_settings(tmp_path)) as server:
        found = _ended(server, job)
        assert found["state"] == "done"
        assert [round(part["start"]) for part in found["parts"]] == [0, 2, 4]
        assert server.service.store.parts(job)[0] == before


_SERVER = """
import sys, time
from pathlib import Path
from tests.serving.running import make_settings, tiny_engine
from emoverse.inference.engine import Engine
from emoverse.serving.app import create_app
from emoverse.serving.server import make_server

class Slow(Engine):
    def ask(self, questions, told=None):
        time.sleep(float(sys.argv[2]))
        return super().ask(questions, told)

settings = make_settings(Path(sys.argv[1]))
app = create_app(settings, load=lambda _: Slow(tiny_engine().model))
make_server(app, settings).run()
"""


def _spawn(folder: Path, delay: float) -> tuple[subprocess.Popen[str], httpx2.Client]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder), str(delay)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            # A full pipe would stop the server.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            port = json.loads(line)["port"]
            headers = {"Authorization": f"Bearer {TOKEN}"}
            url = f"http://127.0.0.1:{port}"
            return process, httpx2.Client(base_url=url, headers=headers, timeout=60)
    raise AssertionError("the server did not start")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_servers_jobs_survive(
    landmarker: Path, film: Path, tmp_path: Path, how: signal.Signals
) -> None:
    process, client = _spawn(tmp_path, delay=2)
    with film.open("rb") as file:
        data = {"tasks": "msa", "part": "2", "transcript": json.dumps(LINES)}
        job = client.post("/v1/jobs", files={"file": ("film.mp4", file)}, data=data).json()["id"]
    wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["parts"])
    process.send_signal(how)
    assert process.wait(60) in (0, -how)
    base = sqlite3.connect(tmp_path / "jobs.sqlite")
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    base.close()
    process, client = _spawn(tmp_path, delay=0)
    try:
        wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done", 90)
        parts = client.get(f"/v1/jobs/{job}").json()["parts"]
        assert [round(part["start"]) for part in parts] == [0, 2, 4]
        assert [part["analysis"]["text"] for part in parts] == [line["text"] for line in LINES]
    finally:
        process.terminate()
        process.wait(60)
    time.sleep(0.2)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_host_may_have_addresses_that_this_machine_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))
    here = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere, here])
    (one,) = bind("localhost", 0)
    with one:
        assert one.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere])
    with pytest.raises(EmoVerseError, match="cannot listen at port 0 of elsewhere"):
        bind("elsewhere", 0)


def test_two_servers_do_not_share_a_folder(landmarker: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with running(settings) as server:
        under_way = server.service.scratch / "under-way"
        under_way.write_bytes(b"1")
        with pytest.raises(EmoVerseError, match="another server keeps its jobs there"):
            make_server(create_app(settings, load=tiny_engine), settings).run()
        assert under_way.exists()
        under_way.unlink()
    with running(settings):
        pass


@pytest.mark.parametrize("taken", ["port", "folder"])
def test_a_taken_port_or_folder_is_told_before_a_model_is_loaded(
    landmarker: Path, tmp_path: Path, taken: str
) -> None:
    with running(make_settings(tmp_path)) as server:
        port = server.server.port if taken == "port" else 0
        folder = tmp_path if taken == "folder" else tmp_path / "other"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "emoverse", "serve", "--port", str(port), "--no-page"),
                *("--folder", str(folder), "--model", str(tmp_path / "no-model")),
            ],
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 1
    assert "Loading" not in done.stderr and "Traceback" not in done.stderr
    told = f"Port {port} of 127.0.0.1 is in use" if taken == "port" else "keeps its jobs there"
    assert told in done.stderr


def test_uploads_of_requests_that_died_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, lost = store.uploads / "kept", store.uploads / "lost"
    kept.write_bytes(b"1")
    lost.write_bytes(b"2")
    store.add("a.mp4", kept, True, {})
    store.close()
    Store(tmp_path).close()
    assert kept.exists() and not lost.exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o700
