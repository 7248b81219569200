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
    return losses_of(np.asarray(rates)[None], index**-power, index**-0.5, noise**2, floor)[0]


def losses_of(rates: np.ndarray, variances: np.ndarray, errors: np.ndarray, noise: float, floor: float) -> np.ndarray:
    """The same of several runs, ``[runs, steps + 1]``, from their rates ``[runs, steps]``.

    Of any variances l and first errors v, ``[dimensions]``, and a variance of the noise.
    """
    errors = np.repeat(errors[None], len(rates), axis=0)
    losses = [errors @ variances]
    for rate in rates.T[:, :, None]:
        drawn = 2 * variances * errors + losses[-1][:, None] + noise
        errors = errors + rate * variances * (rate * drawn - 2 * errors)
        losses.append(errors @ variances)
    return floor + np.stack(losses, axis=1) / 2
