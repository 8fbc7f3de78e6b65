"""A film from its beginning to its end: parts, persons, answers and causes.

Each part is looked at, its persons are recognised, and its questions are asked with the turns
before it; each answer goes to the journal at once. The causes of a conversation's emotions follow
as soon as a window of it is answered (`emoverse.inference.conversation`). A run that was ended in
any way goes on where it was. What is held in memory does not grow with pictures: they are on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack, video
from emoverse.faces.video import VideoInfo
from emoverse.inference import cast, rows
from emoverse.inference.analysis import Analysis
from emoverse.inference.cast import Cast, Sighting
from emoverse.inference.conversation import CONTEXT, find_causes, windows
from emoverse.inference.cuts import cuts
from emoverse.inference.interview import CLIP_TASKS, Interview, Watched, check_tasks, clip_interview
from emoverse.inference.journal import Journal
from emoverse.inference.listening import film_rows
from emoverse.inference.parts import Part, parts_of
from emoverse.inference.together import Ask, batched, together
from emoverse.inference.transcripts import Cue
from emoverse.inference.watching import Piece, Seen, watch
from emoverse.tasks import ecpe

TASKS = (*CLIP_TASKS, "ecpe")
Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it is done, and how much there is."""

# Parts that are answered together.
BATCH = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """A film's parts.

    Attributes:
        film: what it is.
        parts: in order of time.
        cuts: seconds of its hard cuts.
        warnings: plain sentences.
    """

    film: VideoInfo
    parts: tuple[Part, ...]
    cuts: tuple[float, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Known:
    """What the answers so far say, as far as later parts need it.

    Attributes:
        cast: the persons.
        portrayed: those with a portrait.
        turns: of every conversation, its answered utterances.
        windows: (conversation, window) whose causes are found.
        answered: numbers of the parts that have a line.
    """

    cast: Cast
    portrayed: set[int] = field(default_factory=set)
    turns: dict[int, list[ecpe.Turn]] = field(default_factory=dict)
    windows: set[tuple[int, int]] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)

    def take(self, row: Mapping[str, Any]) -> None:
        """Learn from a line of the journal that an earlier run wrote."""
        if row["kind"] == "causes":
            self.windows.add((row["conversation"], row["window"]))
        elif row["kind"] in ("utterance", "moment"):
            for one in row["people"]:
                self.cast.remember(one["person"], cast.load(one["sighting"]))
            self.learn(row)

    def learn(self, row: Mapping[str, Any]) -> None:
        """Learn from a line but for the looks of its persons, which the cast knows."""
        self.answered.add(row["number"])
        self.portrayed |= {one["person"] for one in row["people"] if one.get("portrait")}
        if row["text"]:
            emotion = (row["answers"].get("er") or {}).get("label") or "neutral"
            turn = ecpe.Turn(row["number"], row["who"] or "Someone", row["text"], emotion)
            self.turns.setdefault(row["conversation"], []).append(turn)


def read_film(
    film: Path | str,
    book: Journal,
    ask: Ask,
    model: str,
    *,
    listen: Callable[[], Iterable[Cue]],
    tasks: Sequence[str] = TASKS,
    silences: bool = False,
    person: str = "speaker",
    workers: int = 1,
    frames: int = 0,
    progress: Progress | None = None,
) -> None:
    """Read a film, or what an earlier run left of it.

    Args:
        film: a video.
        book: where the answers go.
        ask: answers questions, `Engine.ask`.
        model: its name.
        listen: says what is said when; called once, and not by a run that goes on.
        tasks: among `TASKS`; causes need `er`.
        silences: also read the shots in which nobody speaks, by their faces.
        person: whose face is shown to the model: the `speaker`'s, or `max`, the one with the
            highest peak (Eq 2).
        workers: processes that look at parts, see `watching.watch`.
        frames: pictures of a part that the model wants beside its faces, `Reader.frames`.
        progress: told how far it is.

    Raises:
        EmoVerseError: the film cannot be read, or a line of the journal, or a task is unknown.
    """
    check_film_tasks(tasks)
    tell = progress or (lambda what, done, total: None)
    plan = _kept_plan(book) or _made_plan(film, book, listen, silences, tell)
    known = _Known(Cast(plan.cuts))
    for row in film_rows(book):
        known.take(row)
    left = [part for part in plan.parts if part.number not in known.answered]
    done = len(plan.parts) - len(left)
    tell("Reading", done, len(plan.parts))
    _find_causes(plan, known, book, ask, tasks)
    pieces = (Piece(p.number, str(film), p.start, p.end, plan.film, person, frames) for p in left)
    parts = {part.number: part for part in left}
    for batch in batched(watch(pieces, workers=workers), BATCH):
        read = [(parts[seen.piece.number], seen) for seen in batch]
        for row in _answered(read, known, ask, model, tasks, plan.film):
            book.add(row)
            known.learn(row)
            done += 1
            tell("Reading", done, len(plan.parts))
        _find_causes(plan, known, book, ask, tasks)


def check_film_tasks(tasks: Sequence[str]) -> None:
    """Refuse what cannot be asked of a film.

    Raises:
        EmoVerseError: a task is unknown, or causes are asked for without emotions.
    """
    check_tasks([task for task in tasks if task != "ecpe"])
    if "ecpe" in tasks and "er" not in tasks:
        raise EmoVerseError("The causes of emotions (ecpe) need the emotions; ask for er as well.")


