"""Runs the application until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from filelock import FileLock, Timeout
from uvicorn.protocols.http.h11_impl import H11Protocol

from emoverse.errors import EmoVerseError
from emoverse.serving.logs import log, uncaught
from emoverse.serving.media import private_folder
from emoverse.serving.settings import Settings


@contextmanager
def own(folder: Path) -> Iterator[None]:
    """Have a server's folder to itself for as long as the block lasts.

    Raises:
        EmoVerseError: another server has it.
    """
    # Held by the system for this process, so that a kill lets go of it.
    lock = FileLock(private_folder(folder) / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EmoVerseError(
            f"{folder}: another server keeps its jobs there; stop it, or name another --folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


class Server(uvicorn.Server):
    """uvicorn, whose open streams end when it is told to stop, and whose folder is its own."""

    def __init__(self, config: uvicorn.Config, folder: Path) -> None:
        """Make a server that keeps its files in `folder`."""
        super().__init__(config)
        self._folder = folder

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Run until told to stop.

        Raises:
            EmoVerseError: another server uses the folder.
        """
        with own(self._folder), uncaught(asyncio.get_running_loop()):
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say where."""
        await super().startup(sockets)
        for server in self.servers:
            for open_socket in server.sockets:
                self.port = int(open_socket.getsockname()[1])
                log("listening", host=self.config.host, port=self.port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if service is not None:
            service.stop_soon()
        super().handle_exit(sig, frame)


def make_server(app: FastAPI, settings: Settings) -> Server:
    """A server for `app`, not started yet."""

    class Protocol(H11Protocol):
        """HTTP/1.1 whose clients must send a request's headers in time."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_headers()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait_for_headers()

        def _wait_for_headers(self) -> None:
            cycle = self.cycle
            self.loop.call_later(settings.limits.header_seconds, self._close_if_still, cycle)

        def _close_if_still(self, cycle: Any) -> None:
            # No request has begun since the clock was set: its headers are not complete.
            if self.cycle is cycle and not self.transport.is_closing():
                self.transport.close()

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="auto",
        access_log=False,
        log_level="warning",
        server_header=False,
        # Nobody is to be believed about where a request comes from.
        proxy_headers=False,
        limit_concurrency=8 * settings.limits.pending,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        h11_max_incomplete_event_size=64 << 10,
    )
    return Server(config, settings.folder)
