"""The bootstrap interval of a mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_lrsched.comparison.evidence.runs import FloatArray

_RESAMPLES = 9_999
_ROUNDING = 1e-12  # relative size below which a difference is rounding


def bca_interval(values: Sequence[float] | FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the BCa bootstrap interval of the mean, the same at every call.

    It is approximate for few values: for normal noise an interval of 95 % holds the true mean in 94 of 100 cases with
    50 values, 92 with 20, 90 with 10 and 83 with 5.

    Args:
        values: Finite numbers, one a seed.
        level: Confidence level in (0, 1).

    Returns:
        The two ends; the value itself twice when all are equal; None for a single value, which shows no spread.

    Source: Efron, Better bootstrap confidence intervals (1987), equation 1.6.

    >>> low, high = bca_interval([0.90, 0.92, 0.93, 0.95, 0.95])
    >>> print(f"{low:.3f} {high:.3f}")
    0.912 0.946
    >>> bca_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    from scipy.stats import bootstrap

    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return None
    center, width = x.mean(), np.ptp(x)
    if width <= _ROUNDING * np.abs(x).max():
        return float(x[0]), float(x[0])

    def rounded_mean(sample: FloatArray, axis: int) -> FloatArray:
        # Accuracies come in steps, so many resampled means equal the observed one. BCa counts those that lie below it:
        # left to rounding errors, ties would shift the interval.
        means: FloatArray = np.round(sample.mean(axis=axis), 12)
        return means

    result = bootstrap(
        ((x - center) / width,),
        rounded_mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        batch=max(1, 1_000_000 // len(x)),  # bounds the memory, not the answer
        method="BCa",
        random_state=np.random.default_rng(0),
    )
    low, high = (center + width * np.array(result.confidence_interval)).tolist()
    return low, high
