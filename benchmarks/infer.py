"""Speed of answering: `python benchmarks/infer.py [--ecf Subtask_2_train.json] [--json FILE]`.

One run measures

1. `import emoverse`, and `load_model("compact")` in a fresh process (goals: 0.5 s and 3 s);
2. one clip of 5 s, the first after loading and later ones (goal: 3 s on 2 cores);
3. five answers a clip by the engine, against five `generate` calls of plain transformers with the
   same wording, face crop and grammar (goals: 4 times faster, 99 % the same). `generate` computes
   in float32, and once more in bfloat16 where the machine is fast in that, as the engine is;
   the answers of both are held to those of float32;
4. many clips: `analyze` one by one against the same questions batched over clips;
5. a written token with the packed weights that text is written with, with plain ones in the type
   that the machine is fast in, and by transformers, beside the least it could take: the bytes of
   the weights over the memory's measured speed, and the operations of a prompt's pass.

The clips of 3 and 4 are drawn faces with sentences of ours, or with --ecf the utterances of a
SemEval-2024 Task 3 file. In 3 sentiment and emotion are not calibrated, as `generate` knows no
calibration; causes are named by the shipped rule from the probabilities of either side. It takes
some six minutes on 2 cores, --short a fraction of that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import av
import plain_generate
import torch
from plain_generate import MOST, SEEN

from emoverse.emt.record import Record
from emoverse.evaluation.semeval import load_semeval
from emoverse.faces import analyse_faces, drawn
from emoverse.files import write_json
from emoverse.inference.calibration import Calibration
from emoverse.inference.engine import Engine, load_model
from emoverse.inference.interview import CLIP_TASKS, Question, Watched, clip_interview
from emoverse.inference.together import together
from emoverse.models import compact, lean, precision, weights
from emoverse.models.decoder import Branch, begin
from emoverse.models.emoverse import EmoVerse
from emoverse.models.language import Language
from emoverse.models.lean import Lean
from emoverse.models.llama import FusedLlama
from emoverse.tasks import ecpe, er, eri, fer, msa

SAID = (
    ("Ana", "I got the job!", "joy"),
    ("Ben", "Really? That was quick.", "surprise"),
    ("Ana", "They called an hour after the interview.", "joy"),
    ("Ben", "I wish you had told me before I signed the lease.", "anger"),
    ("Ana", "I am sorry. I did not know that it would be in another town.", "sadness"),
    ("Ben", "What am I to do alone in that flat?", "fear"),
    ("Ana", "Come with me.", "neutral"),
    ("Ben", "Are you serious? I would love to!", "joy"),
)
TEXT = "I was not expecting that, give me a moment to think about it."


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip and the conversation whose last turn is said in it."""

    watched: Watched
    turns: tuple[ecpe.Turn, ...]

    def queries(self) -> dict[str, str]:
        """What is asked, but for the reason, which rests on the caption."""
        target = self.turns[-1]
        before = [(turn.speaker, turn.text) for turn in self.turns[:-1]]
        return {
            "msa": msa.query(target.text),
            "er": er.query(target.text, speaker=target.speaker, context=before),
            "fer": fer.query(),
            "ecpe": ecpe.query(self.turns, target.index),
        }


def main() -> None:
    """Run the benchmark, print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ecf", type=Path, help="Subtask_2_train.json, for real utterances")
    parser.add_argument("--limit", type=int, default=12, help="clips of parts 3 and 4")
    parser.add_argument("--short", action="store_true", help="two clips, nothing is repeated")
    parser.add_argument("--only", type=int, nargs="+", choices=range(1, 6), default=[1, 2, 3, 4, 5])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    limit, repeats = (2, 1) if given.short else (given.limit, 3)
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(precision.fast()).removeprefix("torch."),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = made_clips(folder, given.ecf, limit) if {3, 4} & set(given.only) else []
        parts: dict[str, Callable[[], Any]] = {
            "start": lambda: start_up(repeats),
            "five_second_clip": lambda: one_clip(folder, 1 + repeats),
            "five_answers": lambda: five_answers(clips),
            "many_clips": lambda: many_clips(clips),
            "written_token": lambda: written_token((1, 4) if given.short else (1, 2, 4, 6, 8, 16)),
        }
        for number, (part, work) in enumerate(parts.items(), 1):
            if number in given.only:
                result[part] = work()
                print(f"{part} is measured.", file=sys.stderr)
    result["goals"] = goals(result)
    if given.json:
        write_json(given.json, result)
    print(json.dumps(result, indent=2))


def goals(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The goals of the parts that were measured: what was found, and whether it suffices."""
    wanted = (
        ("import_seconds", "start", "import_emoverse", "at most", 0.5),
        ("load_seconds", "start", "load_model", "at most", 3.0),
        ("five_second_clip_seconds", "five_second_clip", "later_best_total", "at most", 3.0),
        (
            "times_faster_than_generate",
            "five_answers",
            "times_faster_than/generate_float32",
            "at least",
            4.0,
        ),
        (
            "same_labels_sets_and_pairs_percent",
            "five_answers",
            "same_as_generate_float32_percent/engine/labels",
            "at least",
            99.0,
        ),
        (
            "same_reasons_percent",
            "five_answers",
            "same_as_generate_float32_percent/engine/eri",
            "at least",
            99.0,
        ),
    )
    found = {
        name: reduce(lambda row, key: row[key], path.split("/"), result[part])
        for name, part, path, *_ in wanted
        if part in result
    }
    return {
        name: {
            "found": found[name],
            "goal": f"{way} {limit:g}",
            "met": found[name] <= limit if way == "at most" else found[name] >= limit,
        }
        for name, _, _, way, limit in wanted
        if name in found
    }


