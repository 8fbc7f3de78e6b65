"""OpenFace 2 itself, where it is installed: run on a clip, read, joined to our persons."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.faces import openface
from emoverse.faces.records import AUFrame

SETTING = "EMOVERSE_OPENFACE"
# The first sees several people at once.
PROGRAMS = ("FaceLandmarkVidMulti", "FeatureExtraction")
TIMEOUT = 3600.0


def find() -> Path:
    """The OpenFace program: what `EMOVERSE_OPENFACE` names (a file or its folder), else on PATH.

    Raises:
        EmoVerseError: there is none.
    """
    setting = os.environ.get(SETTING)
    if setting:
        named = Path(setting)
        tries = [named / name for name in PROGRAMS] if named.is_dir() else [named]
        found = next((path for path in tries if os.access(path, os.X_OK) and path.is_file()), None)
        if found is None:
            raise EmoVerseError(
                f"{SETTING}={setting} is no program of OpenFace; name {PROGRAMS[0]} or its folder."
            )
        return found
    on_path = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if on_path is None:
        raise EmoVerseError(
            f"OpenFace is not installed: neither {' nor '.join(PROGRAMS)} is on PATH; install "
            f"OpenFace 2, set {SETTING} to its program, or use the source mediapipe."
        )
    return Path(on_path)


def measure(
    clip: Path | str, *, timeout: float = TIMEOUT, problems: list[Problem] | None = None
) -> list[AUFrame]:
    """Run OpenFace on a video.

    Args:
        clip: the video.
        timeout: seconds after which it is stopped.
        problems: malformed rows of its output are appended here.

    Returns:
        Its rows as `openface.read` gives them; `person` is its `face_id`, see `openface_people`.

    Raises:
        EmoVerseError: it is not installed, fails, takes too long, or writes no CSV.
    """
    program = find()
    if not Path(clip).is_file():
        raise EmoVerseError(f"{clip}: no such file; check the path.")
    with tempfile.TemporaryDirectory(prefix="emoverse-openface-") as folder:
        command = [str(program), "-f", str(Path(clip).resolve()), "-out_dir", folder, "-of", "aus"]
        try:
            done = subprocess.run(
                [*command, "-aus", "-2Dfp"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise EmoVerseError(
                f"{program} took longer than {timeout:.0f} seconds on {clip}; cut the clip."
            ) from None
        except OSError as error:
            raise EmoVerseError(f"{program} cannot be run ({error.strerror}).") from None
        written = sorted(Path(folder).glob("*.csv"))
        if done.returncode or not written:
            last = ["", *(done.stderr or done.stdout).strip().splitlines()][-1]
            raise EmoVerseError(
                f"{program} failed on {clip} (exit {done.returncode}) {last}".rstrip()
                + "; run it by hand to see why."
            )
        return openface.read(written[0], problems=problems)
