"""A server's parts, started and stopped together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fastapi import Request

from emoverse.inference.engine import Engine
from emoverse.inference.speech import Recogniser
from emoverse.serving.backends import Backend, Local, Remote
from emoverse.serving.hearing import Hearing
from emoverse.serving.jobs import Store
from emoverse.serving.media import private_folder
from emoverse.serving.metrics import Metrics
from emoverse.serving.page_clips import Clips
from emoverse.serving.places import Places
from emoverse.serving.problems import GONE, Refused
from emoverse.serving.runner import Runner
from emoverse.serving.sandbox import Sandbox
from emoverse.serving.settings import Settings, shown_model

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Service:
    """A server's parts.

    Attributes:
        models: what the page can ask, by the names it shows; the first is `backend`.
        scratch: where media of requests lie while they are read.
        clips: the page's.
        hearing: recognises speech, or says that this server does not.
        loop: what everything runs in.
        started: when, in seconds since 1970.
        stopping: no new work is begun.
    """

    settings: Settings
    metrics: Metrics
    places: Places
    backend: Backend
    models: dict[str, Backend]
    sandbox: Sandbox
    store: Store
    runner: Runner
    scratch: Path
    clips: Clips
    loop: asyncio.AbstractEventLoop
    hearing: Hearing
    started: int = field(default_factory=lambda: int(time.time()))
    stopping: bool = False

    async def bounded(self, request: Request, work: Awaitable[Result]) -> Result:
        """Do a request's work, for as long as its client waits and the limit allows.

        Raises:
            Refused: it takes too long, or the client is gone.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.create_task(_gone(request))
        seconds = self.settings.limits.request_seconds
        try:
            await asyncio.wait({task, gone}, timeout=seconds, return_when="FIRST_COMPLETED")
            if task.done():
                return task.result()
            if gone.done():
                raise Refused(GONE, "client_gone", "The client closed the connection.")
            raise Refused(504, "timeout", f"No answer in {seconds:g} seconds; ask for less.")
        finally:
            gone.cancel()
            task.cancel()
            await asyncio.wait({task, gone})

    async def stop(self) -> None:
        """End what runs, and keep what is not finished for the next start."""
        self.stop_soon()
        await self.runner.stop()
        for backend in self.models.values():
            await backend.stop()
        self.hearing.close()
        await self.sandbox.close()
        self.clips.empty()
        self.store.close()

    def stop_soon(self) -> None:
        """Let streams end: the server was told to stop. Safe in signal handlers and threads."""
        self.stopping = True
        self.loop.call_soon_threadsafe(self.runner.stop_soon)


async def start(
    settings: Settings,
    metrics: Metrics,
    places: Places,
    remote: Remote | None,
    load: Callable[[str], Engine],
    listen: Callable[[str], Recogniser],
) -> Service:
    """Load the models, start what works for them, and sweep what a killed server left.

    Args:
        settings: checked.
        metrics: the guard counts in them too.
        places: the guard gives them out too.
        remote: asked in place of `settings.model`.
        load: loads a model.
        listen: loads a model that recognises speech.

    Raises:
        EmoVerseError: a model cannot be loaded.
    """

    async def local(model: str) -> Backend:
        return Local(await asyncio.to_thread(load, model), settings, metrics)

    backend: Backend = remote or await local(settings.model)
    models = {shown_model(settings.backend_model or settings.model): backend}
    models |= {shown_model(model): await local(model) for model in settings.others}
    frames = max(each.frames for each in models.values())
    side = max(each.side for each in models.values())
    recogniser = None
    if settings.asr_model:
        recogniser = await asyncio.to_thread(listen, settings.asr_model)
    sandbox = Sandbox(settings.decoders, frames, settings.limits, metrics, side)
    await sandbox.start()
    await sandbox.warm()
    for each in models.values():
        await each.start()
    store = Store(settings.folder)
    hearing = Hearing(recogniser, sandbox)
    runner = Runner(store, backend, sandbox, hearing, settings, metrics)
    scratch = private_folder(settings.folder / "scratch")
    for left in scratch.iterdir():  # of a server that was killed
        left.unlink(missing_ok=True)
    runner.start()
    loop = asyncio.get_running_loop()
    return Service(
        settings=settings,
        metrics=metrics,
        places=places,
        backend=backend,
        models=models,
        sandbox=sandbox,
        store=store,
        runner=runner,
        scratch=scratch,
        clips=Clips(settings),
        loop=loop,
        hearing=hearing,
    )


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
