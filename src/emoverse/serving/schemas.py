"""What the server takes and gives, as its OpenAPI page describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from emoverse.inference.interview import CLIP_TASKS

Task = Literal["msa", "er", "fer", "eri"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
# The time that causes take grows with the third power of the number of turns.
MOST_TURNS = 50
# Characters of one text, of a conversation's texts together, of a chat's message.
MOST_TEXT = 4000
MOST_DIALOGUE = 20_000
MOST_CHAT = 16_000
Plain = Annotated[str, StringConstraints(max_length=MOST_TEXT)]
Path_ = Annotated[str, StringConstraints(min_length=1, max_length=1000)]

# What sentences about mistakes leave out of a place in a request, see `problems.told`.
WORDS, PARTS = "[words]", "[parts]"
# Any string that is sound Unicode: pydantic looks at that only where there is some constraint.
Sound = Annotated[str, StringConstraints(min_length=0)]
_LARGEST_INTEGER = 2**63 - 1


def _listed(tasks: object) -> object:
    """`msa,er` as a list."""
    if not isinstance(tasks, str):
        return tasks
    return [task.strip() for task in tasks.split(",") if task.strip()]


Tasks = Annotated[list[Task], BeforeValidator(_listed), Field(min_length=1, max_length=4)]

_TASKS: list[Task] = ["msa", "er", "fer", "eri"]
assert tuple(_TASKS) == CLIP_TASKS


class Strict(BaseModel):
    """A request: a field that nobody knows is an error, for it is most often a misspelling."""

    model_config = ConfigDict(extra="forbid")


class ClipPath(Strict):
    """A clip on the server, what is asked about it, and how its words are known."""

    path: Path_ = Field(description="Relative to a root of the server, or absolute within one.")
    tasks: Tasks = Field(_TASKS, description="A list, or one string: msa,er,fer,eri.")
    transcribe: bool = Field(
        False, description="Recognise what is said, in place of words; needs --asr-model."
    )
    language: Annotated[str, StringConstraints(max_length=20)] | None = Field(
        None, description="That is spoken, as `en`; left out: it is recognised.", examples=["en"]
    )

    def _check_source(self, field: str, given: bool) -> None:
        if self.transcribe and given:
            raise ValueError(f"give `{field}` or have it recognised with `transcribe`, not both")
        if self.language is not None and not self.transcribe:
            raise ValueError("`language` is for `transcribe`; add that or leave it out")


class ClipRequest(ClipPath):
    """One clip; see /v1/analyze."""

    text: Plain | None = Field(None, description="What is said in the clip.")

    @model_validator(mode="after")
    def _one_source(self) -> ClipRequest:
        self._check_source("text", self.text is not None)
        return self


class Turn(Strict):
    """One utterance."""

    text: Plain
    speaker: Annotated[str, StringConstraints(max_length=100)] | None = None
    emotion: Annotated[str, StringConstraints(max_length=40)] | None = Field(
        None, description="Left out: the model says it.", examples=["joy"]
    )
    clip: Path_ | None = Field(None, description="A clip on the server, as in /v1/analyze.")


class Dialogue(Strict):
    """A conversation, oldest utterance first."""

    turns: list[Turn] = Field(min_length=1, max_length=MOST_TURNS)


class Answer(BaseModel):
    """One task's answer."""

    task: str
    query: str = Field(description="What the model was asked.")
    text: str = Field(description="What the model answered.")
    label: Any = Field(description="The answer read; null when it could not be.")
    probabilities: dict[str, float] = Field(description="Over the allowed labels.")
    seconds: float


class Peak(BaseModel):
    """The frame where the face moves most."""

    frame: int
    timestamp: float = Field(description="Seconds from the start.")
    person: int
    score: float = Field(description="Sum of the action units' intensities.")
    box: tuple[float, float, float, float]
    intensities: dict[str, float] = Field(description="Action unit to 0..5.")


class Curve(BaseModel):
    """One person's action units over time."""

    person: int
    timestamps: list[float]
    scores: list[float]
    intensities: dict[str, list[float]]


class Analysis(BaseModel):
    """Everything found out about a clip or a conversation."""

    clip: str | None
    model: str
    text: str | None
    duration: float
    width: int
    height: int
    fps: float
    people: int
    answers: dict[str, Answer]
    peak: Peak | None
    curves: list[Curve]
    turns: list[dict[str, Any]]
    pairs: list[tuple[int, str, int]] = Field(
        description="Utterance with the emotion, the emotion, utterance that caused it."
    )
    warnings: list[str]
    seconds: dict[str, float]


