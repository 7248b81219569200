"""How many seeds a race needs to tell a difference apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lit_lrsched.comparison.evidence.runs import FloatArray

_ROUNDING = 1e-12  # relative size below which a difference is rounding


def seeds_needed(
    differences: Sequence[float] | FloatArray,
    difference: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Returns how many more seeds would be needed to tell apart a given difference.

    The smallest n with ``n >= ((t(1 - alpha/2) + t(power)) * sd / difference) ** 2``, t the quantiles of Student's t
    with n - 1 degrees of freedom and sd the standard deviation of the paired differences, and with ``2 ** (1 - n) <=
    alpha``, the least p that n seeds can show.

    Args:
        differences: Finite differences, one a seed, at least 2.
        difference: True mean difference to tell apart; None for the mean of ``differences``.
        alpha: Level of the test in (0, 1); smaller where several are tested together.
        power: Chance of telling it apart, in (0.5, 1).

    Returns:
        The number beyond the seeds at hand, 0 when they suffice; None when the difference is zero: no number would do.

    Source: Student's t approximation to the power of a paired test: Cohen, Statistical Power Analysis for the
    Behavioral Sciences (1988), section 2.4.

    >>> seeds_needed([0.3, -0.1, 0.2, 0.1, -0.2, 0.1])
    58
    >>> seeds_needed([0.1, -0.1]) is None
    True
    """
    from scipy.stats import norm, t

    d = np.asarray(differences, dtype=float)
    delta = abs(d.mean() if difference is None else difference)
    spread = float(d.std(ddof=1))
    if delta <= _ROUNDING * max(np.abs(d).max(), spread):
        return None
    ratio = spread / delta
    # Student's quantiles exceed the normal ones, so the normal answer is a lower bound to start from.
    n = max(least_seeds(alpha), math.ceil(((norm.isf(alpha / 2) + norm.ppf(power)) * ratio) ** 2))
    while n < ((t.isf(alpha / 2, n - 1) + t.ppf(power, n - 1)) * ratio) ** 2:
        n += 1
    return max(0, int(n) - len(d))


def least_seeds(alpha: float) -> int:
    """Returns the fewest seeds with which a sign-flip test can reach alpha: the least n with ``2 ** (1 - n) <= alpha``.

    >>> [least_seeds(0.05), least_seeds(0.05 / 45)]
    [6, 11]
    """
    return max(2, math.ceil(1 - math.log2(alpha)))
