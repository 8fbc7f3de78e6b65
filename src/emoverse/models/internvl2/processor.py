"""A converted checkpoint's processor, also where torchvision is missing.

In transformers, `InternVLProcessor` cannot be opened without its video processor, and that needs
torchvision. EmoVerse shows clips as pictures, so pictures are all its processor has to know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    InternVLProcessor,
    ProcessorMixin,
)
from transformers.utils.import_utils import is_torchvision_available

from emoverse.files import read_json, write_json

_VIDEO = "video_preprocessor_config.json"


class PictureProcessor(InternVLProcessor):
    """`InternVLProcessor` without the part for videos, whose settings it only passes on."""

    video_settings: dict[str, Any] | None = None

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts: a picture processor and a tokenizer."""
        parts = super().get_attributes()  # type: ignore[no-untyped-call]
        return [name for name in parts if name != "video_processor"]

    def save_pretrained(
        self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write the processor, and the settings for videos as they were found."""
        written: list[str] = super().save_pretrained(save_directory, push_to_hub, **kwargs)
        if self.video_settings:
            write_json(Path(save_directory) / _VIDEO, self.video_settings)
        return written


# Saved folders name the processor's class; with torchvision they open as the whole one.
PictureProcessor.__name__ = InternVLProcessor.__name__


def open_processor(source: str) -> ProcessorMixin:
    """Open a model's processor.

    Args:
        source: folder or hub id.

    Returns:
        Its own; of a converted InternVL2, where torchvision is missing, one for pictures alone.

    Raises:
        OSError: there is none.
    """
    settings = Path(source) / "processor_config.json"
    internvl = settings.is_file() and read_json(settings).get("processor_class") == (
        InternVLProcessor.__name__
    )
    if not internvl or is_torchvision_available():
        return AutoProcessor.from_pretrained(source)  # type: ignore[no-any-return, no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(source)
    processor = PictureProcessor(
        AutoImageProcessor.from_pretrained(source),  # type: ignore[no-untyped-call]
        tokenizer,
        image_seq_length=read_json(settings).get("image_seq_length", 256),
        chat_template=tokenizer.chat_template,
    )
    if (Path(source) / _VIDEO).is_file():
        processor.video_settings = read_json(Path(source) / _VIDEO)
    return processor
