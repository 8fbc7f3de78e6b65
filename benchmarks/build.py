"""How fast `emoverse build` measures clips and assembles text: `python benchmarks/build.py`.

Real clips are cut into pieces of a few seconds in a temporary folder. A straightforward loop
(decode every frame at full size, call the landmarker on it, keep the highest sum of Eq 1) and the
builder's workers then measure the same pieces in one run, so that the ratios hold on a busy
machine too. Prints one Markdown table. Memory is told over several rounds of the pieces.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import av

from emoverse.emt import pool
from emoverse.emt.build import build
from emoverse.emt.clips import Cut, Settings, read_look, worker
from emoverse.faces import video
from emoverse.faces.landmarks import detector
from emoverse.faces.peak import MIN_CONFIDENCE
from emoverse.faces.readers import reader
from emoverse.models import weights

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
VIDEOS = ("openface_pairs/*.mp4", "video/*.m*")
# The same film as openface_pairs/clip3.mp4, and one without any face.
LEFT_OUT = ("two_people_clip3.mp4", "no_face.mp4")
# CMU-MOSEI: 65:53:36 hours in 23,453 segments (Zadeh et al., ACL 2018, table 1), usually 30 fps.
# MELD: 13,708 utterances of 3.59 s on average (Poria et al., ACL 2019, table 2), 24 fps.
CORPORA_FRAMES = (65 * 3600 + 53 * 60 + 36) * 30 + 13_708 * 3.59 * 23.976
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Piece:
    path: Path
    frames: int


@dataclass(slots=True)
class Timing:
    frames: int = 0
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return self.frames / self.wall

    @property
    def cpu_rate(self) -> float:
        return self.frames / self.cpu


def cut(source: Path, folder: Path, seconds: float, most: int) -> list[Piece]:
    """Write a video's first pieces of `seconds` as H.264 in its own size and rate."""
    pieces: list[Piece] = []
    with av.open(str(source)) as film:
        stream = film.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or 25
        length = round(float(rate) * seconds)
        frames = film.decode(stream)
        while len(pieces) < most:
            batch = [frame for frame, _ in zip(frames, range(length), strict=False)]
            if len(batch) < length:
                break
            path = folder / f"{source.stem}_{len(pieces)}.mp4"
            with av.open(str(path), "w") as out:
                made = out.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
                made.width, made.height = batch[0].width, batch[0].height
                made.pix_fmt = "yuv420p"
                for number, frame in enumerate(batch):
                    frame = frame.reformat(format="yuv420p")
                    frame.pts, frame.time_base = number, 1 / rate
                    out.mux(made.encode(frame))
                out.mux(made.encode(None))
            pieces.append(Piece(path, length))
    return pieces


def straightforward(pieces: list[Piece], model: Path) -> tuple[Timing, dict[Path, int]]:
    """The landmarker on every full-size frame, one by one; the peak is the highest sum."""
    timing, found, read = Timing(), {}, reader(Settings().source)
    with detector("image", model=model) as eyes:
        eyes.detect(next(video.frames(pieces[0].path)).image, thorough=False)
        with clock(timing):
            for piece in pieces:
                best, at = -math.inf, -1
                for frame in video.frames(piece.path):
                    timing.frames += 1
                    for face in eyes.detect(frame.image, thorough=False):
                        total = sum(read(face).values())
                        if face.confidence >= MIN_CONFIDENCE and total > best:
                            best, at = total, frame.index
                found[piece.path] = at
    return timing, found


def built(
    pieces: list[Piece], model: Path, out: Path, workers: int, rounds: int = 1
) -> tuple[Timing, dict[Path, int], list[tuple[float, float]]]:
    """The builder's own workers; also the memory (MB) of this process and of a worker, by piece."""
    settings = Settings()
    paths = [str(piece.path) for piece in pieces] * rounds
    cuts = [Cut(f"{number:032x}", path) for number, path in enumerate(paths)]
    timing, memory = Timing(), []
    crew = pool.Crew[Cut](partial(worker, out, settings, model), workers, 3600)
    try:
        # Every worker loads its libraries on a first clip, outside the measured time.
        list(crew.run(cuts[:workers]))
        with clock(timing):
            for one in crew.run(iter(cuts)):
                assert one.failure is None, one.failure
                memory.append((resident(os.getpid()), max(resident(p) for p in children())))
        timing.frames = rounds * sum(piece.frames for piece in pieces)
    finally:
        crew.end()
    looks = {Path(cut.path): read_look(out, cut).frame for cut in cuts[: len(pieces)]}
    return timing, {path: -1 if at is None else at for path, at in looks.items()}, memory


