"""Which candidates cannot be told from the best: by the differences of forecasts and how wrong those are."""

from __future__ import annotations

import numpy as np

from lit_lrsched.forecasting.rate_path import FloatArray, IntArray

_DRAWS = 4000
SURE = 0.95


def undecided(logs: FloatArray, covariance: FloatArray, freedom: float) -> IntArray:
    """Returns the places of the candidates that cannot be told from the best, the best first.

    A candidate is behind when its difference from the best is larger than such differences are off by, all differences
    of the candidates taken together, in 95 of 100 cases.

    Args:
        logs: Forecast log losses, ``[candidates]``.
        covariance: Their covariance, ``[candidates, candidates]``.
        freedom: Degrees of freedom of its scale.

    >>> undecided(np.array([1.0, 1.1, 1.001]), 1e-4 * np.eye(3), freedom=20.0).tolist()
    [0, 2]
    """
    best = int(np.argmin(logs))
    apart = logs - logs[best]
    variances = np.diag(covariance)
    spread = np.sqrt(np.maximum(variances + variances[best] - 2 * covariance[best], 1e-16))
    rng = np.random.default_rng(0)  # the same answer for the same runs
    values, vectors = np.linalg.eigh(covariance)
    drawn = rng.standard_normal((_DRAWS, len(logs))) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    scale = np.sqrt(freedom / rng.chisquare(freedom, _DRAWS))
    scores = (drawn - drawn[:, [best]]) / spread * scale[:, None]
    scores[:, best] = 0.0
    limit = float(np.quantile(scores.max(axis=1), SURE))
    tied = np.flatnonzero(apart <= limit * spread)
    return tied[np.argsort(logs[tied], kind="stable")]