class Line(Strict):
    """A line of a transcript."""

    start: float = Field(ge=0, le=1e6, description="Seconds.")
    end: float = Field(ge=0, le=1e6, description="Seconds.")
    text: Plain
    speaker: Annotated[str, StringConstraints(max_length=100)] | None = None


class JobRequest(ClipPath):
    """A long video, read in parts; see /v1/jobs."""

    text: None = Field(None, description="Use the transcript.")
    transcript: list[Line] = Field([], max_length=20000)
    part: float = Field(10.0, ge=2, le=120, description="Seconds of a part.")
    by: Literal["part", "utterance"] = Field(
        "part",
        description="utterance: a part for every line of the transcript, asked with the lines "
        "before it; with er among the tasks, also which of them caused which emotion.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> JobRequest:
        self._check_source("transcript", bool(self.transcript))
        return self


class Part(BaseModel):
    """A part of a long video: its span in seconds, and its analysis or why there is none."""

    start: float
    end: float
    analysis: Analysis | None = None
    error: str | None = None
    speaker: str | None = Field(None, description="As the transcript names them.")
    pairs: list[tuple[int, str, int]] = Field(
        [],
        description="Causes that are known by now: the emotion's part, the emotion, the cause's "
        "part; parts count from 1.",
    )


class Job(BaseModel):
    """A job's state, and those of its parts that were asked for; they grow while it runs."""

    id: str
    state: State
    clip: str
    created: str
    updated: str
    duration: float = Field(description="Seconds of video; 0 until it is known.")
    done: float = Field(description="Seconds of video that are read.")
    heard: float | None = Field(
        None, description="Seconds that were listened to; null where nothing is recognised."
    )
    error: str | None = None
    parts: list[Part] = []
    next: int | None = Field(None, description="The `from` of more parts that are there.")


class JobList(BaseModel):
    """Jobs, newest first, without their parts."""

    jobs: list[Job]


class Health(BaseModel):
    """Whether the server can answer."""

    status: Literal["ok", "stopping"]
    version: str
    model: str
    backend: str


class Error(BaseModel):
    """What went wrong, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str


class Problem(BaseModel):
    """An error response."""

    error: Error


class MediaUrl(BaseModel):
    """A picture or video in the request itself."""

    url: str = Field(description="data:image/...;base64,... or data:video/...;base64,...")


class TextPart(BaseModel):
    """Words."""

    type: Literal["text"]
    text: Sound


class ImagePart(BaseModel):
    """A picture."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(BaseModel):
    """A video."""

    type: Literal["video_url"]
    video_url: MediaUrl


def _kind(content: object) -> str:
    return PARTS if isinstance(content, list) else WORDS


ContentPart = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(BaseModel):
    """A message. The compact model brings its own system prompt, whatever a client sends."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[Sound, Tag(WORDS)] | Annotated[list[ContentPart], Tag(PARTS)],
        Discriminator(_kind),
    ]


class StreamOptions(BaseModel):
    """What a stream carries beside the text."""

    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """A chat completion as OpenAI's clients ask for it.

    Fields that are not listed are let pass. A model in this process always gives its likeliest
    answer, in few words, so `max_tokens`, `temperature` and `seed` change nothing there; a model
    behind `--backend openai` gets them.
    """

    model: str = Field(max_length=200)
    messages: list[Message] = Field(min_length=1, max_length=100)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=_LARGEST_INTEGER)
    max_completion_tokens: int | None = Field(None, ge=1, le=_LARGEST_INTEGER)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-_LARGEST_INTEGER, le=_LARGEST_INTEGER)
    n: Literal[1] | None = 1


class ChatMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: ChatMessage
    finish_reason: str


class Usage(BaseModel):
    """Tokens of words; pictures are not counted by the compact model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Found(BaseModel):
    """What EmoVerse adds to an answer: the task it saw, the label and its probabilities."""

    task: str | None
    label: Any = None
    probabilities: dict[str, float] = {}
    warnings: list[str] = []


class Completion(BaseModel):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    emoverse: Found


class Model(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the server started; seconds since 1970.")
    owned_by: str = "emoverse"


class ModelList(BaseModel):
    """The models that can be asked."""

    object: Literal["list"] = "list"
    data: list[Model]
