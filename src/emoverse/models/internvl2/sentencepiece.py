"""SentencePiece model files, read without the SentencePiece library.

A `tokenizer.model` is a protocol-buffer message (`sentencepiece_model.proto`); only the few fields
that a BPE tokenizer needs are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emoverse.errors import EmoVerseError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_BPE = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place.

    Attributes:
        text: with `▁` for a space.
        score: of BPE merges, larger is earlier.
        kind: NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED or BYTE.
    """

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class Model:
    """A BPE model.

    Attributes:
        pieces: the vocabulary.
        byte_fallback: unknown characters are spelt in UTF-8 bytes.
        charsmap: compiled normalisation rules; empty for none.
        dummy_prefix: a space is put before every text.
        trims: runs of spaces become one, and those at the ends are dropped.
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool
    charsmap: bytes
    dummy_prefix: bool
    trims: bool


def read_model(path: Path) -> Model:
    """Read a `tokenizer.model`.

    Raises:
        EmoVerseError: the file is missing, damaged, or not a BPE model.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise EmoVerseError(f"{path}: no such file; download it beside the weights.") from None
    try:
        return _model(data, path)
    except (ValueError, IndexError, struct.error, TypeError):
        raise EmoVerseError(f"{path}: not a SentencePiece model; download it again.") from None


def _model(data: bytes, path: Path) -> Model:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(_bytes(value)))
            score = struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0]
            text = _bytes(piece.get(1, b"")).decode("utf-8")
            pieces.append(Piece(text, score, int(piece.get(3, NORMAL))))
        elif field == 2:
            trainer |= dict(_fields(_bytes(value)))
        elif field == 3:
            normalizer |= dict(_fields(_bytes(value)))
    if not pieces:
        raise ValueError("no pieces")
    if trainer.get(3, 1) != _BPE:
        raise EmoVerseError(f"{path}: not a BPE model; InternVL2's tokenizers are.")
    return Model(
        pieces=tuple(pieces),
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=_bytes(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        trims=bool(normalizer.get(4, 1)),
    )


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("expected bytes")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a message: number and value; 4- and 8-byte numbers stay bytes."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while place < len(data):
        tag = number()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, number()
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            if kind != 2:
                raise ValueError("unknown wire type")
            length = number()
        if place + length > len(data):
            raise ValueError("cut off")
        yield tag >> 3, data[place : place + length]
        place += length
