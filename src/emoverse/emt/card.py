"""The dataset card: a README.md with charts, in the folder of a built dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emoverse import __version__
from emoverse.emt import charts
from emoverse.emt.dataset import QUALITY
from emoverse.emt.quality import KINDS
from emoverse.emt.record import Splits
from emoverse.emt.statistics import statistics
from emoverse.files import read_json, write_text
from emoverse.tasks import TASKS, labels


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from, and on what terms."""

    title: str
    cite: str
    terms: str
    url: str = ""


SOURCES: Mapping[str, Source] = {
    "meld": Source(
        "MELD",
        "Poria et al., ACL 2019",
        "annotations GPL-3.0; text and clips are from *Friends* and belong to its owners",
        "https://github.com/declare-lab/MELD",
    ),
    "mosei": Source(
        "CMU-MOSEI",
        "Zadeh et al., ACL 2018",
        "research use, terms of the CMU Multimodal SDK; videos belong to their authors",
        "http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
    ),
    "mosi": Source(
        "CMU-MOSI",
        "Zadeh et al., IEEE Intelligent Systems 2016",
        "research use, terms of the CMU Multimodal SDK; videos belong to their authors",
        "http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
    ),
    "ecf": Source(
        "ECF 2.0",
        "Wang et al., SemEval-2024 Task 3",
        "research use; text and clips are from *Friends* and belong to its owners",
        "https://github.com/NUSTM/SemEval-2024_ECAC",
    ),
    "merr": Source(
        "MERR",
        "Cheng et al., Emotion-LLaMA, NeurIPS 2024",
        "CC BY-NC 4.0; its clips need MER2023's own agreement",
        "https://github.com/ZebangCheng/Emotion-LLaMA",
    ),
    "photo": Source("Face photos", "the sets you named", "each set's own"),
    "paired": Source(
        "Photos with borrowed words",
        "made by EmoVerse for training alone",
        "those of the photo and of the corpus that the words are from",
    ),
}
ASKS: Mapping[str, str] = {
    "msa": "sentiment, positive or negative",
    "er": "one of seven emotions",
    "fer": "the facial expression in words",
    "eri": "the emotional state and its reason",
    "ecpe": "the utterances that caused an emotion",
}
_WORDS = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # edges of the length chart's bins


def write_card(
    splits: Splits, folder: Path, out: Path | None = None, parquet: Sequence[str] = ()
) -> Path:
    """Write `README.md` and its charts (`card/*.svg`).

    What `build.json`, `manifest.json` and `quality.json` tell is told too, where they are there.

    Args:
        splits: the records by split.
        folder: the dataset's folder.
        out: where to write; the dataset's folder when None.
        parquet: splits that lie in `data/<split>-*.parquet` there; the head of the card then
            tells Hugging Face `datasets` so.

    Returns:
        The card's path.
    """
    out = out or folder
    counts = statistics(splits)
    pictures = _charts(counts)
    for name, (_, drawn) in pictures.items():
        write_text(out / "card" / name, drawn)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    page = environment.get_template("card.md.j2").render(
        head=_front_matter(counts["records"], counts["tasks"], parquet),
        parquet=bool(parquet),
        version=__version__,
        counts=counts,
        splits=list(splits),
        asks=ASKS,
        left_out=[task for task in TASKS if task not in counts["tasks"]],
        sources=_sources(splits),
        inputs=_told(folder / "manifest.json").get("inputs", []),
        built=_built(_told(folder / "build.json"), counts["hours"]),
        charts=[
            {"file": name, "title": title}
            for name, (title, _) in pictures.items()
            if name != "tasks.svg"
        ],
        lengths=_lengths(counts["tasks"]),
        quality=_quality(_told(folder / QUALITY)),
    )
    return write_text(out / "README.md", page)


