"""The web application: `create_app` makes it, `emoverse.serving.server` runs it.

`app.state.service` holds the server's parts. The guard covers the page as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request

from emoverse import __version__
from emoverse.inference.engine import Engine, load_model
from emoverse.serving import problems, routes
from emoverse.serving.backends import Backend, Local, Remote
from emoverse.serving.guard import Guard
from emoverse.serving.jobs import Store
from emoverse.serving.logs import log
from emoverse.serving.media import private_folder
from emoverse.serving.metrics import Metrics
from emoverse.serving.page_clips import Clips
from emoverse.serving.places import Places
from emoverse.serving.problems import Refused
from emoverse.serving.runner import Runner
from emoverse.serving.sandbox import Sandbox
from emoverse.serving.schemas import Problem
from emoverse.serving.settings import Settings, checked, shown_model

Result = TypeVar("Result")
# What the guard or the framework may answer anywhere.
_REFUSALS = (400, 401, 403, 408, 413, 422, 429, 500)
_DESCRIPTION = """Sentiment, emotion, facial expression, its reason and its cause, from a clip or a
conversation. These are estimates of expression, not of what a person feels."""


@dataclass(slots=True, eq=False)
class Service:
    """A server's parts.

    Attributes:
        models: what the page can ask, by the names it shows; the first is `backend`.
        scratch: where media of requests lie while they are read.
        clips: the page's.
        loop: what everything runs in.
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
                raise Refused(499, "client_gone", "The client closed the connection.")
            raise Refused(504, "timeout", f"No answer in {seconds:g} seconds; ask for less.")
        finally:
            gone.cancel()
            task.cancel()
            await asyncio.wait({task, gone})

    def stop_soon(self) -> None:
        """Let streams end: the server was told to stop. Safe in signal handlers and threads."""
        self.stopping = True
        self.loop.call_soon_threadsafe(self.runner.stop_soon)


def create_app(
    settings: Settings | None = None, *, load: Callable[[str], Engine] = load_model
) -> FastAPI:
    """Make the application; the model is loaded when it starts.

    Args:
        settings: what it is told; the defaults by default.
        load: loads `settings.model`.

    Raises:
        EmoVerseError: the settings are not sound.
    """
    settings = checked(settings or Settings())
    metrics = Metrics()
    places = Places(settings.limits.pending, metrics)
    remote = Remote(settings) if settings.backend == "openai" else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await _started(settings, metrics, places, remote, load)
        app.state.service = service
        log("ready", backend=settings.backend, model=service.backend.name)
        try:
            yield
        finally:
            service.stop_soon()
            await service.runner.stop()
            for backend in service.models.values():
                await backend.stop()
            await service.sandbox.close()
            service.store.close()
            log("stopped")

    app = FastAPI(
        title="EmoVerse",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Problem} for code in _REFUSALS},
    )
    problems.install(app)
    app.include_router(routes.router)
    if settings.page:
        from emoverse.serving import page  # gradio takes its time, and the API does without it

        page.install(app, settings)
    app.add_middleware(Guard, settings=settings, metrics=metrics, places=places)
    return app


async def _started(
    settings: Settings,
    metrics: Metrics,
    places: Places,
    remote: Remote | None,
    load: Callable[[str], Engine],
) -> Service:
    async def local(model: str) -> Backend:
        return Local(await asyncio.to_thread(load, model), settings, metrics)

    backend: Backend = remote or await local(settings.model)
    models = {shown_model(settings.backend_model or settings.model): backend}
    models |= {shown_model(model): await local(model) for model in settings.others}
    frames = max(each.frames for each in models.values())
    side = max(each.side for each in models.values())
    sandbox = Sandbox(settings.decoders, frames, settings.limits, metrics, side)
    await sandbox.start()
    await sandbox.warm()
    for each in models.values():
        await each.start()
    store = Store(settings.folder)
    runner = Runner(store, backend, sandbox, settings, metrics)
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
    )


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
