"""Clips of a drawn face that the landmark model takes for one, and corpora made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.faces.clips import write

MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime\n"
_EMOTIONS = ("joy", "anger", "surprise", "neutral", "fear")
_SENTIMENTS = ("positive", "negative", "positive", "neutral", "negative")


def face(mouth: float, shift: int = 0) -> np.ndarray:
    """A face, uint8 (240, 320, 3), its mouth open by 0..1, moved `shift` pixels to the right."""
    image = Image.new("RGB", (640, 480), (90, 110, 140))
    draw = ImageDraw.Draw(image)
    x, y = 320 + 2 * shift, 240
    draw.ellipse((x - 130, y - 190, x + 130, y + 150), fill=(70, 45, 30))
    draw.rectangle((x - 50, y + 100, x + 50, y + 240), fill=(200, 150, 120))
    draw.ellipse((x - 110, y - 150, x + 110, y + 170), fill=(224, 172, 140))
    for eye in (x - 45, x + 45):
        draw.arc((eye - 28, y - 68, eye + 28, y - 28), 200, 340, fill=(60, 40, 30), width=9)
        draw.ellipse((eye - 20, y - 32, eye + 20, y - 10), fill=(245, 245, 245))
        draw.ellipse((eye - 9, y - 31, eye + 9, y - 11), fill=(50, 30, 20))
    nose = [(x - 6, y - 20), (x + 6, y - 20), (x + 22, y + 48), (x - 22, y + 48)]
    draw.polygon(nose, fill=(205, 150, 120))
    for nostril in (x - 10, x + 10):
        draw.ellipse((nostril - 6, y + 40, nostril + 6, y + 50), fill=(120, 70, 60))
    gap = round(6 + 30 * mouth)
    draw.ellipse((x - 42, y + 85 - gap // 2, x + 42, y + 95 + gap), fill=(170, 70, 75))
    draw.ellipse((x - 30, y + 88 - gap // 3, x + 30, y + 90 + gap // 1.5), fill=(80, 20, 25))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(3)).resize((320, 240)))


def clip(path: Path, peak: int, count: int = 24, shift: int = 0, fps: int = 12) -> Path:
    """A clip whose mouth opens towards frame `peak` and closes again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [face(max(0.0, 1 - abs(i - peak) / 6), shift) for i in range(count)]
    return write(path, images, fps=fps)


def meld(folder: Path, clips: int = 5) -> Path:
    """MELD as its archive lies on disk: dialogue 0, an utterance a clip."""
    rows = [
        f"{i},Line {i},Ann,{_EMOTIONS[i % 5]},{_SENTIMENTS[i % 5]},0,{i}," + _times(0, 2)
        for i in range(clips)
    ]
    for i in range(clips):
        clip(folder / "train" / "train_splits" / f"dia0_utt{i}.mp4", 4 + 2 * (i % 8), shift=i % 7)
    (folder / "train" / "train_sent_emo.csv").write_text(MELD + "\n".join(rows) + "\n")
    return folder


def mosei(folder: Path, parts: Sequence[tuple[float, float]]) -> Path:
    """CMU-MOSEI with one whole video, cut by its table's times."""
    clip(folder / "videos" / "abc.mp4", peak=40, count=60)
    rows = [f"abc\t{a}\t{b}\t{1 - i}\t{i}\tSome words {i}" for i, (a, b) in enumerate(parts)]
    (folder / "train.tsv").write_text("vid\tstart\tstop\tlabel\tcid\ttext\n" + "\n".join(rows))
    return folder


def _times(start: int, end: int) -> str:
    return f'"00:00:{start:02},000","00:00:{end:02},000"'
