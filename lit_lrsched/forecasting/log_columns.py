"""The columns of a log: a CSV file, or TensorBoard's event files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath
from lit_lrsched.forecasting.wandb_panels import of_one_run
from lit_lrsched.plans.csv_rows import csv_rows
from lit_lrsched.plans.event_files import events_in

# Which column is the loss when none is named, in this order: what generalises comes first.
_LOSSES = ("val_loss", "valid_loss", "validation_loss", "val/loss", "loss", "train_loss", "train/loss")


_FAR = 1e15  # more steps than any run has, and as many as a float counts


class Column(NamedTuple):
    """The values of a column and the steps at which they were logged, as they were found.

    Args:
        steps: The steps, ``[rows]``; nan where one cannot be read.
        values: The values, ``[rows]``; nan where one cannot be read.
    """

    steps: FloatArray
    values: FloatArray

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Where there is a number at a step of at least 0, ``[rows]``."""
        return np.isfinite(self.steps) & np.isfinite(self.values) & (self.steps >= 0)

    @property
    def by_step(self) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """The known steps in order, each once, and the last value that was logged at each, ``[steps]``."""
        steps, last = np.unique(self.steps[self.known][::-1].astype(np.int64), return_index=True)
        return steps, self.values[self.known][::-1][last]

    @property
    def last(self) -> int:
        """The last step, at least 1."""
        return int(self.steps[np.isfinite(self.steps)].max(initial=1.0))


class Log(NamedTuple):
    """A log.

    Args:
        name: What messages call it.
        columns: Its columns, without the steps.
        hyperparameters: Those that it holds as well.
        begin: What stands before the names of the columns in its file.
    """

    name: str
    columns: Mapping[str, Column]
    hyperparameters: Mapping[str, Any] = MappingProxyType({})
    begin: str = ""

    def loss(self, wanted: str | None) -> str:
        """Returns the name of the column with the loss.

        Raises:
            InputError: When there is none, none of the name that is wanted, or no number in it.
        """
        known = ", ".join(self.columns) or "none"
        if wanted is not None:
            wanted = wanted.removeprefix(self.begin) if isinstance(wanted, str) else wanted
            if not isinstance(wanted, str) or wanted not in self.columns:
                raise InputError(
                    f"{self.name} has no column {wanted!r}{did_you_mean(str(wanted), self.columns)}: it has {known}"
                )
            used = wanted
        elif found := self.losses():
            used = found[0]
        else:
            raise InputError(f"{self.name} has no column that looks like a loss: it has {known}: name one with loss")
        if not np.isfinite(self.columns[used].values).any():
            raise InputError(f"{self.name} has no finite number in its column {used!r}: name another with loss")
        return used

    def losses(self) -> list[str]:
        """Returns the names of the columns that look like a loss, the first to be taken."""
        found = [name for name in _LOSSES if name in self.columns]
        others = [name for name in self.columns if "loss" in name.lower() and not name.startswith("test")]
        found += sorted(others, key=lambda name: name.startswith("loss/"))  # where fit repeats them
        return list(dict.fromkeys(found))

    def rate(self) -> Column:
        """Returns the learning rate of the first param group.

        Raises:
            InputError: When none was logged, none that is a number, or a single one late in the run.
        """
        rates = self.rates()
        if not rates:
            known = ", ".join(self.columns) or "none"
            raise InputError(
                f"{self.name} has no column 'lr' with the learning rate: it has {known}: rename the one "
                "that has it, or state the schedule in a YAML list of runs"
            )
        name, column = next(iter(rates.items()))
        if not column.known.any():
            raise InputError(f"{self.name} has no number in its column {name!r}: log the rate of every row")
        first, last = column.steps[column.known].min(), column.last
        if first == last > 1:
            raise InputError(
                f"{self.name} has its learning rate at step {last:,} alone, which tells nothing of those before: log "
                "it from the first step on, or state the schedule in a YAML list of runs"
            )
        return column

    def last_step(self, loss: str) -> int:
        """Returns the last step at which the loss or the rate was logged."""
        return max(self.columns[loss].last, self.rate().last)

    def rates(self) -> dict[str, Column]:
        """Returns the learning rate of every param group, the first one first."""
        return {
            name: column
            for name, column in self.columns.items()
            if name in ("lr", "learning_rate") or name.startswith(("lr/", "lr-"))
            if not name.endswith(("-momentum", "-weight_decay"))  # beside them in Lightning's LearningRateMonitor
        }


def read_csv(path: Path, name: str, wanted: str | None = None) -> Log:
    """Returns the log in a CSV file with a column ``step``.

    Args:
        path: The file.
        name: What messages call it.
        wanted: The column with the loss, where it is named.

    Raises:
        InputError: When the file cannot be read, is empty, has no such column, two of one name, or several runs.
    """
    form = "a CSV with columns step, lr and a loss"
    rows = csv_rows(path, name, f"give {form}")
    header = rows[0] if rows else []
    if header and header[0].startswith(("{", "[")):
        raise InputError(f"{name} is JSON: write what it logs, such as log_history, as {form}")
    if len(rows) < 2:
        raise InputError(f"{name} has no rows: give {form}")
    if "step" not in header:
        raise InputError(
            f"{name} has no column 'step': it has {', '.join(header)}: give the one with the optimizer steps this "
            "name, and separate columns by commas"
        )
    if "value" in header and not {"key", "metric"}.isdisjoint(header):  # of MLflow
        raise InputError(f"{name} has a row for each value of any metric: give each a column, in {form}")
    if twice := [title for title in dict.fromkeys(header) if title and header.count(title) > 1]:
        raise InputError(f"{name} has two columns {twice[0]!r}: rename or delete one of them")
    steps = [_cell(row, header.index("step")) for row in rows[1:]]
    if far := [step for step in steps if _FAR < step < math.inf]:
        raise InputError(f"{name} has the step {far[0]:g}: count optimizer steps")
    columns = {}
    for place, title in enumerate(header):
        if title != "step":
            filled = [(step, _cell(row, place)) for step, row in zip(steps, rows[1:], strict=True) if _has(row, place)]
            columns[title] = _column(filled)
    columns, begin = of_one_run(columns, name, wanted)
    return Log(name, {title: column for title, column in columns.items() if len(column.steps)}, begin=begin)


def read_events(folder: Path, name: str) -> Log:
    """Returns what TensorBoard's logger wrote into a folder."""
    scalars, hyperparameters = events_in(folder)
    return Log(name, {tag: _column(values) for tag, values in scalars.items()}, hyperparameters)


def logged_path(rate: Column, steps: int | None = None) -> RatePath:
    """Returns the learning rate between logged points: interpolated, rising from 0 before the first.

    Args:
        rate: The logged rates, one of them at a step of at least 0.
        steps: How long the run is. None: to the last logged step.
    """
    places, rates = rate.by_step
    if places[0] > 0:  # a log that counts from 1 begins with the first rate there was
        places, rates = np.append(0, places), np.append(0.0 if places[0] > 1 else rates[0], rates)
    end = int(places[-1]) if steps is None else steps - 1
    inside = places < end
    return RatePath(np.append(places[inside], end), np.append(rates[inside], np.interp(end, places, rates)), end + 1)


def _column(rows: Sequence[tuple[float, float]]) -> Column:
    table = np.array(rows, dtype=float).reshape(-1, 2)
    return Column(table[:, 0], table[:, 1])


def _has(row: Sequence[str], place: int) -> bool:
    return place < len(row) and bool(row[place])


def _cell(row: Sequence[str], place: int) -> float:
    try:
        return float(row[place])
    except (ValueError, IndexError):
        return float("nan")
