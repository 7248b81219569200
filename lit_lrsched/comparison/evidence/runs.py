"""The runs of a race as plain numbers, and what a diverged one counts as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["min", "max"]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, order=True)
class RunKey:
    """What tells a training from the others of its race.

    Args:
        schedule: Name of the schedule.
        lr: Peak learning rate: the base that the schedule multiplies.
        momentum: Momentum, or first beta; 0 where the optimizer has none.
        weight_decay: Weight decay of the first param group that has one; 0 where none has.
        seed: Runs with the same seed share the split, the initial weights and the batch order.
    """

    schedule: str
    lr: float
    momentum: float
    weight_decay: float
    seed: int

    @property
    def setting(self) -> tuple[str, float, float, float]:
        """All but the seed."""
        return self.schedule, self.lr, self.momentum, self.weight_decay


@dataclass(frozen=True)
class Run:
    """A training as it is judged.

    Args:
        key: What tells it from the others.
        validation: Metric on validation data at the end of training.
        test: The same metric on test data.
        diverged: Whether training broke down. A metric that is not finite says the same.
        curve: The validation metric after each epoch.
    """

    key: RunKey
    validation: float
    test: float
    diverged: bool = False
    curve: tuple[float, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether the run diverged or ended with a metric that is not finite."""
        return self.diverged or not (math.isfinite(self.validation) and math.isfinite(self.test))


def worst_value(runs: Sequence[Run], mode: Mode) -> float | None:
    """Returns what a diverged run counts as: the worst finite value of any run that finished, at any epoch.

    Early epochs are included because a race whose final metrics are all good would otherwise let a run that broke
    down pass for a good one. The curves of diverged runs are left out: just before it breaks down a loss may reach
    1e30, which would drown every other number.

    Args:
        runs: All runs of the race.
        mode: ``"max"`` or ``"min"``: which way is better.

    Returns:
        The value, or None when no run finished.

    >>> first = Run(RunKey("a", 0.1, 0.0, 0.0, 0), 0.9, 0.8, curve=(0.4, 0.9))
    >>> second = Run(RunKey("a", 0.1, 0.0, 0.0, 1), 0.1, 0.1, diverged=True)
    >>> worst_value([first, second], "max")
    0.4
    """
    values = np.array([x for run in runs if not run.broken for x in (run.validation, run.test, *run.curve)])
    if not len(values):
        return None
    finite = values[np.isfinite(values)]  # the two at the end are
    return float(finite.min() if mode == "max" else finite.max())


def mean_curve(runs: Sequence[Run], worst: float) -> FloatArray:
    """Returns the validation metric after each epoch, averaged over runs.

    Args:
        runs: Runs of one setting. One that stopped early keeps its last value, as its weights would.
        worst: What counts where a run is not finite, and for a diverged run after it stopped.

    Returns:
        One value an epoch; empty when no run has a curve.

    >>> whole = Run(RunKey("a", 0.1, 0.0, 0.0, 0), 0.9, 0.9, curve=(0.5, 0.9))
    >>> short = Run(RunKey("a", 0.1, 0.0, 0.0, 1), 0.7, 0.7, curve=(0.7,))
    >>> [round(float(value), 3) for value in mean_curve([whole, short], worst=0.5)]
    [0.6, 0.8]
    """
    epochs = max((len(run.curve) for run in runs), default=0)
    return np.asarray(filled_curves(runs, worst, epochs).mean(axis=0))


def filled_curves(runs: Sequence[Run], worst: float, epochs: int) -> FloatArray:
    """Returns the validation metric of runs after each epoch, ``[runs, epochs]``, filled as :func:`mean_curve` says."""
    rows = []
    for run in runs:
        curve = run.curve[:epochs]
        rest = worst if run.broken or not curve else curve[-1]
        rows.append([*curve, *[rest] * (epochs - len(curve))])
    values = np.array(rows, dtype=float).reshape(len(runs), epochs)
    return np.where(np.isfinite(values), values, worst)


def time_to_target(curve: Sequence[float] | FloatArray, target: float, mode: Mode) -> int | None:
    """Returns after how many epochs a curve first reaches the target; None when it never does.

    Args:
        curve: Metric after epoch 1, 2, ...
        target: Value to reach.
        mode: ``"max"``: reach it from below. ``"min"``: from above.

    >>> time_to_target([0.5, 0.8, 0.7, 0.9], 0.75, "max")
    2
    >>> time_to_target([0.5, 0.4], 0.1, "min") is None
    True
    """
    values = np.asarray(curve, dtype=float)
    reached = np.flatnonzero(values >= target if mode == "max" else values <= target)
    return int(reached[0]) + 1 if len(reached) else None
