"""One clip's face work: done once, kept in one file named by its content, read back for records.

`<dataset>/faces/ab/<key>.json` holds the measurements, `<dataset>/crops/ab/<key>-peak.jpg` the peak
frame and `<key>-person0.jpg` ... a face crop of every person at the person's own peak. The key is
a hash of the clip's bytes, the part that is used, the settings, the landmark model, the libraries
and our own code, so a result is never mistaken for another's, and the same work gives the same
files on every run. The JSON is written last: where it is, the pictures are.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoverse import faces
from emoverse.errors import EmoVerseError
from emoverse.faces import openface_program, programs, track
from emoverse.faces import peak as peaks
from emoverse.faces.crop import crop
from emoverse.faces.landmarks import Detector, detector
from emoverse.faces.readers import reader
from emoverse.faces.sources import Person
from emoverse.files import read_json, sha256_of, write_bytes, write_text
from emoverse.tasks.action_units import OPENFACE_INTENSITIES

# What is measured rests on these; another release of one of them measures anew.
LIBRARIES = ("av", "mediapipe", "numpy", "pillow")
_KEY_LENGTH = 32
# Of a clip's time: a program is stopped before the pool ends the worker, so that it can tidy up.
_PROGRAM_SHARE = 0.9
# Stands for the clip's path in warnings: the same bytes may lie elsewhere next time.
_CLIP = "{clip}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How clips are looked at.

    Attributes:
        source: of the action units, one of `sources.SOURCES`. OpenFace and py-feat measure every
            frame of whole clips, the others what `max_fps` says.
        max_fps: grid points a second; the frames between them are looked at where the peak may be.
        max_frames: most grid points a clip.
        max_side: longer side in pixels of the pictures that are measured and of the peak frame.
        max_faces: most faces a frame.
        min_confidence: less certain faces cannot be the peak unless there are no others.
        person: whose peak is a clip's, `max` (Eq 2) or `speaker`, as `analyse_faces` takes it.
        person_side: side in pixels of a person's crop.
        quality: of the JPEGs, 1..95.
    """

    source: str = "mediapipe"
    max_fps: float = 5.0
    max_frames: int = track.MAX_FRAMES
    max_side: int = track.MAX_SIDE
    max_faces: int = 4
    min_confidence: float = peaks.MIN_CONFIDENCE
    person: Person = "max"
    person_side: int = 192
    quality: int = 90


@dataclass(frozen=True, slots=True)
class Cut:
    """A clip, or the part of a video that is one.

    Attributes:
        key: names its results.
        path: the file.
        start, end: seconds; 0 and None for all of it.
        aus: AU codes that Eq 1 sums; None for all.
    """

    key: str
    path: str
    start: float = 0.0
    end: float | None = None
    aus: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What the face work found in a clip.

    Attributes:
        key: names the result.
        error: why there is none; everything below is then empty.
        warnings: plain sentences.
        seconds: the clip's length.
        people: persons seen.
        intensities: AU code to 0..5 at the peak; empty without a face.
        frame, timestamp: of the peak, timestamp in seconds from the start of the part.
        peak: path of the peak frame's JPEG, relative to the dataset; None without a face.
        face: path of the crop of the person at the peak, eyes level; None without a face.
    """

    key: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    people: int = 0
    intensities: Mapping[str, float] | None = None
    frame: int | None = None
    timestamp: float | None = None
    peak: str | None = None
    face: str | None = None


def basis(settings: Settings, model: Path) -> dict[str, Any]:
    """Everything beside the clip that a result depends on; part of the key and the manifest.

    Raises:
        EmoVerseError: the settings name a program that is not installed.
    """
    program = {}
    if settings.source in programs.PROGRAMS:
        program = programs.identity(settings.source)
    return program | {
        "settings": asdict(settings),
        "model_sha256": sha256_of(model),
        "libraries": {name: version(name) for name in LIBRARIES},
        "code_sha256": _code(),
    }


def key_of(
    sha256: str,
    start: float,
    end: float | None,
    aus: tuple[str, ...] | None,
    basis: Mapping[str, Any],
) -> str:
    """The key of a clip's results: 32 hexadecimal digits."""
    content = json.dumps([sha256, start, end, aus, basis], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_KEY_LENGTH]


def result_file(out: Path, key: str) -> Path:
    """Where a clip's measurements lie in the dataset."""
    return out / "faces" / key[:2] / f"{key}.json"


def worker(
    out: Path, settings: Settings, model: Path, timeout: float = openface_program.TIMEOUT
) -> Callable[[Cut], None]:
    """Load what the face work needs; returns the work on one clip (for `pool.run`).

    Args:
        out: the dataset's folder.
        settings: of the face work.
        model: face landmark model.
        timeout: seconds for a clip, after which the pool ends this process.
    """
    if settings.source not in programs.PROGRAMS:
        reader(settings.source)  # an unknown one is told now, not once a clip
    eyes = detector(max_faces=settings.max_faces, model=model)

    def work(cut: Cut) -> None:
        measure(cut, out, settings, eyes, _PROGRAM_SHARE * timeout)
        gc.collect()  # frees decoded frames that PyAV tied into cycles

    return work