def start_up(repeats: int) -> dict[str, float]:
    """Seconds, each the best of some fresh processes."""
    code = (
        "import time; t = time.perf_counter(); import emoverse; a = time.perf_counter();"
        "import emoverse.inference.engine; b = time.perf_counter();"
        "emoverse.load_model('compact'); c = time.perf_counter(); print(a - t, b - a, c - b)"
    )
    rows = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        rows.append([float(word) for word in done.stdout.split()])
    names = ("import_emoverse", "libraries_on_first_use", "load_weights")
    found = {name: round(min(row[n] for row in rows), 3) for n, name in enumerate(names)}
    return found | {"load_model": round(min(row[1] + row[2] for row in rows), 3)}


def one_clip(folder: Path, times: int) -> dict[str, Any]:
    """Wall seconds of `analyze` on five seconds of the demo clip, after loading."""
    file = _first_seconds(weights.demo_clip(), folder / "five.mp4", 5.0)
    engine = load_model("compact")
    found = []
    for _ in range(times):
        start = time.perf_counter()
        analysis = engine.analyze(file, TEXT)
        found.append({**analysis.seconds, "total": time.perf_counter() - start})
    later = min(found[1:], key=lambda row: row["total"])
    return {
        "first": _rounded(found[0]),
        "later_best": _rounded(later),
        "later_best_total": round(later["total"], 2),
    }


def five_answers(clips: Sequence[Clip]) -> dict[str, Any]:
    """The engine against plain `generate`; both get the face crop, measured before."""
    engine = load_model("compact")
    shipped = engine.calibration
    engine.calibration = Calibration(
        cause_threshold=shipped.cause_threshold, cause_form=shipped.cause_form
    )
    plain = {"generate_float32": _plain(torch.float32)}
    if precision.fast() != torch.float32:
        plain["generate_bfloat16"] = _plain(precision.fast())
    _by_engine(engine, clips[0])  # all are warm
    for model in plain.values():
        _by_generate(model, clips[0], None)
    seconds = dict.fromkeys(("engine", *plain), 0.0)
    same: dict[str, dict[str, list[bool]]] = {}
    tokens = 0
    for clip in clips:
        start = time.perf_counter()
        found = {"engine": _by_engine(engine, clip)}
        seconds["engine"] += time.perf_counter() - start
        for name, model in plain.items():
            start = time.perf_counter()
            found[name], written = _by_generate(model, clip, found["engine"]["fer"])
            seconds[name] += time.perf_counter() - start
            found[name]["ecpe"] = plain_generate.decided(engine, model, clip.queries()["ecpe"])
            tokens += written if name == "generate_float32" else 0
        truth = found.pop("generate_float32")
        for name, answers in found.items():
            rows = same.setdefault(name, {task: [] for task in MOST})
            for task in MOST:
                rows[task].append(_same(task, answers[task], truth[task]))
    return {
        "clips": len(clips),
        "seconds_a_clip": {name: round(spent / len(clips), 3) for name, spent in seconds.items()},
        "times_faster_than": {
            name: round(seconds[name] / seconds["engine"], 2) for name in seconds if name in plain
        },
        "tokens_generated_a_clip": round(tokens / len(clips), 1),
        "same_as_generate_float32_percent": {
            name: {task: _percent(some) for task, some in rows.items()} | {"labels": _labels(rows)}
            for name, rows in same.items()
        },
    }


def _plain(dtype: torch.dtype) -> EmoVerse:
    model = compact.load(dtype=dtype)
    model.network.model.language_model.set_attn_implementation("sdpa")
    return model


def _labels(same: dict[str, list[bool]]) -> float:
    return _percent([*chain(*(found for task, found in same.items() if task != "eri"))])


def many_clips(clips: Sequence[Clip]) -> dict[str, float]:
    """Seconds a clip for its four answers, faces measured before."""
    engine = load_model("compact")

    def interviews(some: Sequence[Clip]) -> list[Any]:
        return [clip_interview(c.watched, c.turns[-1].text, CLIP_TASKS, "compact") for c in some]

    result = {}
    for size in (1, 4, 12):
        start = time.perf_counter()
        for first in range(0, len(clips), size):
            together(engine.ask, interviews(clips[first : first + size]))
        result[f"together_{size}"] = round((time.perf_counter() - start) / len(clips), 3)
    return result


