"""What trainings leave behind, kept on disk as they finish: a file a chunk in ``parts``, one file when all are done.

These files are the truth, and carry a checksum; ``results.csv`` is written from them for people and never read. A kill
at any moment loses no finished chunk and leaves nothing half-written that would be believed: a part that cannot be read
in full does not count, and its runs are trained again. The final files depend on the runs alone, not on the order in
which they finished or on interruptions: rows are sorted, and floats are written so that reading them gives the same
float back.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lit_lrsched.comparison.definition import Definition
from lit_lrsched.comparison.evidence.runs import FloatArray, Run, RunKey
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import rank_zero_info

_KEY = tuple(field.name for field in dataclasses.fields(RunKey))
_TAKEN = (*_KEY, "definition", "diverged", "epochs", "metric_names", "metrics", "checksum", "file", "allow_pickle")


@dataclass(frozen=True, eq=False)
class Record:
    """One training and all that it logged.

    Args:
        key: What tells it from the others of the race.
        metrics: Metrics at the end of training by name, those of the test data included.
        curves: Metrics after each epoch by name, ``[epochs]``, all of one length.
        diverged: Whether training broke down.
    """

    key: RunKey
    metrics: Mapping[str, float]
    curves: Mapping[str, FloatArray]
    diverged: bool = False

    def run(self, validation: str, test: str) -> Run:
        """Returns the run as the statistics take it.

        Args:
            validation: Name of the metric that chooses the setting; its curve comes along where there is one.
            test: Name of the metric that judges.

        >>> key = RunKey("rex", 0.1, 0.9, 0.0, 7)
        >>> record = Record(key, {"val_acc": 0.9, "test_acc": 0.8}, {"val_acc": np.array([0.7])})
        >>> record.run("val_acc", "test_acc")  # doctest: +ELLIPSIS
        Run(key=RunKey(schedule='rex', ...), validation=0.9, test=0.8, diverged=False, curve=(0.7,))
        """
        curve = tuple(map(float, self.curves.get(validation, ())))
        return Run(self.key, _exact(self.metrics[validation]), _exact(self.metrics[test]), self.diverged, curve)


def _exact(value: float) -> float:
    """Returns a metric without the digits that single precision makes up: they would break ties."""
    return float(f"{value:.6g}")


class RecordStore:
    """The records of one race in a folder, which is taken up where an interrupted race left it.

    Args:
        folder: The folder, made when it is not there.
        metrics: Names of the metrics that every record has, in the order of their columns.
        definition: What decides the results of this race besides the keys of its runs.

    Raises:
        InputError: When the folder holds what is not this race's: results of another definition or of other metrics,
            another ``results.csv``, or a ``curves.npz`` that is damaged.

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> store = RecordStore(folder, ["val_acc"])
    >>> for name, end in (("rex", 0.9), ("cosine", 0.7)):
    ...     key = RunKey(name, 0.3, 0.0, 0.0, 1)
    ...     kept = store.append([Record(key, {"val_acc": end}, {"val_acc": np.array([0.6, end])})])
    >>> [record.key.schedule for record in RecordStore(folder, ["val_acc"]).finish()]
    ['cosine', 'rex']
    >>> print((folder / "results.csv").read_text().strip())
    schedule,lr,momentum,weight_decay,seed,val_acc,diverged
    cosine,0.3,0.0,0.0,1,0.7,False
    rex,0.3,0.0,0.0,1,0.9,False
    """

    def __init__(self, folder: Path, metrics: Sequence[str], definition: Definition | None = None) -> None:
        self._table = folder / "results.csv"
        self._curves = folder / "curves.npz"
        self._parts = folder / "parts"
        self._metrics = tuple(metrics)
        folder.mkdir(parents=True, exist_ok=True)
        stored, damaged = _read(folder)
        self._records = stored.records
        self._definition = (definition or Definition()).with_schedules_of(stored.definition)
        _refuse_another(folder, stored.definition, self._definition)
        for record in self._records.values():
            if set(record.metrics) != set(metrics):
                raise InputError(
                    f"{folder} holds runs that log {', '.join(record.metrics)}, those trained now log "
                    f"{', '.join(metrics)}: give it a folder of its own"
                )
        if not self._records and not damaged and self._table.exists():
            self._refuse_table_of_others()
        for part in damaged:
            rank_zero_info(f"{part} is damaged: its runs are trained again.")
            part.unlink()
        if not self._table.exists() or self._table.read_bytes() != self._csv(self._records.values()):
            _write(self._table, self._csv(self._records.values()))

    @property
    def done(self) -> set[RunKey]:
        """The runs that need no training any more."""
        return set(self._records)

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Keeps the records of a finished chunk, and returns them as they are kept: all with the same metrics.

        What a run did not log is nan, as all is that broke off, or a metric of classes that only some seeds have among
        their rows. What it alone logged is left out.
        """
        kept = [
            dataclasses.replace(record, metrics={name: record.metrics.get(name, np.nan) for name in self._metrics})
            for record in records
        ]
        self._parts.mkdir(exist_ok=True)
        number = 1 + max((int(part.stem) for part in _parts(self._parts.parent)), default=0)
        _write(self._parts / f"{number:06d}.npz", _packed(kept, self._definition, np.savez))
        rows = self._csv(kept).split(b"\n", 1)[1]
        with self._table.open("ab") as file:
            file.write(rows)
        self._records.update({record.key: record for record in kept})
        return kept

    def take_in(self, share: Path) -> None:
        """Moves in what another store left in its folder."""
        stored, _ = _read(share)
        _refuse_another(share, stored.definition, self._definition)
        if records := [record for key, record in stored.records.items() if key not in self._records]:
            self.append(records)
        shutil.rmtree(share)

    def finish(self) -> list[Record]:
        """Writes the final files, rows sorted by key, and returns all records so."""
        records = [self._records[key] for key in sorted(self._records)]
        _write(self._curves, _packed(records, self._definition, np.savez_compressed))
        _write(self._table, self._csv(records))
        shutil.rmtree(self._parts, ignore_errors=True)
        return records

    def _refuse_table_of_others(self) -> None:
        """Refuses a folder that has a table and no records: somebody else's table would be overwritten."""
        header, expected = (text.partition(b"\n")[0] for text in (self._table.read_bytes(), self._csv([])))
        if not expected.startswith(header):  # a kill may have cut it
            columns, own = (text.decode(errors="replace")[:200].replace(",", ", ") for text in (header, expected))
            raise InputError(
                f"{self._table} has the columns {columns}, and the runs have {own}: give it a folder of its own"
            )

    def _csv(self, records: Iterable[Record]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_KEY, *map(_column, self._metrics), "diverged"])
        for record in records:
            values = [float(record.metrics[name]) for name in self._metrics]
            writer.writerow([*(getattr(record.key, name) for name in _KEY), *values, bool(record.diverged)])
        return text.getvalue().encode()


