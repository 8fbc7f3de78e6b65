"""What every request passes before it reaches the application.

Host and token, the number of requests under way, the size of the body and the time it takes to
arrive; and what every response gets: headers, a line in the log, figures.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from emoverse.serving import problems
from emoverse.serving.logs import log
from emoverse.serving.metrics import Metrics
from emoverse.serving.places import Places
from emoverse.serving.problems import GONE, Refused
from emoverse.serving.settings import Settings, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/healthz",)
_API = "/v1/"
_CHAT = "/v1/chat/completions"
_LARGEST_CHAT = 64 << 20  # it is parsed in memory
# Any other JSON. It is parsed where everything runs, which stands still as long; so the number of
# its values is limited too, for small ones take up many times their bytes.
_LARGEST_JSON = 4 << 20
_MOST_VALUES = 300_000
# What the page sends but for clips: events with a text or a conversation.
_EVENTS = "/page/gradio_api/"
_LARGEST_EVENT = 1 << 20
_FILES = ("/page/assets/", "/page/static/")
# These hold a place among the pending requests while they last.
_WORK = ("/v1/analyze", "/v1/dialogue", "/v1/jobs", _CHAT)
_UPLOADS = ("/v1/analyze", "/v1/jobs")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"geolocation=(), payment=(), usb=()"),
)
_API_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: App, *, settings: Settings, metrics: Metrics, places: Places) -> None:
        """Guard `app`; its work takes up `places`."""
        self._app = app
        self._settings = settings
        self._limits = settings.limits
        self._metrics = metrics
        self._places = places

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            try:
                self._admit(scope)
            except Refused:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request = secrets.token_hex(8)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                api = scope["path"].startswith(_API)
                headers += [*_HEADERS, *(_API_HEADERS if api else ())]
                message["headers"] = [*headers, (b"x-request-id", request.encode())]
            await send(message)

        try:
            self._admit(scope)
            await self._passed(scope, receive, sending)
        except Refused as refused:
            await _refuse(scope, refused, sending)
        except ClientDisconnect:
            status = GONE  # whatever was said in answer, nobody heard it
        except Exception as error:
            # Not passed on: whoever runs us would print its message, which may quote a user.
            log("fault", request=request, error=error)
            if status == 0:
                fault = Refused(500, "internal_error", "The server failed; see its log.")
                await _refuse(scope, fault, sending)
        finally:
            self._tell(scope, request, status, time.perf_counter() - start)

    async def _passed(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        form = _is_form(scope)
        most = self._largest(scope["path"], form)
        values = None if form else _MOST_VALUES
        body = _Body(scope, receive, self._limits.body_seconds, most, values)
        if scope["method"] != "POST" or scope["path"] not in _WORK:
            await self._run(scope, body, send)
            return
        with self._places.taken():
            await self._run(scope, body, send)

    async def _run(self, scope: MutableMapping[str, Any], body: _Body, send: Send) -> None:
        """Run the application; what is wrong with the body is told in place of its answer."""
        started = replaced = False

        async def sending(message: Message) -> None:
            nonlocal started, replaced
            if body.refused is not None and not started:
                replaced = started = True
                await _refuse(scope, body.refused, send)
            started = True
            if not replaced:
                await send(message)

        await self._app(scope, body.receive, sending)

    def _admit(self, scope: MutableMapping[str, Any]) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        path = scope["path"]
        if self._settings.token is None:
            # Without a token only this machine may ask, and no web site through its browser.
            host = headers.get(b"host", b"").decode("latin-1")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if not (is_loopback(name) or name == self._settings.host):
                raise Refused(403, "forbidden", f"Requests to host {name[:80]!r} are refused here.")
            origin = headers.get(b"origin", b"").decode("latin-1")
            if origin and origin.split("://", 1)[-1] != host:
                raise Refused(403, "forbidden", "Requests from other web sites are refused here.")
            return
        if path in OPEN_PATHS:
            return
        shown = _token(headers.get(b"authorization", b""), browser=not path.startswith(_API))
        if not hmac.compare_digest(shown, self._settings.token.encode()):
            raise Refused(
                401,
                "unauthorized" if path.startswith(_API) else "unauthorized_page",
                "Show the server's token: `Authorization: Bearer TOKEN`.",
            )
        # A browser shows a page's password to any site's form that is sent here.
        if scope.get("method") not in ("GET", "HEAD") and _from_elsewhere(headers):
            raise Refused(403, "forbidden", "Requests from other web sites are refused here.")

    def _largest(self, path: str, form: bool) -> int:
        if path == _CHAT:
            return min(self._limits.upload, _LARGEST_CHAT)
        if path.startswith(_API) and not (form and path in _UPLOADS):
            return min(self._limits.upload, _LARGEST_JSON)
        if path.startswith(_EVENTS):
            return min(self._limits.upload, _LARGEST_EVENT)
        return self._limits.upload

    def _tell(
        self, scope: MutableMapping[str, Any], request: str, status: int, seconds: float
    ) -> None:
        # The route's own pattern: a path could hold anything, and there are endlessly many.
        route = scope.get("route")
        path = getattr(route, "path", None) or "other"
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "?"
        if status < 400 and scope["path"].startswith(_FILES):
            return  # dozens a visit
        log(
            "request",
            request=request,
            method=method,
            path=path,
            status=status,
            seconds=round(seconds, 4),
        )


async def _refuse(scope: MutableMapping[str, Any], refused: Refused, send: Send) -> None:
    response = problems.response(refused)
    start = {"type": "http.response.start", "status": response.status_code}
    await send(start | {"headers": response.raw_headers})
    body = b"" if scope["method"] == "HEAD" else bytes(response.body)
    await send({"type": "http.response.body", "body": body})


class _Body:
    """A request's body, no larger and no slower than allowed."""

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        seconds: float,
        most: int,
        values: int | None,
    ) -> None:
        """Wrap `receive`.

        Args:
            scope: the request's.
            receive: its messages.
            seconds: how long the body may take.
            most: its bytes.
            values: JSON values in it; None when it is not JSON.
        """
        self.refused: Refused | None = None
        self._receive = receive
        self._end = time.monotonic() + seconds
        self._most = most
        self._values = values
        self._size = self._marks = 0
        self._whole = False
        told = dict(scope["headers"]).get(b"content-length", b"")
        if told.isdigit() and int(told) > most:
            raise self._large()

    async def receive(self) -> Message:
        """The next message, as ASGI has it."""
        if self._whole:
            return await self._receive()
        try:
            left = max(0.0, self._end - time.monotonic())
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            self.refused = Refused(408, "timeout", "The request's body came too slowly.")
            raise self.refused from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._most:
                self.refused = self._large()
                raise self.refused
            # Every JSON value but the first stands behind one of these.
            self._marks += sum(message.get("body", b"").count(mark) for mark in (b"{", b"[", b","))
            if self._values is not None and self._marks > self._values:
                told = f"A request's JSON may have {self._values} values; send fewer."
                self.refused = Refused(413, "too_large", told)
                raise self.refused
            self._whole = not message.get("more_body", False)
        return message

    def _large(self) -> Refused:
        return Refused(413, "too_large", f"A request may have {self._most} bytes; send less.")


def _is_form(scope: MutableMapping[str, Any]) -> bool:
    """Whether the body is a form; the first header counts, as for the application."""
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return bool(kinds) and kinds[0].strip().lower().startswith(b"multipart/form-data")


def _from_elsewhere(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sent a request.

    `Sec-Fetch-Site` is the browser's own word, and holds behind a proxy that changes `Host`; on
    plain HTTP there is only `Origin`.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin", b"")
    return bool(origin) and origin.split(b"://", 1)[-1] != headers.get(b"host", b"")


def _token(value: bytes, *, browser: bool) -> bytes:
    """The token in an Authorization header; b"" when there is none.

    A browser sends Basic credentials of its own accord, from any web site's form; so they count
    for pages only, where the password is the token, and never for the API.
    """
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if browser and scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
