"""The web page, made with Gradio and mounted at /page, behind the same guard as the API.

Gradio draws the page and carries events. Clips come in by a route of ours (`page_clips`), so they
pass the API's limits and are decoded in the sandbox alone; of Gradio's own addresses only those
that the page needs can be reached.
"""

from __future__ import annotations

import os
import sys

# Before gradio is imported, for it looks then: nobody is told of our users.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import gradio.queueing
import gradio.routes
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from emoverse.serving import page_clips, page_views, problems
from emoverse.serving.guard import App, Message, Receive, Send
from emoverse.serving.logs import log
from emoverse.serving.page_tabs import clip_tab, talk_tab
from emoverse.serving.page_theme import theme
from emoverse.serving.problems import Refused
from emoverse.serving.settings import Settings, shown_model

PATH = "/page"


def install(app: FastAPI, settings: Settings) -> None:
    """Put the page on the application, and lead its bare address to it."""
    app.include_router(page_clips.router)

    @app.get("/", include_in_schema=False)
    async def lead() -> RedirectResponse:
        return RedirectResponse("page/")  # relative, so that it holds behind a proxy's path

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(page_views.source("icon.svg"), media_type="image/svg+xml")

    for module in (gradio.queueing, gradio.routes):
        module.traceback = _Told  # type: ignore[attr-defined]
    blocks = _page(app, settings)
    gr.mount_gradio_app(
        app,
        blocks,
        path=PATH,
        theme=theme(),
        head=f"<style>{page_views.style()}</style>",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
    )
    mount = app.router.routes[-1]
    mount.app = _Narrow(mount.app)  # type: ignore[attr-defined]


class _Told:
    """What Gradio takes for `traceback`: it prints messages, which may quote a user."""

    @staticmethod
    def print_exc() -> None:
        """Write the fault at hand into the log."""
        log("page_fault", error=sys.exc_info()[1])


class _Narrow:
    """Lets through what the page asks of Gradio, and has browsers load nothing from elsewhere.

    Gradio's own errors, which may hold what was sent, are told in the form of all others.
    """

    # app_id: asked when a connection was lost; without an answer the page stays dead.
    _READ = ("/", "/theme.css", "/gradio_api/queue/data", "/gradio_api/app_id")
    _BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/")
    # reset does nothing, but browsers ask for it after every cancel.
    _WRITE = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
    # Gradio makes functions of the components' scripts, hence 'unsafe-eval'.
    _POLICY = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'none'; frame-ancestors 'self'"
    )

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(PATH) or "/"
        reading = scope.get("method") in ("GET", "HEAD")
        known = path in self._READ or path.startswith(self._BELOW)
        if scope["type"] != "http" or not (known if reading else path in self._WRITE):
            refused = Refused(404, "not_found", "There is nothing at this address.")
            if scope["type"] == "http":
                await problems.response(refused)(scope, receive, send)
            return

        failed = False

        async def sending(message: Message) -> None:
            nonlocal failed
            starts = message["type"] == "http.response.start"
            if starts and message["status"] >= 400:
                failed = True
                refused = Refused(message["status"], "page_failed", "The page asked amiss.")
                await problems.response(refused)(scope, receive, send)
            elif starts:
                policy = (b"content-security-policy", self._POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            if not failed:
                await send(message)

        await self._app(scope, receive, sending)


def _page(app: FastAPI, settings: Settings) -> gr.Blocks:
    main = shown_model(settings.backend_model or settings.model)
    others = [shown_model(model) for model in settings.others]
    blocks: gr.Blocks
    with gr.Blocks(title="EmoVerse", analytics_enabled=False) as blocks:
        gr.HTML(page_views.header("../openapi.json"), apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Clip", id="clip-tab", elem_id="clip-tab"):
                clip_tab(app, settings, main, others)
            with gr.Tab("Conversation", id="talk-tab", elem_id="talk-tab"):
                talk_tab(app, main, others)
        gr.HTML(page_views.footer(), apply_default_css=False)
    blocks.queue(default_concurrency_limit=None, max_size=settings.limits.pending, api_open=False)
    return blocks
