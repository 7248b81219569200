"""The law-free oracle: the expected loss of SGD on least squares with a power-law spectrum, by its exact recursion."""

from __future__ import annotations

import numpy as np

DIMENSIONS = 200


def expected_losses(rates, noise: float = 0.5, floor: float = 1.0, power: float = 1.5) -> np.ndarray:
    """The expected loss after each step, ``[steps + 1]``, of SGD with one Gaussian row a step.

    Feature i has the variance ``l[i] = i**-power``, the target is ``w* x + e`` with ``e`` of variance ``noise**2``.
    With the error ``v[i] = E (w[i] - w*[i])**2``, Isserlis' theorem gives
    ``v' = v - 2 r l v + r**2 (2 l**2 v + l (l . v) + noise**2 l)`` for a step at the rate r. The loss is
    ``floor + (l . v) / 2``.
    """
    index = np.arange(1, DIMENSIONS + 1)
    variances = index**-power
    errors = index**-0.5
    losses = [floor + variances @ errors / 2]
    for rate in rates:
        drawn = 2 * variances**2 * errors + variances * (variances @ errors) + noise**2 * variances
        errors = errors - 2 * rate * variances * errors + rate**2 * drawn
        losses.append(floor + variances @ errors / 2)
    return np.array(losses)
