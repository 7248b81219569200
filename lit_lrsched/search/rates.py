"""Which rates are tried: first a few over six decades, then many where something happens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COARSE = 12
"""Rates of the first round."""

_HAPPENS = 0.1  # share of the largest gain from which on a rate does something


def spread(low: float, high: float, points: int) -> FloatArray:
    """Returns rates evenly in log, both ends among them, with digits that a table shows.

    >>> spread(0.001, 10, 5)
    array([1.e-03, 1.e-02, 1.e-01, 1.e+00, 1.e+01])
    """
    return np.array([float(f"{rate:.6g}") for rate in np.geomspace(low, high, points)])


def coarse(own: float) -> FloatArray:
    """Returns the rates of the first round: the optimizer's own times 1e-3 to 1e3."""
    return spread(1e-3 * own, 1e3 * own, COARSE)


def narrowed(lrs: FloatArray, ends: FloatArray, diverged: BoolArray, untrained: float) -> tuple[float, float]:
    """Returns the range where something happens: from the last rate that hardly trains to the first that diverges.

    Args:
        lrs: The rates of the first round, rising, ``[L]``.
        ends: The training loss that each ends with, ``[L]``.
        diverged: Whether each diverged, ``[L]``.
        untrained: The training loss without training.

    >>> lrs = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])
    >>> ends = np.array([0.99, 0.98, 0.3, 0.2, np.nan, np.nan])
    >>> narrowed(lrs, ends, np.isnan(ends), 1.0)
    (0.01, 10.0)
    """
    last = int(diverged.argmax()) if diverged.any() else len(lrs) - 1
    gains = np.where(diverged, -np.inf, untrained - ends)[: last + 1]
    # What trains a little is looked at too: a rate that is too low for the whole run still falls steadily.
    acting = np.flatnonzero(gains >= _HAPPENS * gains.max()) if gains.max() > 0 else np.array([0])
    first = max(int(acting[0]) - 1, 0)
    return float(lrs[first]), float(lrs[max(last, first + 1)])
