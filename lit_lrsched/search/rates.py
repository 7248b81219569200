"""Which rates are tried: half of them over six decades, the other half where something happens."""

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


def first_half(own: float, points: int) -> FloatArray:
    """Returns half of the rates: from 1e-3 to 1e3 times the optimizer's own."""
    return spread(1e-3 * own, 1e3 * own, (points + 1) // 2)


def second_half(
    lrs: FloatArray, losses: FloatArray, diverged: BoolArray, untrained: float, points: int
) -> tuple[float, ...]:
    """Returns the other half of the rates: evenly in log where something happens, between two of the first half.

    These are the one before the first and the one after the last that bring half of the largest gain.

    Args:
        lrs: The first half, rising, ``[L]``.
        losses: The loss that each ends with, ``[L]``.
        diverged: Whether each diverged, ``[L]``.
        untrained: The loss without training.
        points: How many rates there are in all.

    >>> lrs = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])
    >>> losses = np.array([0.99, 0.98, 0.3, 0.2, np.nan, np.nan])
    >>> second_half(lrs, losses, np.isnan(losses), 1.0, points=8)
    (0.0398, 0.158, 0.631, 2.51)
    """
    tried = int(diverged.argmax()) if diverged.any() else len(lrs)
    gains = (untrained - losses)[:tried]
    acting = np.flatnonzero(gains >= _HAPPENS * gains.max()) if (gains > 0).any() else np.arange(tried)
    first, last = (int(acting[0]), int(acting[-1])) if len(acting) else (0, 0)
    low, high = lrs[max(first - 1, 0)], lrs[min(last + 1, len(lrs) - 1)]
    return tuple(spread(low, high, points // 2 + 2)[1:-1].tolist())