def metrics_of(records: Mapping[RunKey, Record]) -> list[str] | None:
    """Returns the names of the metrics that records have; None when there are none yet."""
    return next((list(record.metrics) for record in records.values()), None)


def stored_records(folder: Path, definition: Definition | None = None) -> dict[RunKey, Record]:
    """Returns the records in a folder and changes nothing there; another process may be adding to them.

    Args:
        folder: The folder.
        definition: What decides the results of the race that asks; None to take the records of any.

    Raises:
        InputError: When they are those of another race, or the folder's ``curves.npz`` is damaged.
    """
    stored, _ = _read(folder)
    if definition is not None:
        _refuse_another(folder, stored.definition, definition)
    return stored.records


def _refuse_another(folder: Path, stored: Definition, definition: Definition) -> None:
    if differences := definition.differences(stored):
        raise InputError(f"{folder} holds other runs ({'; '.join(differences)}): give it a folder of its own")


@dataclass
class _Stored:
    """What files hold: records by key, and the definition that they share."""

    records: dict[RunKey, Record] = dataclasses.field(default_factory=dict)
    definition: Definition = dataclasses.field(default_factory=Definition)

    def add(self, file: Path, other: _Stored) -> None:
        """Adds what another file of the folder holds."""
        _refuse_another(file, other.definition, self.definition)
        self.records.update(other.records)
        self.definition = other.definition.with_schedules_of(self.definition)