def measure(
    cut: Cut,
    out: Path,
    settings: Settings,
    eyes: Detector,
    patience: float = openface_program.TIMEOUT,
) -> None:
    """Measure a clip and write its pictures and then its result.

    A clip that cannot be read, or that a program needs more than `patience` seconds for, gets a
    result that says so.
    """
    try:
        found = _track(cut, settings, eyes, patience)
    except EmoVerseError as error:
        give_up(cut, str(error), out)
        return
    row: dict[str, Any] = {
        "seconds": round(found.info.duration, 3),
        "fps": round(found.info.fps, 3),
        "size": [found.info.width, found.info.height],
        "people": found.people,
        "warnings": [said.replace(cut.path, _CLIP) for said in found.warnings],
    }
    if found.peak is not None and found.peak_image is not None:
        pictures = {"peak": found.peak_image}
        for one in found.portraits:
            face = crop(one.image, one.landmarks, settings.person_side)
            pictures[f"person{one.frame.person}"] = face
        row["peak"] = _row(found.peak) | {"score": round(peaks.score(found.peak, cut.aus), 4)}
        row["crops"] = {
            name: _picture(out, f"{cut.key}-{name}.jpg", picture, settings.quality)
            for name, picture in pictures.items()
        }
        row["frames"] = [list(_row(frame).values()) for frame in found.frames]
        row["columns"] = ["frame", "timestamp", "person", "confidence", "box", "aus"]
        row["aus"] = list(OPENFACE_INTENSITIES)
    _write(out, cut.key, row)


def _track(cut: Cut, settings: Settings, eyes: Detector, patience: float) -> track.FaceTrack:
    if settings.source in programs.PROGRAMS:
        return programs.analyse(
            cut.path,
            settings.source,
            eyes,
            max_side=settings.max_side,
            aus=cut.aus,
            min_confidence=settings.min_confidence,
            person=settings.person,
            timeout=patience,
        )
    return track.analyse_faces(
        cut.path,
        max_fps=settings.max_fps,
        max_frames=settings.max_frames,
        max_side=settings.max_side,
        min_confidence=settings.min_confidence,
        aus=cut.aus,
        eyes=eyes,
        start=cut.start,
        end=cut.end,
        threads=1,
        source=settings.source,
        person=settings.person,
    )


def give_up(cut: Cut, why: str, out: Path) -> None:
    """Write the result of a clip that has none, and why."""
    _write(out, cut.key, {"error": why.replace(cut.path, _CLIP)})


def read_look(out: Path, cut: Cut) -> Look:
    """Read a clip's result back.

    Raises:
        EmoVerseError: it is not there.
    """
    row = read_json(result_file(out, cut.key))
    if error := row.get("error"):
        return Look(cut.key, error=error.replace(_CLIP, cut.path))
    peak, crops = row.get("peak"), row.get("crops", {})
    look = Look(
        cut.key,
        warnings=tuple(said.replace(_CLIP, cut.path) for said in row["warnings"]),
        seconds=row["seconds"],
        people=row["people"],
    )
    if peak is None:
        return look
    person = crops.get(f"person{peak['person']}")
    return Look(
        look.key,
        warnings=look.warnings,
        seconds=look.seconds,
        people=look.people,
        intensities=dict(zip(row["aus"], peak["aus"], strict=True)),
        frame=peak["frame"],
        timestamp=peak["timestamp"],
        peak=crops["peak"]["path"],
        face=person["path"] if person else None,
    )


def crop_hashes(out: Path, key: str) -> dict[str, dict[str, str]]:
    """Name (`peak`, `person0`) to path and SHA-256 of a clip's pictures."""
    found: dict[str, dict[str, str]] = read_json(result_file(out, key)).get("crops", {})
    return found


def _row(frame: faces.AUFrame) -> dict[str, Any]:
    return {
        "frame": frame.frame,
        "timestamp": round(frame.timestamp, 4),
        "person": frame.person,
        "confidence": round(frame.confidence, 4),
        "box": None if frame.box is None else [round(edge, 1) for edge in frame.box],
        "aus": [round(frame.intensities.get(code, 0.0), 4) for code in OPENFACE_INTENSITIES],
    }


def _picture(out: Path, name: str, image: np.ndarray, quality: int) -> dict[str, str]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    path = f"crops/{name[:2]}/{name}"
    write_bytes(out / path, buffer.getvalue())
    return {"path": path, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}


def _write(out: Path, key: str, row: Mapping[str, Any]) -> None:
    write_text(result_file(out, key), json.dumps(row, ensure_ascii=False) + "\n")


@cache
def _code() -> str:
    """Hash of the code that measures."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(Path(faces.__file__).parent.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
