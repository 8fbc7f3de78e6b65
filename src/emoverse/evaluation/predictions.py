"""A file of answers: what a line of `predictions.jsonl` holds, checked as it is read.

`predictions.schema.json` beside this module is the JSON schema of `Answer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.files import read_json, read_text

SCHEMA = Path(__file__).parent / "predictions.schema.json"
Probability = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    """One line of predictions.jsonl: what a model said to one record.

    Only `text` is asked of a file made elsewhere, and best an `id`; other fields may stand beside.
    """

    model_config = ConfigDict(frozen=True, extra="allow", title="EmoVerse prediction")

    id: str | None = Field(None, description="The record's id; without ids the order counts.")
    text: str = Field(description="The answer as the model wrote it.")
    task: str | None = Field(None, description="msa, er, fer, eri or ecpe.")
    score: Annotated[float, Field(ge=-3, le=3)] | None = Field(
        None, description="MSA only: the model's own sentiment score in [-3, 3]."
    )
    probabilities: dict[str, Probability] = Field(
        default_factory=dict, description="MSA and ER: by label; ECPE: by cause index."
    )
    label: Any = Field(None, description="The answer as parsed; told, never scored.")
    model: str | None = Field(None, description="The model's name.")
    query_sha256: str | None = Field(
        None, description="First 32 hex digits of the SHA-256 of the query and its media paths."
    )
    media_missing: bool = Field(False, description="The record's media could not be used.")
    seconds: Annotated[float, Field(ge=0)] = Field(0.0, description="Time the answer took.")


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of one line of predictions.jsonl."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Answer.model_json_schema()


def read_answers(path: Path | str) -> list[Answer]:
    """Answers out of JSONL or a JSON list: our predictions, or the authors' query/response rows.

    Raises:
        EmoVerseError: the file is unreadable or a row breaks the schema; names file, row, field.
    """
    return [_answer(row, f"{path}, answer {number}") for number, row in enumerate(_rows(path), 1)]


def matched(
    path: Path | str, gold: Sequence[Record], wanted: Sequence[Record]
) -> tuple[list[Answer], int]:
    """The answers to `wanted`, by `id` where every answer has one, else by position.

    Of several answers of one id the last counts, as in a run's predictions.jsonl.

    Args:
        path: the file of answers.
        gold: every record of the gold file, in its order.
        wanted: those of one task.

    Returns:
        One answer for each of `wanted`, and how many others a later one of the same id replaced.

    Raises:
        EmoVerseError: an answer is missing, or the counts do not fit.
    """
    answers = read_answers(path)
    if answers and all(answer.id is not None for answer in answers):
        by_id = {answer.id: answer for answer in answers}
        missing = [record.id for record in wanted if record.id not in by_id]
        # Ids that repeat in the gold file were told apart there (`unique_ids`), and only there.
        by_place = len(by_id) < len(answers) == len(gold)
        if missing and not by_place:
            raise EmoVerseError(
                f"{path}: no answer for record {missing[0]} ({len(missing)} of {len(wanted)} are "
                "missing); answer every record."
            )
        if not missing:
            return [by_id[record.id] for record in wanted], len(answers) - len(by_id)
    if len(answers) == len(wanted):
        return answers, 0
    if len(answers) == len(gold):
        places = {record.id: place for place, record in enumerate(gold)}
        return [answers[places[record.id]] for record in wanted], 0
    raise EmoVerseError(
        f"{path}: {len(answers)} answers for {len(wanted)} records; give one each, in order, or an "
        "`id` with every answer."
    )


def _answer(row: Any, place: str) -> Answer:
    if not isinstance(row, Mapping):
        raise EmoVerseError(f"{place}: an answer must be a JSON object.")
    fields = dict(row)
    if "text" not in fields or "query" in fields:  # a record's own `text` is what was said
        fields["text"] = fields.pop("response", None)
        fields.pop("label", None)  # a record's gold
    if fields["text"] is None and "query" in fields:
        raise EmoVerseError(
            f"{place}: a row with a `query` holds its answer in `response` (`text` is what was "
            "said); rename it, or leave the `query` out."
        )
    if not isinstance(fields["text"], str):
        raise EmoVerseError(f"{place}: it needs the answer as text in `response` or `text`.")
    if fields.get("id") is not None:
        fields["id"] = str(fields["id"])
    try:
        return Answer.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise EmoVerseError(
            f"{place}: `{name}` does not fit the schema ({first['msg']}); "
            f"see {SCHEMA.name} for what it may hold."
        ) from None


def _rows(path: Path | str) -> list[Any]:
    content = read_text(path)
    if content.lstrip().startswith("["):
        rows: list[Any] = read_json(path)
        return rows
    rows = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise EmoVerseError(
                f"{path}, line {number}: not valid JSON ({error.msg}); mend or delete it."
            ) from None
    return rows
