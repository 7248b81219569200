"""Reads what a run wrote."""

from __future__ import annotations

import csv
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows_of(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names of its columns."""
    with Path(file).open(newline="") as lines:
        return list(csv.DictReader(lines))


def scalars(run: Path, tag: str) -> list[float]:
    """The values of one scalar, in order, from all the event files of a run."""
    # By step: files that one process writes within a second are not always read in the order of their making.
    return [event.value for event in sorted(_events(run).Scalars(tag), key=lambda event: event.step)]


def scalar_tags(run: Path) -> set[str]:
    return set(_events(run).Tags()["scalars"])


def _events(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def offline_records(file: Path) -> list[Any]:
    """The records of a run that W&B keeps offline: when its last one is there, which another process writes."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(300):
        records = [Record.FromString(data) for data in _log(file)]
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{file} has no end")


def _log(file: Path) -> Iterator[bytes]:
    """What is in a log of LevelDB: in blocks of 32 KiB, behind a header of 7 bytes."""
    data, block, at, record = file.read_bytes(), 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # what is left of a block is too short for a record
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])  # after a checksum
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def run_folder(number: int = 0) -> Path:
    """The folder of a run of ``fit`` below the working directory, whatever it is called; 0 for the first."""

    def begun(folder: Path) -> tuple[int, int]:
        # events.out.tfevents.<second>.<host>.<process>.<number within the process>
        return min((int(parts[3]), int(parts[-1])) for parts in (file.name.split(".") for file in events(folder)))

    def events(folder: Path) -> list[Path]:
        return list(folder.glob("events.out.tfevents.*"))

    return sorted(filter(events, Path("lightning_logs").iterdir()), key=begun)[number]