def _kept_plan(book: Journal) -> Plan | None:
    row = next(film_rows(book), None)
    if row is None:
        return None
    info = VideoInfo(**row["film"] | {"path": Path(row["film"]["path"])})
    parts = tuple(Part(**part) for part in row["parts"])
    return Plan(info, parts, tuple(row["cuts"]), tuple(row["warnings"]))


def _made_plan(
    film: Path | str,
    book: Journal,
    listen: Callable[[], Iterable[Cue]],
    silences: bool,
    tell: Progress,
) -> Plan:
    info = video.probe(film)
    cues = list(listen())
    seconds = round(info.duration)

    told_last = -1

    def told(time: float) -> None:
        nonlocal told_last
        if (second := min(int(time), seconds)) > told_last:
            told_last = second
            tell("Looking for cuts", second, seconds)

    found = tuple(round(cut, 3) for cut in cuts(film, told))
    silent = silences or not cues
    parts, warnings = parts_of(cues, found, info.duration, silences=silent)
    if not any(cue.text for cue in cues):
        read = "stretches of speech" if cues else "shots"
        warnings.append(f"Nothing that is said is known; the {read} are read by their faces alone.")
    plan = Plan(info, tuple(parts), found, tuple(warnings))
    book.add(
        {
            "kind": "plan",
            "film": asdict(info) | {"path": str(info.path)},
            "parts": [part.to_json() for part in parts],
            "cuts": list(found),
            "warnings": warnings,
        }
    )
    return plan


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """A part with its persons recognised.

    Attributes:
        part, seen: which one, and what it shows.
        sighted: its persons, and `numbers` the film's number of each.
        person: who speaks; None when that is not clear.
        who: the name the part counts for.
    """

    part: Part
    seen: Seen
    sighted: list[Sighting]
    numbers: list[int | None]
    person: int | None
    who: str | None


def _answered(
    read: Sequence[tuple[Part, Seen]],
    known: _Known,
    ask: Ask,
    model: str,
    tasks: Sequence[str],
    film: VideoInfo,
) -> Iterator[dict[str, Any]]:
    """The lines of some parts, answered together."""
    turns = {
        conversation: [(turn.speaker, turn.text) for turn in said]
        for conversation, said in known.turns.items()
    }
    looked, interviews = [], []
    for part, seen in read:
        one = _recognised(part, seen, known.cast)
        said = turns.setdefault(part.conversation, [])
        interviews.append(_interview(one, said[-CONTEXT:], tasks, model, film))
        looked.append(one)
        if part.text:
            said.append((one.who or "Someone", part.text))
    asked = [talk for talk in interviews if talk is not None]
    answers = iter(together(ask, asked))
    for one, talk in zip(looked, interviews, strict=True):
        found = None if talk is None else next(answers)
        warnings = [one.seen.error] if one.seen.error else []
        if found is not None and not isinstance(found, Analysis):
            warnings.append(str(found))
        yield rows.part_row(
            one.part,
            one.seen,
            found if isinstance(found, Analysis) else None,
            who=one.who,
            person=one.person,
            numbers=one.numbers,
            sighted=one.sighted,
            fresh={n for n in one.numbers if n is not None and n not in known.portrayed},
            warnings=warnings,
        )


def _recognised(part: Part, seen: Seen, people: Cast) -> _Looked:
    if seen.watched is None:
        return _Looked(part, seen, [], [], None, part.speaker)
    track = seen.watched.track
    sighted = rows.sightings(part, track)
    numbers = people.recognise(sighted, rows.at_once(track))
    local = rows.speaking(track) if part.text else rows.peaking(track)
    person = None if local is None else numbers[local]
    who = part.speaker or (None if person is None else f"Person {person}")
    return _Looked(part, seen, sighted, numbers, person if part.text else None, who)


def _interview(
    one: _Looked,
    context: Sequence[tuple[str, str]],
    tasks: Sequence[str],
    model: str,
    film: VideoInfo,
) -> Interview | None:
    """What is asked of a part; None when it has neither face nor words."""
    watched = one.seen.watched or Watched(str(film.path), FaceTrack(film))
    if not watched.face and not one.part.text:
        return None
    asked = [task for task in tasks if task in CLIP_TASKS]
    return clip_interview(watched, one.part.text, asked, model, speaker=one.who, context=context)


def _find_causes(plan: Plan, known: _Known, book: Journal, ask: Ask, tasks: Sequence[str]) -> None:
    """Find the causes of every window that is answered by now."""
    if "ecpe" not in tasks:
        return
    counts: dict[int, int] = {}
    for part in plan.parts:
        if part.text:
            counts[part.conversation] = counts.get(part.conversation, 0) + 1
    for conversation, turns in known.turns.items():
        for window in windows(counts[conversation]):
            key = (conversation, window.number)
            if key in known.windows or window.stop > len(turns):
                continue
            shown = turns[window.first : window.stop]
            found = find_causes(ask, shown, window.asked - window.first)
            book.add(
                {
                    "kind": "causes",
                    "conversation": conversation,
                    "window": window.number,
                    "shown": [turn.index for turn in shown],
                    "pairs": [list(pair) for pair in found.pairs],
                    "probabilities": {
                        str(target): {str(n): round(p, 4) for n, p in causes.items()}
                        for target, causes in found.probabilities.items()
                    },
                }
            )
            known.windows.add(key)
