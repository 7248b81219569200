"""The edges of the rates tried: whether the best lies at one, and wider rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Edge = Literal["lowest", "highest"]


def edge_of(lr: float, tried: set[float]) -> Edge | None:
    """Returns which end of the rates tried a rate is; None inside, and for a single rate, which is a choice."""
    if len(tried) == 1 or min(tried) < lr < max(tried):
        return None
    return "lowest" if lr == min(tried) else "highest"


def wider(lrs: Sequence[float], ends: Sequence[Edge]) -> tuple[float, ...]:
    """Returns rates and, beyond each of the ends, two more in the same steps.

    >>> wider([0.03, 0.1, 0.3], ["highest"])
    (0.03, 0.1, 0.3, 1.0, 3.0)
    >>> wider([0.1, 0.2], ["lowest"])
    (0.025, 0.05, 0.1, 0.2)
    >>> wider([1.0, 1.01], ["highest"])
    (1.0, 1.01, 1.02, 1.03)
    """
    rates = sorted(lrs)
    for end in dict.fromkeys(ends):
        ladder = rates if end == "highest" else rates[::-1]
        for _ in range(2):
            # With three rates two steps are known, which keeps to 1, 3, 10, 30.
            rate = ladder[-1] / ladder[-3] * ladder[-2] if len(ladder) > 2 else ladder[-1] ** 2 / ladder[-2]
            rounded = (float(f"{rate:.{digits}g}") for digits in range(2, 18))
            ladder = [*ladder, next(one for one in rounded if abs(one - rate) < abs(rate - ladder[-1]) / 2)]
        rates = sorted(ladder)
    return tuple(rates)
