"""Load test of the server: many clients for some minutes, nothing lost, memory flat.

    python benchmarks/serve.py --minutes 5 --clients 32

starts `emoverse serve` on this machine, sends clips, conversations and chats from all clients at
once, and prints one Markdown table. `--url` tests a server that runs already; `--tiny` a server
with the tests' small random model, which shows the server's own cost. A request that is told 429
waits as it is told and is sent again; that is no loss.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

from emoverse.models import weights
from emoverse.tasks import er

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "benchmark-token"
TURNS = [
    {"speaker": "Ana", "text": "I got the job!"},
    {"speaker": "Ben", "text": "Really? That was quick.", "emotion": "surprise"},
    {"speaker": "Ana", "text": "I know, I still cannot believe it."},
]
_TINY = """
import sys
from pathlib import Path
from tests.serving.running import tiny_engine
from emoverse.serving.app import create_app
from emoverse.serving.server import make_server
from emoverse.serving.settings import Settings
settings = Settings(port=0, token=sys.argv[1], folder=Path(sys.argv[2]))
make_server(create_app(settings, load=tiny_engine), settings).run()
"""


@dataclass(slots=True)
class Tally:
    """What happened, by kind of request."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lost: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        process, url = (None, options.url) if options.url else _start(options, folder)
        try:
            clip = _clip(Path(folder), options.clip_seconds)
            tally, memory = _load(options, url, clip, process)
        finally:
            if process:
                process.terminate()
                process.wait(90)
    _print(options, tally, memory)
    if any(tally.lost.values()):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--clip-seconds", type=float, default=2.0)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def _start(options: argparse.Namespace, folder: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "emoverse", "serve", "--port", "0", "--folder", folder]
    if options.tiny:
        command = [sys.executable, "-c", _TINY, options.token, folder]
    environment = os.environ | {"EMOVERSE_TOKEN": options.token, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, f"http://127.0.0.1:{json.loads(line)['port']}"
    raise SystemExit("The server did not start.")


def _clip(folder: Path, seconds: float) -> bytes:
    """The first seconds of the demo clip."""
    import av

    path = folder / "clip.mp4"
    with av.open(str(weights.demo_clip())) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = given.width, given.height, "yuv420p"
        for frame in source.decode(given):
            if frame.time is not None and frame.time > seconds:
                break
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path.read_bytes()


def _load(
    options: argparse.Namespace, url: str, clip: bytes, process: subprocess.Popen[str] | None
) -> tuple[Tally, list[float]]:
    tally = Tally()
    end = time.monotonic() + 60 * options.minutes
    headers = {"Authorization": f"Bearer {options.token}"}
    threads = [
        threading.Thread(target=_client, args=(url, headers, clip, end, seed, tally))
        for seed in range(options.clients)
    ]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < end:
        if process:
            memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
    for thread in threads:
        thread.join()
    return tally, memory


def _client(
    url: str, headers: dict[str, str], clip: bytes, end: float, seed: int, tally: Tally
) -> None:
    rng = random.Random(seed)
    with httpx2.Client(base_url=url, headers=headers, timeout=600) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        while time.monotonic() < end:
            kind = rng.choice(("analyze", "dialogue", "chat"))
            start = time.monotonic()
            while True:
                try:
                    answer = _send(client, kind, clip, model)
                except httpx2.HTTPError as error:
                    outcome = type(error).__name__
                    break
                outcome = str(answer.status_code)
                if answer.status_code != 429:
                    break
                with tally.lock:
                    tally.refused[kind] += 1
                time.sleep(float(answer.headers["Retry-After"]) * rng.uniform(0.5, 1.0))
            with tally.lock:
                if outcome == "200":
                    tally.seconds[kind].append(time.monotonic() - start)
                else:
                    tally.lost[kind].append(outcome)


def _send(client: httpx2.Client, kind: str, clip: bytes, model: str) -> httpx2.Response:
    if kind == "analyze":
        data = {"text": "I was not expecting that."}
        return client.post("/v1/analyze", files={"file": ("clip.mp4", clip)}, data=data)
    if kind == "dialogue":
        return client.post("/v1/dialogue", json={"turns": TURNS})
    message = {"role": "user", "content": er.query("I was not expecting that.")}
    return client.post("/v1/chat/completions", json={"model": model, "messages": [message]})


def _print(options: argparse.Namespace, tally: Tally, memory: list[float]) -> None:
    print(f"{options.clients} clients, {options.minutes:g} minutes, {os.cpu_count()} cores\n")
    print("| request | answered | per s | p50 s | p95 s | told 429 | lost |")
    print("|---|---|---|---|---|---|---|")
    for kind in ("analyze", "dialogue", "chat"):
        times = sorted(tally.seconds[kind])
        p50 = statistics.median(times) if times else float("nan")
        p95 = times[math.ceil(0.95 * len(times)) - 1] if times else float("nan")
        lost = tally.lost[kind]
        told = f" ({', '.join(sorted(set(lost)))})" if lost else ""
        print(
            f"| {kind} | {len(times)} | {len(times) / (60 * options.minutes):.2f} | {p50:.2f} "
            f"| {p95:.2f} | {tally.refused[kind]} | {len(lost)}{told} |"
        )
    if memory:
        fifth = max(1, len(memory) // 5)
        points = [statistics.mean(memory[i : i + fifth]) for i in range(0, len(memory), fifth)][:5]
        shown = ", ".join(f"{point:.0f}" for point in points)
        print(f"\nServer's memory (RSS, MB) in five equal spans: {shown}")


if __name__ == "__main__":
    main()