def _charts(counts: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """File name to (title, SVG)."""
    tasks = counts["tasks"]
    beside = {
        "here": {task.upper(): tasks[task]["records"] if task in tasks else 0 for task in TASKS},
        "paper's Table I": {task.upper(): counts["paper"]["tasks"][task] for task in TASKS},
    }
    title = "Records per task"
    found = {"tasks.svg": (title, charts.bars(title, beside))}
    shares = {
        task.upper(): _shares(tasks[task]["labels"], labels.EMOTIONS)
        for task in ("er", "eri", "ecpe")
        if task in tasks
    }
    if shares:
        title = "Emotions, share of a task's records"
        found["emotions.svg"] = title, charts.bars(title, shares, " %")
    if "msa" in tasks:
        title = "Sentiment, share of a split's MSA records"
        parts = {
            split: _shares({split: told}, labels.SENTIMENTS)
            for split, told in tasks["msa"]["labels"].items()
        }
        found["sentiment.svg"] = title, charts.bars(title, parts, " %")
    if "fer" in tasks:
        title = "Action units in FER answers, share of records"
        told = tasks["fer"]["labels"]
        codes = sorted({code for own in told.values() for code in own})
        n = tasks["fer"]["records"]
        share = {c: 100 * sum(own.get(c, 0) for own in told.values()) / n for c in codes}
        found["units.svg"] = title, charts.bars(title, {"FER": share}, " %")
    if counts["causes"]:
        title = "How far before its target a cause lies"
        found["causes.svg"] = title, charts.columns(title, _distances(counts["causes"]), "turns")
    if counts["words"]:
        title = "Words of an utterance"
        found["words.svg"] = title, charts.columns(title, _binned(counts["words"]), "words")
    return found


def _shares(told: Mapping[str, Mapping[str, int]], order: tuple[str, ...]) -> dict[str, float]:
    sums = {label: sum(own.get(label, 0) for own in told.values()) for label in order}
    total = sum(sums.values()) or 1
    return {label: 100 * count / total for label, count in sums.items()}


def _distances(causes: Mapping[int, int]) -> list[tuple[str, int]]:
    """Bins of the cause chart: later ones together, single ones from 0 to 6, the rest together."""
    bins = [("later", sum(n for at, n in causes.items() if at < 0))]
    bins += [("itself" if at == 0 else str(at), causes.get(at, 0)) for at in range(7)]
    return [*bins, ("7 or more", sum(n for at, n in causes.items() if at > 6))]


def _binned(words: Mapping[int, int]) -> list[tuple[str, int]]:
    bins = [
        (f"{low + 1}-{high}", sum(n for count, n in words.items() if low < count <= high))
        for low, high in pairwise(_WORDS)
    ]
    while bins and not bins[-1][1]:
        bins.pop()
    return bins


def _sources(splits: Splits) -> list[dict[str, Any]]:
    found: dict[str, int] = {}
    for part in splits.values():
        for record in part:
            found[record.source or "unnamed"] = found.get(record.source or "unnamed", 0) + 1
    rows = []
    for name, count in sorted(found.items(), key=lambda item: -item[1]):
        source = SOURCES.get(name, Source(name, "your own files", "your own"))
        rows.append(
            {
                "title": source.title,
                "cite": source.cite,
                "terms": source.terms,
                "url": source.url,
                "records": count,
            }
        )
    return rows


def _built(told: Mapping[str, Any], hours: Mapping[str, float]) -> list[str]:
    lines = []
    if "context" in told:
        has = "have" if told["context"] else "do not have"
        lines.append(f"ER queries {has} the dialogue's earlier turns in front.")
    if "skipped" in told:
        lines.append(f"{told['skipped']:,} rows of the corpora were skipped (`skipped.txt`).")
    for what, count in (told.get("clips") or {}).items():
        lines.append(f"Clips {what}: {count:,}.")
    for how, count in (told.get("captions") or {}).items():
        lines.append(f"Captions, {how}: {count:,}.")
    if "au_source" in told:
        lines.append(f"Action units are read by `--au-source {told['au_source']}`.")
    if told.get("person") == "speaker":
        lines.append("The peak frame of a clip is its speaker's (`--person speaker`).")
    if told.get("emotion_aus"):
        lines.append("Only the labelled emotion's action units are summed (`--emotion-aus`).")
    if told.get("caption_style") == "merr":
        lines.append("Captions are worded in MERR's style (`--caption-style merr`).")
    lines += _reasons(told.get("reasons") or {})
    if (leaks := told.get("leaks") or {}).get("conversations"):
        lines.append(
            f"{leaks['conversations']:,} training conversations ({leaks['records']:,} records) "
            "are in a held-out split too (`leaks.txt`)."
        )
    for kind, count in (told.get("dropped") or {}).items():
        lines.append(f"{count:,} training records were left out: {KINDS.get(kind, kind)}.")
    for source, length in hours.items():
        title = SOURCES[source].title if source in SOURCES else source
        lines.append(f"{title}: {length:.1f} hours of speech.")
    return lines


def _reasons(told: Mapping[str, Any]) -> list[str]:
    if told.get("skipped") or "accepted" not in told:
        return [str(told["skipped"])] if told.get("skipped") else []
    names = ", ".join(told["models"])
    turned_down = sum(told["rejected"].values())
    return [
        f"Reasons of {told['accepted']:,} of {told['clips']:,} clips were written by {names}; "
        f"{turned_down:,} were turned down by the quality gate, {told['failed']:,} failed."
    ]


def _lengths(tasks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": f"{task.upper()}, {name}"} | block["lengths"][name]
        for task, block in tasks.items()
        for name in ("query", "response")
        if block["lengths"][name]["n"]
    ]


def _quality(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = told.get("summary", {})
    return [
        {"what": what, "count": found[kind]["findings"]}
        for kind, what in KINDS.items()
        if kind in found
    ]


def _told(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    told = read_json(file)
    return told if isinstance(told, dict) else {}


def _front_matter(records: int, tasks: Mapping[str, Any], parquet: Sequence[str]) -> str:
    """The head of a Hugging Face dataset card."""
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    size = next((name for limit, name in sizes if records < limit), "100K<n<1M")
    lines = ["---", "license: other", "license_name: those-of-the-corpora", "language: [en]"]
    lines += ["pretty_name: EMT", f"size_categories: [{size}]", "task_categories:"]
    lines.append("- text-classification")
    lines += ["- image-text-to-text"] if any(block["media"] for block in tasks.values()) else []
    lines.append("tags: [emotion, sentiment, facial-expression, emotion-cause]")
    if parquet:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in parquet:
            lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join([*lines, "---", ""])