def _read(folder: Path) -> tuple[_Stored, list[Path]]:
    """Returns what a folder holds, and the parts that are damaged."""
    found, damaged = _Stored(), []
    whole = folder / "curves.npz"
    if whole.exists():
        try:
            found.add(whole, _unpacked(whole.read_bytes()))
        except _Damaged:
            raise InputError(
                f"{whole} is damaged, or not of this version: put a copy in its place, or give another folder, "
                "where all runs are trained again"
            ) from None
    for part in _parts(folder):
        try:
            found.add(part, _unpacked(part.read_bytes()))
        except FileNotFoundError:  # by now the other process has put all parts together
            continue
        except _Damaged:
            damaged.append(part)
    return found, damaged


def _parts(folder: Path) -> list[Path]:
    return sorted(part for part in (folder / "parts").glob("*.npz") if part.stem.isdecimal())


def _column(name: str) -> str:
    """Returns the name of a metric's column: modules may log a metric called ``lr``."""
    return f"logged_{name}" if name in _TAKEN else name


def _metric(column: str) -> str:
    name = column.removeprefix("logged_")
    return name if name in _TAKEN else column


def _write(path: Path, content: bytes) -> None:
    # Renamed into place, so that the file is there whole or not at all.
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)  # where the disk is full, half a file takes the room that is left
        error.filename = str(path)  # which a write does not tell
        raise


def _packed(records: Sequence[Record], definition: Definition, save: Callable[..., None]) -> bytes:
    """Returns records as the bytes of an npz file, by numpy's ``save``: row i of every array belongs to record i.

    ``definition`` is one text for all. ``metrics`` has a column for each of ``metric_names``. The other arrays are
    curves; ``epochs`` says how many of a row's numbers were logged, the rest is nan.
    """
    names = sorted({name for record in records for name in record.curves})
    metrics = list(records[0].metrics) if records else []
    lengths = [max((len(curve) for curve in record.curves.values()), default=0) for record in records]
    arrays: dict[str, npt.NDArray[Any]] = {
        "definition": np.array([definition.as_json()], dtype=np.str_),
        "schedule": np.array([record.key.schedule for record in records], dtype=np.str_),
        "lr": np.array([record.key.lr for record in records], dtype=float),
        "momentum": np.array([record.key.momentum for record in records], dtype=float),
        "weight_decay": np.array([record.key.weight_decay for record in records], dtype=float),
        "seed": np.array([record.key.seed for record in records], dtype=np.int64),
        "epochs": np.array(lengths, dtype=np.int64),
        "diverged": np.array([record.diverged for record in records], dtype=bool),
        "metric_names": np.array(metrics, dtype=np.str_),
        "metrics": np.array([[record.metrics[name] for name in metrics] for record in records], dtype=float),
    }
    for name in names:
        values = np.full((len(records), max(lengths, default=0)), np.nan)
        for row, record in zip(values, records, strict=True):
            curve = record.curves.get(name, ())
            row[: len(curve)] = curve
        arrays[_column(name)] = values
    file = io.BytesIO()
    save(file, **arrays, checksum=_checksum(arrays))
    return file.getvalue()


class _Damaged(Exception):
    """A file that is not what was written."""


def _unpacked(content: bytes) -> _Stored:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile and numpy raise a dozen kinds, depending on which byte it is
        raise _Damaged from error
    # The checksums of a zip file cover each array, not its name, nor that none is missing.
    if "checksum" not in loaded or not np.array_equal(loaded.pop("checksum"), _checksum(loaded)):
        raise _Damaged
    if not {"definition", *_KEY} <= loaded.keys():
        raise _Damaged  # by an earlier version, which did not say what its runs are of
    definition = Definition.from_json(loaded.pop("definition").item())
    columns = [loaded.pop(name).tolist() for name in (*_KEY, "epochs", "diverged", "metrics")]
    metrics = loaded.pop("metric_names").tolist()
    curves = {_metric(column): values for column, values in loaded.items()}
    records = {}
    for i, (*key, epochs, diverged, values) in enumerate(zip(*columns, strict=True)):
        logged = dict(zip(metrics, values, strict=True))
        curves_of_run = {name: rows[i, :epochs] for name, rows in curves.items()}
        records[RunKey(*key)] = Record(RunKey(*key), logged, curves_of_run, diverged)
    return _Stored(records, definition)


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)
