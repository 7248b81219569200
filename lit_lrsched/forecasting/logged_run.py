"""A logged run: losses at some steps, and the learning rate of every step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lit_lrsched.errors import InputError, described, shown
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath


class LoggedRun:
    """What a training logged: losses at some steps, and the learning rate of every step.

    Rows that are out of order are sorted. Of rows with the same step the last one with a finite loss counts, and rows
    before step 1 or whose step or loss is not a finite number are left out; ``left_out`` counts both.

    Args:
        steps: How many optimizer steps were done at each logged loss, ``[points]``; at most the run's length.
        losses: The losses, ``[points]``.
        rates: The learning rate of every step of the run, from step 0 to its end, ``[length]``, the warmup included.
        name: What messages call the run.

    Raises:
        InputError: When arrays are not numbers or do not fit each other, a step is not whole, a rate is negative or not
            finite, or the run tells nothing: no loss is finite, the last ones are not, or they do not fall.

    >>> run = LoggedRun(steps=[2, 1, 4, 4], losses=[2.5, 3.0, 2.2, 2.1], rates=[0.1, 0.1, 0.1, 0.05])
    >>> run.steps.tolist(), run.losses.tolist(), run.left_out
    ([1, 2, 4], [3.0, 2.5, 2.1], 1)
    """

    def __init__(
        self, steps: npt.ArrayLike, losses: npt.ArrayLike, rates: npt.ArrayLike | RatePath, name: str = "a run"
    ) -> None:
        self.name = name
        self.path = rates if isinstance(rates, RatePath) else RatePath.of(_column_of_rates(rates, name))
        _check_rates(self.path.rates, name)
        given, values = _columns(steps, losses, name)
        rows, known = len(given), np.isfinite(given)
        given, values = given[known], values[known]
        _check_whole(given, name)
        order = np.lexsort((np.isfinite(values), given))  # of rows of one step those come last that have a number
        given, values = given[order], values[order]
        kept = np.append(given[1:] != given[:-1], True) & (given >= 1)
        _check_end(given[kept], values[kept], name)
        kept &= np.isfinite(values)
        _check_length(given[kept][-1], self.path.length, name)
        self.left_out = int(rows - kept.sum())
        self.steps, self.losses = given[kept].astype(np.int64), values[kept]
        _check_begun(self.steps[-1], self.path.begun, name)
        _check_falls(self.losses, name)

    @property
    def rates(self) -> FloatArray:
        """The learning rate of every step, ``[length]``."""
        return self.path.rate_at(np.arange(self.path.length))

    @property
    def length(self) -> int:
        """How many steps the run has."""
        return self.path.length

    @property
    def falls(self) -> bool:
        """Whether the rate ever falls."""
        rates = self.path.rates  # a slow decay falls by next to nothing from one of them to the next
        return bool((rates < np.maximum.accumulate(rates) - 1e-3 * self.path.peak).any())

    def __repr__(self) -> str:
        return f"LoggedRun({self.name}: {len(self.steps)} losses, {self.length:,} steps, peak rate {self.path.peak:g})"


def _column_of_rates(rates: npt.ArrayLike, name: str) -> FloatArray:
    values = _numbers("rates", rates, name)
    if values.ndim != 1:
        raise InputError(f"{name}: rates of the shape {values.shape} are no column: give one a step")
    _check_rates(values, name)
    return values


def _check_rates(values: FloatArray, name: str) -> None:
    if not np.isfinite(values).all() or (values < 0).any() or not (values > 0).any():
        raise InputError(f"{name}: rates have to be finite numbers of at least 0, one a step, and not all 0")


def _columns(steps: npt.ArrayLike, losses: npt.ArrayLike, name: str) -> tuple[FloatArray, FloatArray]:
    given, values = _numbers("steps", steps, name), _numbers("losses", losses, name)
    if given.shape != values.shape or given.ndim != 1:
        raise InputError(f"{name} has {given.size} steps and {values.size} losses: give one loss for each logged step")
    return given, values


def _numbers(what: str, column: npt.ArrayLike, name: str) -> FloatArray:
    try:
        return np.atleast_1d(np.asarray(column, dtype=float))
    except Exception as error:  # a foreign type, such as a tensor with a gradient, may raise anything
        raise InputError(
            f"{name}: {what}={shown(column)} cannot be read as numbers, {described(error)}: give a list or an array"
        ) from error


def _check_whole(steps: FloatArray, name: str) -> None:
    parts = steps[steps % 1 != 0]
    if parts.size:
        raise InputError(f"{name} has a loss after step {parts[0]:g}: count whole optimizer steps, not epochs")


def _check_length(last: float, length: int, name: str) -> None:
    if last > length:
        raise InputError(
            f"{name} has a loss after step {last:.0f} and rates for {length} steps: give the rate of every step, from "
            "step 0 to the end"
        )


def _check_end(steps: FloatArray, losses: FloatArray, name: str) -> None:
    finite = np.isfinite(losses)
    if not finite.any():
        raise InputError(f"{name} has no finite loss after a step of 1 or more: leave it out")
    if not finite[-1]:
        after = int(steps[np.flatnonzero(finite)[-1]])
        raise InputError(f"{name} diverged: its loss is not finite after step {after}: leave it out")


def _check_begun(last: int, begun: int, name: str) -> None:
    if last < begun:
        raise InputError(f"{name}: the rates of all steps before its last loss are 0, so nothing trained: correct them")


def _check_falls(losses: FloatArray, name: str) -> None:
    if losses.min() <= 0:
        raise InputError(f"{name} has the loss {losses.min():g}: the laws are for losses above 0")
    if len(losses) < 8:
        return
    parts = [float(np.median(part)) for part in np.array_split(losses, min(len(losses) // 2, 10))]
    start, end = parts[0], parts[-1]
    if end > 1.5 * start:
        raise InputError(f"{name} diverged: its loss rises from {start:.4g} to {end:.4g}: leave it out")
    if end >= start:
        raise InputError(
            f"the losses of {name} do not fall, from {start:.4g} to {end:.4g}: a forecast needs a loss that falls in "
            "training"
        )
    if end > 1.2 * min(parts):
        raise InputError(
            f"the losses of {name} rise again, from {min(parts):.4g} to {end:.4g}: the laws are for losses that fall; "
            "take the training loss, or leave the run out"
        )
