"""Errors as clients see them: a status, a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from emoverse.errors import EmoVerseError
from emoverse.serving.schemas import PARTS, WORDS

GONE = 499
"""The client broke off before it was answered: for the log and the figures, for nobody reads it."""
# Pydantic's sentences for these name our classes.
_NO_OBJECT = ("model_type", "model_attributes_type", "dict_type")


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        code: a short word that never changes.
        retry_after: seconds after which the request may succeed, None when it never will.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class TooLong(Refused):
    """A text that is more than the model is to read at once."""

    def __init__(self, message: str) -> None:
        super().__init__(413, "too_long", message)


def body(code: str, message: str) -> dict[str, Any]:
    """The JSON of an error, in the form that OpenAI's clients expect."""
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def response(refused: Refused) -> JSONResponse:
    """The response for a refusal."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    if refused.status == 401:
        scheme = "Basic" if refused.code == "unauthorized_page" else "Bearer"
        headers["WWW-Authenticate"] = f'{scheme} realm="emoverse"'
    return JSONResponse(body(refused.code, str(refused)), refused.status, headers)


def told(errors: Sequence[Any]) -> str:
    """Pydantic's errors: where and what, never the value, for that may be private."""
    return "; ".join(": ".join(filter(None, _place_and_message(found))) for found in errors[:5])


def _place_and_message(found: Any) -> tuple[str, str]:
    place, kind = list(found["loc"]), found["type"]
    if kind == "json_invalid":
        return "", "The body is not valid JSON."
    if place[:1] == ["body"] and len(place) > 1:
        del place[0]
    if kind in _NO_OBJECT:
        if place in ([], ["body"]):
            return "", "The body must be a JSON object."
        return _path(place), "Must be a JSON object"
    return _path(place), found["msg"].removeprefix("Value error, ")


def _path(place: list[Any]) -> str:
    """Where something stands in a request, without pydantic's names for what it was taken for."""
    if PARTS in place:
        at = place.index(PARTS)
        place = place[:at] + place[at + 1 : at + 2] + place[at + 3 :]  # with the part's `type`
    return ".".join(str(one) for one in place if one != WORDS)


def install(app: FastAPI) -> None:
    """Answer every kind of mistake in one form; our own faults are the guard's to tell."""

    @app.exception_handler(Refused)
    async def _refused(_: Request, error: Refused) -> JSONResponse:
        return response(error)

    @app.exception_handler(EmoVerseError)
    async def _mistake(_: Request, error: EmoVerseError) -> JSONResponse:
        return JSONResponse(body("bad_input", str(error)), 422)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(body("bad_request", told(error.errors())), 422)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        names = {404: "not_found", 405: "method_not_allowed"}
        code = names.get(error.status_code, "bad_request")
        return JSONResponse(body(code, str(error.detail)), error.status_code, error.headers)
