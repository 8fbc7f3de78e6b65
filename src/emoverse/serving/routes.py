"""The server's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from emoverse import __version__
from emoverse.inference.dialogue import dialogue_interview
from emoverse.inference.interview import Watched, clip_interview
from emoverse.serving import chat, problems
from emoverse.serving.jobs import ENDED, Row
from emoverse.serving.media import of_dialogue, shown_name, stored, under_roots
from emoverse.serving.problems import Refused
from emoverse.serving.schemas import (
    Analysis,
    ChatRequest,
    ClipPath,
    ClipRequest,
    Completion,
    Dialogue,
    Health,
    Job,
    JobList,
    JobRequest,
    Model,
    ModelList,
    Part,
    Problem,
)
from emoverse.serving.service import Service
from emoverse.serving.talk import Talk

router = APIRouter()
_MOST_LISTED = 100
_MOST_PARTS = 1000
_FORM_FIELDS = 8
_STREAM = "text/event-stream"
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("event", "id", "data")},
}
_NO_BUFFER = {"X-Accel-Buffering": "no"}


def _body(schema: type[ClipPath], extra: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI of a body that is either JSON with a path, or a form with a file."""
    form = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "A video or a picture."},
            "tasks": {"type": "string", "description": "msa,er,fer,eri, or some of them."},
            "transcribe": {"type": "boolean"},
            "language": {"type": "string", "maxLength": 20},
            **extra,
        },
    }
    own = schema.model_json_schema()
    parts = own.pop("$defs", {})
    for name, value in own["properties"].items():  # the page knows no place for definitions here
        if reference := value.get("items", {}).get("$ref"):
            own["properties"][name] = value | {"items": parts[reference.rsplit("/", 1)[1]]}
    content = {"application/json": {"schema": own}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", tags=["server"], responses={503: {"model": Problem}})
async def health(request: Request) -> Health:
    """Whether the server can answer; needs no token."""
    service = _service(request)
    if not service.stopping and not all(each.alive for each in service.models.values()):
        raise Refused(503, "model_stopped", "The model's thread has ended; restart the server.")
    return Health(
        status="stopping" if service.stopping else "ok",
        version=__version__,
        model=service.backend.name,
        backend=service.settings.backend,
    )


@router.get("/metrics", tags=["server"], response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Figures for Prometheus."""
    return PlainTextResponse(_service(request).metrics.text())


@router.post(
    "/v1/analyze",
    tags=["analysis"],
    openapi_extra=_body(ClipRequest, {"text": {"type": "string", "maxLength": 4000}}),
    responses=_responses(404, 415, 502, 504),
)
async def analyze(request: Request) -> Analysis:
    """Read one clip: upload it, or name it by its path on the server."""
    service = _service(request)
    async with _clip(request, ClipRequest, service.scratch) as (asked, file, name, _):

        async def work() -> Analysis:
            text = asked.text
            if asked.transcribe:
                text = await service.hearing.clip(file, name, asked.language)
            piece = await service.sandbox.watch(file, name)
            interview = clip_interview(piece.watched, text, list(asked.tasks), service.backend.name)
            return Analysis.model_validate((await service.backend.conduct(interview)).to_json())

        return await service.bounded(request, work())


@router.post("/v1/dialogue", tags=["analysis"], responses=_responses(404, 502, 504))
async def dialogue(request: Request, asked: Dialogue) -> Analysis:
    """Read a conversation: every utterance's emotion, and which utterance caused which."""
    service = _service(request)
    turns, files = of_dialogue(asked, service.settings.roots)

    async def work() -> Analysis:
        seen: dict[str, Watched] = {}
        for name, file in files.items():
            piece = await service.sandbox.watch(file, name)
            seen[name] = piece.watched
        interview = dialogue_interview(turns, lambda name: seen[name], service.backend.name)
        return Analysis.model_validate((await service.backend.conduct(interview)).to_json())

    return await service.bounded(request, work())


@router.post(
    "/v1/jobs",
    tags=["jobs"],
    status_code=202,
    openapi_extra=_body(
        JobRequest,
        {
            "transcript": {"type": "string", "description": "JSON, as in the other form."},
            "part": {"type": "number"},
            "by": {"type": "string", "enum": ["part", "utterance"]},
        },
    ),
    responses=_responses(404, 415),
)
async def add_job(request: Request) -> Job:
    """Have a long video read part by part, or utterance by utterance.

    Times within a part's analysis count from the part's start.
    """
    service = _service(request)
    _check_room(service)
    async with _clip(request, JobRequest, service.store.uploads) as (asked, file, name, keep):
        values = asked.model_dump(exclude={"path", "text"})
        if asked.transcribe:
            service.hearing.check(asked.language)
        elif asked.by == "utterance":
            Talk(values["transcript"], asked.tasks, service.backend.name)  # refuses what is empty
        _check_room(service)  # others may have come while this one's video did
        row = service.store.add(name, file, uploaded=keep is not None, request=values)
        if keep is not None:
            keep.pop_all()
    service.runner.wake()
    return _job(row)


@router.get("/v1/jobs", tags=["jobs"])
async def list_jobs(
    request: Request,
    start: Annotated[int, Query(alias="from", ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = _MOST_LISTED,
) -> JobList:
    """Jobs, newest first, without the first `from` of them."""
    return JobList(jobs=[_job(row) for row in _service(request).store.newest(limit, start)])


@router.get("/v1/jobs/{job}", tags=["jobs"], response_model=Job, responses=_responses(404))
async def job(
    request: Request,
    job: str,
    start: Annotated[int, Query(alias="from", ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=0, le=_MOST_PARTS)] = 100,
    curves: Annotated[bool, Query(description="Whether parts hold the faces' curves.")] = True,
) -> Response:
    """How far a job is, and what it found: `limit` parts from the part `from` on, counted from 0.

    `next` is the `from` of what follows.
    """
    service = _service(request)
    row = _row(service, job)

    def found() -> str:
        parts = service.store.parts(row.id, start, limit + 1)
        if not curves:
            for _, part in parts:
                if part.get("analysis"):
                    part["analysis"]["curves"] = []
        shown = [Part.model_validate(part) for _, part in parts[:limit]]
        following = parts[limit][0] if len(parts) > limit else None
        return _job(row).model_copy(update={"parts": shown, "next": following}).model_dump_json()

    # Many parts are megabytes, so others are not made to wait for them.
    return Response(await asyncio.to_thread(found), media_type="application/json")


@router.get(
    "/v1/jobs/{job}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={200: {"content": {_STREAM: {"schema": _EVENT}}}, **_responses(404)},
)
async def job_events(
    request: Request,
    job: str,
    last_event_id: Annotated[int, Header(ge=-1, le=1_000_000_000)] = -1,
) -> StreamingResponse:
    """A job's course as server-sent events: `part`, `progress` and at last `end`.

    The id of a `part` event is its number; a client that comes back names the last one it has.
    """
    service = _service(request)
    row = _row(service, job)
    events = service.runner.events(row.id, last_event_id + 1)
    return StreamingResponse(events, media_type=_STREAM, headers=_NO_BUFFER)


@router.post("/v1/jobs/{job}/cancel", tags=["jobs"], responses=_responses(404))
async def cancel_job(request: Request, job: str) -> Job:
    """End a job; what it found stays, and is told by `GET`."""
    service = _service(request)
    row = _row(service, job)
    await service.runner.cancel(row.id)
    return _job(_row(service, job))


@router.delete("/v1/jobs/{job}", tags=["jobs"], status_code=204, responses=_responses(404, 409))
async def delete_job(request: Request, job: str) -> None:
    """Forget a job that has ended, and all that it found."""
    service = _service(request)
    row = _row(service, job)
    if row.state not in ENDED:
        raise Refused(409, "job_not_ended", "The job has not ended; cancel it first.")
    service.runner.delete(row.id)


@router.get("/v1/models", tags=["chat"])
async def models(request: Request) -> ModelList:
    """The model that can be asked."""
    return ModelList(data=[_model(_service(request))])


@router.get("/v1/models/{model:path}", tags=["chat"], responses=_responses(404))
async def model(request: Request, model: str) -> Model:
    """The model that can be asked, by its name."""
    found = _model(_service(request))
    if model != found.id:
        raise chat.no_model(found.id)
    return found


@router.post(
    "/v1/chat/completions",
    tags=["chat"],
    response_model=Completion,
    responses={
        200: {"content": {_STREAM: {"schema": _EVENT}}},
        **_responses(404, 502, 504),
    },
)
async def completions(request: Request, asked: ChatRequest) -> Response:
    """Answer one question about pictures or a video, as OpenAI's API does.

    The compact model answers the five questions in their own wording (see the project's
    documentation); a model behind `--backend openai` answers any.
    """
    service = _service(request)
    question = chat.read(asked, service.backend.name)
    service.backend.check(question.query)

    async def work() -> tuple[Watched | None, list[str]]:
        shown, warnings = await chat.watch(question, service.sandbox, service.scratch)
        service.backend.check_shown(question.query, shown)
        return shown, warnings

    shown, warnings = await service.bounded(request, work())
    if asked.stream:
        seconds = service.settings.limits.request_seconds
        events = chat.stream(service.backend, question, shown, asked, warnings, seconds)
        return StreamingResponse(events, media_type=_STREAM, headers=_NO_BUFFER)
    answer = service.backend.chat(
        question.system, question.query, shown, chat.sampling(asked), None
    )
    said = await service.bounded(request, answer)
    return JSONResponse(chat.completion(asked.model, said, warnings).model_dump())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _model(service: Service) -> Model:
    return Model(id=service.backend.name, created=service.started)


def _row(service: Service, job: str) -> Row:
    row = service.store.get(job)
    if row is None:
        raise Refused(404, "no_such_job", "There is no such job; check its id.")
    return row


def _check_room(service: Service) -> None:
    """Refuse a job when too many wait, or their videos take up too much."""
    limits, counts = service.settings.limits, service.store.count()
    if (
        counts.get("queued", 0) + counts.get("running", 0) >= limits.jobs
        or service.store.held() > limits.job_bytes
    ):
        raise Refused(429, "too_many_jobs", "Too many jobs wait; try again later.", retry_after=60)


def _job(row: Row) -> Job:
    return Job.model_validate(
        {
            "id": row.id,
            "state": row.state,
            "clip": row.name,
            "created": row.created,
            "updated": row.updated,
            "duration": row.duration,
            "done": row.done,
            "heard": row.heard,
            "error": row.error,
        }
    )


@contextlib.asynccontextmanager
async def _clip(
    request: Request, schema: type[Any], folder: Path
) -> AsyncIterator[tuple[Any, Path, str, contextlib.ExitStack | None]]:
    """What is asked, the clip's file and name, and (for an upload) what deletes it at the end."""
    roots = _service(request).settings.roots
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=_FORM_FIELDS) as form:
            asked, upload = _read_form(form, schema)
            file = await stored(upload, folder)
        with contextlib.ExitStack() as keep:
            keep.callback(file.unlink, missing_ok=True)
            yield asked, file, shown_name(upload.filename), keep
        return
    if kind != "application/json":
        raise Refused(
            415, "bad_request", "Send JSON with a `path`, or multipart/form-data with a `file`."
        )
    asked = _validated(schema, await _json(request))
    yield asked, under_roots(asked.path, roots), asked.path, None


def _read_form(form: FormData, schema: type[Any]) -> tuple[Any, UploadFile]:
    values: dict[str, Any] = {}
    upload = None
    for name, value in form.multi_items():
        if name == "file" and isinstance(value, UploadFile):
            upload = value
        elif isinstance(value, UploadFile) or name == "path":
            raise Refused(422, "bad_request", f"{name[:40]!r} is not a field of this form.")
        elif name == "tasks" and name in values:
            values[name] += f",{value}"
        elif name in values:
            raise Refused(422, "bad_request", f"{name[:40]!r} is given twice; give it once.")
        else:
            values[name] = value
    if upload is None:
        raise Refused(422, "bad_request", "The form has no file named `file`; add the clip.")
    if "transcript" in values:
        try:
            values["transcript"] = json.loads(values["transcript"])
        except (ValueError, RecursionError):
            raise Refused(422, "bad_request", "transcript: not valid JSON.") from None
    return _validated(schema, values | {"path": shown_name(upload.filename)}), upload


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise Refused(422, "bad_request", "The body is not valid JSON.") from None


def _validated(schema: type[Any], value: Any) -> Any:
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise Refused(422, "bad_request", problems.told(error.errors())) from None
