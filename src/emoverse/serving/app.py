"""The web application: `create_app` makes it, `emoverse.serving.server` runs it.

`app.state.service` holds the server's parts. The guard covers the page as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from emoverse import __version__
from emoverse.inference.engine import Engine, load_model
from emoverse.inference.speech import Recogniser, load_recogniser
from emoverse.serving import problems, routes
from emoverse.serving.backends import Remote
from emoverse.serving.guard import Guard
from emoverse.serving.logs import log
from emoverse.serving.metrics import Metrics
from emoverse.serving.places import Places
from emoverse.serving.schemas import Problem
from emoverse.serving.service import start
from emoverse.serving.settings import Settings, checked

# What the guard or the framework may answer anywhere.
_REFUSALS = (400, 401, 403, 408, 413, 422, 429, 500)
_DESCRIPTION = """Sentiment, emotion, facial expression, its reason and its cause, from a clip or a
conversation. These are estimates of expression, not of what a person feels."""


def create_app(
    settings: Settings | None = None,
    *,
    load: Callable[[str], Engine] = load_model,
    listen: Callable[[str], Recogniser] = load_recogniser,
) -> FastAPI:
    """Make the application; the model is loaded when it starts.

    Args:
        settings: what it is told; the defaults by default.
        load: loads `settings.model`.
        listen: loads `settings.asr_model`.

    Raises:
        EmoVerseError: the settings are not sound.
    """
    settings = checked(settings or Settings())
    metrics = Metrics()
    places = Places(settings.limits.pending, metrics)
    remote = Remote(settings) if settings.backend == "openai" else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await start(settings, metrics, places, remote, load, listen)
        app.state.service = service
        log("ready", backend=settings.backend, model=service.backend.name)
        try:
            yield
        finally:
            await service.stop()
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