@contextmanager
def clock(timing: Timing) -> Iterator[None]:
    """Wall and processor time of this process and its living children."""
    before, cpu = time.perf_counter(), processor()
    yield
    timing.wall, timing.cpu = time.perf_counter() - before, processor() - cpu


def children() -> list[int]:
    return [child.pid for child in active_children() if child.pid]


def processor() -> float:
    """Seconds of processor time so far; Linux keeps them in /proc/<pid>/stat, fields 14 and 15."""
    total = 0
    for pid in (os.getpid(), *children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def told(memory: tuple[float, float]) -> str:
    return f"builder {memory[0]:.0f}, larger worker {memory[1]:.0f} MB"


def assemble(out: Path) -> None:
    """Build the text-only dataset and print seconds and peak memory; runs in a child."""
    before = time.perf_counter()
    summary = build(
        out,
        meld_dir=DATA / "meld",
        mosei_dir=DATA / "mosei",
        ecf_dir=DATA / "ecf2",
        clips=False,
        log=lambda _: None,
    )
    facts = {
        "wall": time.perf_counter() - before,
        "cpu": time.process_time(),
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "records": sum(sum(part.values()) for part in summary["records"].values()),
    }
    print(json.dumps(facts))


def projected(one: float, two: float, cores: int) -> str:
    """Hours for both corpora: with the scaling from 1 to 2 kept, and lost anew at each doubling."""
    kept = CORPORA_FRAMES / (one * cores * min(1.0, two / (2 * one))) / 3600
    lost = CORPORA_FRAMES / (one * (two / one) ** math.log2(cores)) / 3600
    return f"{kept:,.1f} h" if abs(kept - lost) < 0.05 else f"{kept:,.1f} to {lost:,.1f} h"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=6.0, help="length of the pieces")
    options.add_argument("--most", type=int, default=5, help="pieces of a film")
    options.add_argument("--rounds", type=int, default=3, help="of the 2 workers over all pieces")
    options.add_argument("--assemble", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if not DATA.is_dir():
        sys.exit(f"needs the corpora and clips in {DATA}, which are not part of the project")
    if chosen.assemble:
        assemble(chosen.assemble)
        return
    films = [film for pattern in VIDEOS for film in sorted(DATA.glob(pattern))]
    model = weights.face_landmarker()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        pieces = [
            piece
            for film in films
            if film.name not in LEFT_OUT
            for piece in cut(film, place, chosen.seconds, chosen.most)
        ]
        plain, truth = straightforward(pieces, model)
        one, peaks, _ = built(pieces, model, place / "one", 1)
        two, again, memory = built(pieces, model, place / "two", 2, chosen.rounds)
        assert peaks == again, "the number of workers changed the result"
        command = [sys.executable, __file__, "--assemble", str(place / "text")]
        text = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    judged = [path for path, at in truth.items() if at >= 0]
    apart = [abs(truth[path] - peaks[path]) for path in judged]
    near = sum(gap <= 2 for gap in apart)
    cores = len(os.sched_getaffinity(0))
    rows = [
        ("pieces", f"{len(pieces)} of {chosen.seconds:g} s, {plain.frames:,} frames"),
        ("machine", f"{cores} cores, load {os.getloadavg()[0]:.1f}"),
        ("straightforward loop", f"{plain.rate:.1f} frames/s, {plain.cpu_rate:.1f} per CPU second"),
        ("1 worker", f"{one.rate:.1f} frames/s, {one.cpu_rate:.1f} per CPU second"),
        ("2 workers", f"{two.rate:.1f} frames/s, {two.cpu_rate:.1f} per CPU second"),
        ("2 workers : loop (goal 3.0)", f"{two.rate / plain.rate:.2f}"),
        ("1 worker : loop, by CPU time", f"{one.cpu_rate / plain.cpu_rate:.2f}"),
        ("scaling from 1 to 2 workers", f"{two.rate / one.rate:.2f}"),
        ("same peak within 2 frames (goal 90 %)", f"{near} of {len(judged)}"),
        ("median distance of peaks", f"{statistics.median(apart):g} frames"),
        (f"memory after {len(memory) // 4} clips", told(memory[len(memory) // 4])),
        (f"memory after {len(memory)} clips", told(memory[-1])),
        ("23,453 + 13,708 clips, 2 cores", projected(one.rate, two.rate, 2)),
        ("23,453 + 13,708 clips, 16 cores", projected(one.rate, two.rate, 16)),
        ("23,453 + 13,708 clips, 256 cores", projected(one.rate, two.rate, 256)),
        (
            "text of MELD, MOSEI, ECF (goal 10 s, 1 GB)",
            f"{text['records']:,} records in {text['wall']:.1f} s ({text['cpu']:.1f} s CPU with "
            f"imports), {text['mb']:.0f} MB",
        ),
    ]
    print("| measured | value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
