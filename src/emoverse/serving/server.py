"""Runs the application until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from filelock import FileLock, Timeout
from uvicorn.protocols.http.h11_impl import H11Protocol

from emoverse.errors import EmoVerseError
from emoverse.serving.logs import libraries, log, uncaught
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


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets at every address of a host that this machine has, which do not listen yet.

    Raises:
        EmoVerseError: the port is in use, or the address is not this machine's.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                try:
                    one = opened.enter_context(socket.socket(family, kind, protocol))
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:  # IPv4 has a socket of its own
                        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    one.bind(address)
                except OSError as error:
                    # `localhost` has two addresses, also on a machine without IPv6.
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    absent = error
                else:
                    sockets.append(one)
            if absent and not sockets:
                raise absent
        except OSError as error:
            raise _unusable(host, port, error) from None
        opened.pop_all()
    return sockets


def _unusable(host: str, port: int, error: OSError) -> EmoVerseError:
    if error.errno == errno.EADDRINUSE:
        return EmoVerseError(
            f"Port {port} of {host} is in use; stop what listens there, or name another --port."
        )
    return EmoVerseError(
        f"The server cannot listen at port {port} of {host} ({error.strerror or error}); name "
        "another --host or --port."
    )


class Server(uvicorn.Server):
    """uvicorn, whose open streams end when it is told to stop, and whose folder is its own.

    Attributes:
        port: where it listens; None until it does. (`started` comes true a moment before.)
    """

    def __init__(self, config: uvicorn.Config, folder: Path) -> None:
        """Make a server that keeps its files in `folder`."""
        super().__init__(config)
        self._folder = folder
        self._sockets: list[socket.socket] = []
        self.port: int | None = None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Have the folder and the port for as long as the block lasts.

        Models are loaded within it, so that none is loaded in vain; a server that is run outside
        of it claims both itself.

        Raises:
            EmoVerseError: another server uses the folder, or the port cannot be had.
        """
        if self._sockets:
            yield
            return
        with own(self._folder), ExitStack() as opened:
            self._sockets = bind(self.config.host, self.config.port)
            for one in self._sockets:
                opened.enter_context(one)
            try:
                yield
            finally:
                self._sockets = []

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Run until told to stop.

        Raises:
            EmoVerseError: see `claimed`; or the application cannot start.
        """
        with self.claimed(), uncaught(asyncio.get_running_loop()), libraries():
            await super().serve(sockets or self._sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say where."""
        try:
            await super().startup(sockets)
        except OSError as error:  # somebody was faster
            await self.lifespan.shutdown()
            raise _unusable(self.config.host, self.config.port, error) from None
        except SystemExit:  # uvicorn would end the process with a code of its own
            raise EmoVerseError("The server cannot start; its log says why.") from None
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
        ws="none",
        access_log=False,
        log_config=None,
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
