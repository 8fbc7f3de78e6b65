from __future__ import annotations

import struct
from pathlib import Path

import pytest

from emoverse.training.events import _masked, open_events, write_scalars


def _messages(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == _masked(data[:8])
        message = data[12 : 12 + length]
        assert data[12 + length : 16 + length] == _masked(message)
        found.append(message)
        data = data[16 + length :]
    return found


def test_the_checksum_is_the_published_one() -> None:
    # RFC 3720, B.4: CRC-32C of 32 zero bytes is aa 36 91 8a, lowest byte first.
    crc = 0x8A9136AA
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert _masked(bytes(32)) == struct.pack("<I", masked)


def test_records_are_framed_as_tensorboard_reads_them(tmp_path: Path) -> None:
    with open_events(tmp_path) as file:
        write_scalars(file, 300, {"loss/er": 0.5, "training/lr": 1e-5})
    (path,) = tmp_path.iterdir()
    assert ".tfevents." in path.name
    first, second = _messages(path.read_bytes())
    assert first.endswith(b"\x1a\x0dbrain.Event:2")
    assert b"\x10\xac\x02" in second  # step 300 as a varint
    assert b"\x0a\x07loss/er\x15" + struct.pack("<f", 0.5) in second


def test_tensorboard_itself_reads_them(tmp_path: Path) -> None:
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    with open_events(tmp_path) as file:
        for step in range(3):
            write_scalars(file, step, {"loss/er": step / 2})
    read = loader.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(point.step, point.value) for point in read.Scalars("loss/er")] == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]
