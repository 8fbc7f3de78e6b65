"""TensorBoard's event files, written without TensorBoard.

A file is a run of records: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of
the data, all little-endian. The data is an `Event` message of protocol buffers: wall_time (field 1,
double), step (2, varint), file_version (3, text) or summary (5) with values (1) of tag (1, text)
and simple_value (2, float). Source: tensorflow/core/lib/io/record_writer.cc, event.proto and
summary.proto.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed


def _table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (_POLYNOMIAL if number & 1 else 0)
        table.append(number)
    return tuple(table)


_TABLE = _table()


def open_events(folder: Path) -> BinaryIO:
    """A new event file in `folder`; TensorBoard joins several of one run by their steps."""
    folder.mkdir(parents=True, exist_ok=True)
    who = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
    file = (folder / f"events.out.tfevents.{who}.emoverse").open("ab")
    _write(file, _double(1, time.time()) + _bytes(3, b"brain.Event:2"))
    return file


def write_scalars(file: BinaryIO, step: int, values: Mapping[str, float]) -> None:
    """Append values of one step; a reader sees them at once."""
    summary = b"".join(
        _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
    )
    _write(file, _double(1, time.time()) + _varint(2 << 3) + _varint(step) + _bytes(5, summary))


def _write(file: BinaryIO, data: bytes) -> None:
    length = struct.pack("<Q", len(data))
    file.write(length + _masked(length) + data + _masked(data))
    file.flush()


def _masked(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
