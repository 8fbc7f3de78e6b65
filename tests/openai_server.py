"""An OpenAI-compatible server that is not ours: `transformers serve`, with a model of a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .ports import free_port


@contextlib.contextmanager
def transformers_serve(model: Path, log: Path) -> Iterator[str]:
    """Its address while it runs; the test is skipped where it is not installed."""
    pytest.importorskip("fastapi", reason="needs `pip install transformers[serving]`")
    pytest.importorskip("uvicorn", reason="needs `pip install transformers[serving]`")
    beside = Path(sys.executable).with_name("transformers")
    program = str(beside) if beside.exists() else shutil.which("transformers")
    if program is None:
        pytest.skip("the `transformers` command is not installed")
    port = free_port()
    arguments = [program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--device", "cpu", "--dtype", "float32", "--log-level", "error"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment)
    try:
        _await_port(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