def written_token(rows: Sequence[int]) -> dict[str, Any]:
    """Milliseconds of a step over one token a row, and what bounds it."""
    packed, model, plain = lean.load().writer, lean.load(dtype=precision.fast()), compact.load()
    ways: dict[str, tuple[Language, FusedLlama | None]] = {
        "packed": (packed, packed.llama),
        "plain": (model, model.llama),
        "transformers": (plain, None),
    }
    table = {
        count: {name: _step_ms(model, *way, count) for name, way in ways.items()} for count in rows
    }
    dtype = model.llama.dtype
    config = plain.network.config.text_config
    numbers = sum(p.numel() for p in plain.network.model.language_model.parameters())
    block = torch.ones(64 << 20, dtype=torch.int32)
    speed = block.numel() * 4 / _best(block.max)
    square = torch.ones(1024, 1024, dtype=dtype)
    flops = 2 * 1024**3 / _best(lambda: square @ square)
    inner = numbers - config.vocab_size * config.hidden_size
    return {
        "ms_by_rows": table,
        "memory_gb_a_second": round(speed / 1e9, 1),
        "gflops_a_second": round(flops / 1e9),
        "floor_ms": {
            "packed": round(1e3 * 2 * numbers / speed, 1),
            "plain": round(1e3 * dtype.itemsize * numbers / speed, 1),
        },
        "floor_ms_of_a_prompt_of_256_tokens": round(1e3 * 2 * inner * 256 / flops, 1),
    }


def made_clips(folder: Path, ecf: Path | None, limit: int) -> list[Clip]:
    """Clips that show the drawn faces in turn."""
    shown = []
    for look in list(drawn.LOOKS)[:limit]:
        file = drawn.clip(folder / f"{look}.mp4", look)
        shown.append(Watched(str(file), analyse_faces(file)))
    if ecf:
        talks = [conversation.turns for conversation in load_semeval(ecf)]
    else:
        said = [SAID[n:] + SAID[:n] for n in range(len(SAID))]
        talks = [tuple(ecpe.Turn(n, *turn) for n, turn in enumerate(talk, 1)) for talk in said]
    stretches = [
        turns[:stop]
        for turns in talks
        for stop in range(2, min(len(turns), 12) + 1)
        if turns[stop - 1].emotion != "neutral"
    ]
    step = max(1, len(stretches) // limit)
    chosen = stretches[::step][:limit]
    return [Clip(shown[n % len(shown)], tuple(turns)) for n, turns in enumerate(chosen)]


def _by_engine(engine: Engine, clip: Clip) -> dict[str, str]:
    queries = clip.queries()
    found = engine.ask([_question(task, query, clip) for task, query in queries.items()])
    texts = {task: one.text for task, one in zip(queries, found, strict=True)}
    reason = eri.query(clip.turns[-1].text, texts["fer"])
    return texts | {"eri": engine.ask([_question("eri", reason, clip)])[0].text}


def _question(task: str, query: str, clip: Clip) -> Question:
    # As in `clip_interview`: conversations and reasons are asked about in words alone.
    return Question(Record(query, "", task, id="1"), clip.watched if task in SEEN else None)


def _by_generate(model: EmoVerse, clip: Clip, caption: str | None) -> tuple[dict[str, str], int]:
    queries = clip.queries() | {"eri": eri.query(clip.turns[-1].text, caption)}
    return plain_generate.answers(model, clip.watched.track, queries)


def _same(task: str, mine: str, plain: str) -> bool:
    """Whether two answers say the same; the engine cuts a sentence off that is not finished."""
    if task == "eri":
        return bool(mine) and plain.startswith(mine)
    return bool(_label(task, mine) == _label(task, plain))


def _label(task: str, text: str) -> Any:
    if task == "msa":
        return msa.parse(text)
    if task == "er":
        return er.parse(text)
    return frozenset(fer.parse(text) if task == "fer" else ecpe.parse(text) or ())


def _step_ms(model: Lean, asked: Language, fused: FusedLlama | None, rows: int) -> float:
    sizes = model.llama.shape
    shape = (sizes.layers, sizes.groups, 256, sizes.width)
    made = torch.Generator().manual_seed(0)
    branch = Branch(
        torch.randn(shape, generator=made).to(model.llama.dtype),
        torch.randn(shape, generator=made).to(model.llama.dtype),
        torch.zeros(model.llama.words.shape[1], dtype=model.llama.dtype),
        256,
    )
    steps, seen = begin(asked, [branch] * rows, fused)
    times = []
    with torch.inference_mode():
        for n in range(16):
            seen = torch.cat([seen, torch.ones(rows, 1, dtype=torch.bool)], dim=1)
            start = time.perf_counter()
            place = torch.full((rows, 1), 256 + n)
            states = steps.step(torch.full((rows, 1), 100 + n), place, seen[:, None])
            steps.logits(states[:, 0])
            times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[4:]), 1)


def _best(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _first_seconds(source: Path, target: Path, seconds: float) -> Path:
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        given = read.streams.video[0]
        stream = written.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = given.width, given.height, "yuv420p"
        for frame in read.decode(given):
            if frame.time is not None and frame.time >= seconds:
                break
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    return target


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in row.items()}


def _percent(found: Sequence[bool]) -> float:
    return round(100 * sum(found) / len(found), 1)


if __name__ == "__main__":
    main()
