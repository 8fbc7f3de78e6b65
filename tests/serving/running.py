"""A real server in a thread, with a small random model."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from fastapi import FastAPI

from emoverse.inference.engine import Engine
from emoverse.inference.speech import Recogniser, load_recogniser
from emoverse.serving.app import create_app
from emoverse.serving.server import Server, make_server
from emoverse.serving.service import Service
from emoverse.serving.settings import Limits, Settings

from ..models.tiny import tiny_model

TOKEN = "a-token-for-tests"


def tiny_engine(_: str = "") -> Engine:
    return Engine(tiny_model())


def make_settings(folder: Path, limits: Limits | None = None, **changes: object) -> Settings:
    values = {"port": 0, "token": TOKEN, "folder": folder, "decoders": 1, "shutdown_seconds": 5}
    return Settings(**values | {"limits": limits or Limits()} | changes)


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A server under test.

    Attributes:
        client: shows the token.
    """

    app: FastAPI
    server: Server
    url: str
    client: httpx2.Client

    @property
    def service(self) -> Service:
        return self.app.state.service


@contextlib.contextmanager
def running(
    settings: Settings,
    load: Callable[[str], Engine] = tiny_engine,
    listen: Callable[[str], Recogniser] = load_recogniser,
) -> Iterator[Running]:
    app = create_app(settings, load=load, listen=listen)
    server = make_server(app, settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.port or not thread.is_alive(), 120)
    assert server.port
    url = f"http://127.0.0.1:{server.port}"
    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
    # A request may come just when an idle connection is closed.
    fresh = httpx2.Limits(max_keepalive_connections=0)
    with httpx2.Client(base_url=url, headers=headers, timeout=600, limits=fresh) as client:
        try:
            yield Running(app, server, url, client)
        finally:
            server.handle_exit(15, None)
            thread.join(60)
            assert not thread.is_alive()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
