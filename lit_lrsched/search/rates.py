"""Which rates are tried: short runs look over six decades, whole ones where something happens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_HAPPENS = 0.5  # share of the largest gain from which on a rate does something


def spread(low: float, high: float, points: int) -> FloatArray:
    """Returns rates evenly in log, both ends among them, with as few digits as tell them apart, at least three.

    >>> spread(0.001, 10, 6)
    array([1.00e-03, 6.31e-03, 3.98e-02, 2.51e-01, 1.58e+00, 1.00e+01])
    """
    exact = np.geomspace(low, high, points)
    for digits in range(3, 16):
        rates = np.array([float(f"{rate:.{digits}g}") for rate in exact])
        if len(np.unique(rates)) == points:
            return rates
    return exact


def scouted(own: float, points: int) -> FloatArray:
    """Returns the rates that short runs try first: half as many, from 1e-3 to 1e3 times the optimizer's own."""
    return spread(1e-3 * own, 1e3 * own, (points + 1) // 2)


def where_something_happens(
    lrs: FloatArray, losses: FloatArray, diverged: BoolArray, untrained: float, shortened: float
) -> tuple[float, float]:
    """Returns the range of rates in which whole runs find their best, from what short ones end with.

    It begins at the rate before the first that brings half of the largest gain, divided by how much longer whole runs
    are: a rate that much lower takes them as far. It ends at the first rate that diverged, at most two after the last
    that brings half of the gain. Where the lowest rate diverged already, short runs tell nothing, and all are in it.

    Args:
        lrs: The rates of the short runs, rising, ``[L]``.
        losses: The loss that each ends with, ``[L]``.
        diverged: Whether each diverged, ``[L]``.
        untrained: The loss without training.
        shortened: How many times longer whole runs are.

    >>> lrs = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])
    >>> losses = np.array([0.99, 0.98, 0.3, 0.2, np.nan, np.nan])
    >>> where_something_happens(lrs, losses, np.isnan(losses), 1.0, shortened=5)
    (0.002, 10.0)
    """
    if diverged[0]:
        return float(lrs[0]), float(lrs[-1])
    tried = int(diverged.argmax()) if diverged.any() else len(lrs)
    gains = (untrained - losses)[:tried]
    acting = np.flatnonzero(gains >= _HAPPENS * gains.max()) if (gains > 0).any() else np.arange(tried)
    first, last = int(acting[0]), int(acting[-1])
    low, high = lrs[max(first - 1, 0)] / shortened, lrs[min(last + 2, tried, len(lrs) - 1)]
    return max(float(low), float(lrs[0])), float(high)
