"""How low a schedule brings the loss at best, and at which peak rate: the bound of convex optimization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, ScheduleLike, as_schedule
from lit_lrsched.theory.pieces import Pieces, pieces_of_schedule

# A factor below this share of the highest counts as 0: torch's recursive schedulers leave a rounding error.
_ZERO = 1e-12

TRANSFER_HELD = (
    "within 11 % on a 124M language model for cooldowns of 10 to 40 %, and was up to 36 % too high for longer ones"
)
"""How well the ratio of best peaks held on real runs: ``scripts/transfer_errors.py`` measures it."""


class ConvexBound(NamedTuple):
    """The best peak of a schedule, and the bound that it reaches there.

    Args:
        peak: The learning rate to multiply the factors by, in units of D / G.
        value: The bound on the loss above its minimum after the last step, in units of D G. Lower is better.
    """

    peak: float
    value: float


def convex_bound(schedule: ScheduleLike, horizon: Horizon) -> ConvexBound:
    """Returns the peak rate at which the convex bound of a schedule is lowest, and the bound there.

    Of subgradient descent with the rates ``peak * f_t``, t = 0 to T-1, on a convex loss with gradients of norm G at
    most, from a distance D to the minimum, the loss at the last step is above its minimum by at most
    ``D^2 t1 / peak + G^2 peak (t2 + t3)``, where ``S = sum f_t`` and

    - ``t1 = 1 / (2 S)``,
    - ``t2 = sum f_t^2 / (2 S)``,
    - ``t3 = 1/2 sum_{k<T-1} f_k / (sum_{t>k} f_t) * (sum_{t>=k} f_t^2) / (sum_{t>=k} f_t)``.

    The lowest is at ``peak = sqrt(t1 / (t2 + t3))``, and is ``2 sqrt(t1 (t2 + t3))``. It knows the shape of a schedule
    alone: what it says is the ratio of two schedules, not a learning rate.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule` or a function ``(step, horizon) -> float``. Steps at which it is 0
            are left out.
        horizon: How long training lasts. Up to 4,096 steps the sums are exact; of a longer run the schedule is looked
            at in a few thousand steps (:func:`~lit_lrsched.theory.pieces.pieces_of`), which changes peak and value by
            less than 0.01 %.

    Raises:
        InputError: When the schedule is 0 at every step, does not fit the horizon, or an argument is of the wrong type.

    Source: Schaipp et al. 2025, "The Surprising Agreement Between Convex Optimization Theory and Learning-Rate
    Scheduling for Large Model Training", https://arxiv.org/abs/2501.18965; the bound is theorem 10 of
    Defazio et al. 2023, "When, Why and How Much?", https://arxiv.org/abs/2310.07831.

    >>> from lit_lrsched import Constant, Linear
    >>> for schedule in (Linear(), Constant()):
    ...     bound = convex_bound(schedule, Horizon(400))
    ...     print(f"{400**0.5 * bound.peak:.4f} {400**0.5 * bound.value:.4f}")
    0.9913 2.0126
    0.3635 2.7509
    """
    bound = bound_of(pieces_of_schedule(schedule, horizon))
    if bound is None:
        raise InputError(
            f"{as_schedule(schedule).describe()} is 0 at every step of {horizon.steps}, which trains nothing: "
            "give a schedule that is above 0 somewhere"
        )
    return bound


def transfer(a: ScheduleLike, b: ScheduleLike, horizon: Horizon) -> float:
    """Returns by how much to multiply the peak rate tuned for one schedule to start with another.

    It is the ratio of their best peaks, ``convex_bound(b).peak / convex_bound(a).peak``: tuned at 0.1 with
    ``Constant``, start ``Linear`` at 0.27. On a 124M language model it held within 11 % for linear cooldowns of 10 to
    40 % of the run; for longer ones and cosines it was up to 36 % too high (docs/theory.md). Take it for the middle of
    the next grid, not for its result.

    Args:
        a: The schedule that was tuned.
        b: The schedule to start.
        horizon: How long training lasts.

    Raises:
        InputError: As for :func:`convex_bound`.

    Source: Schaipp et al. 2025, https://arxiv.org/abs/2501.18965 (learning-rate transfer across schedules).

    >>> from lit_lrsched import Constant, Linear
    >>> round(transfer(Constant(), Linear(), Horizon(400)), 2)
    2.73
    """
    return convex_bound(b, horizon).peak / convex_bound(a, horizon).peak


def bound_of(pieces: Pieces) -> ConvexBound | None:
    """Returns the bound of a curve; None for one that is 0 everywhere.

    The three sums are one: ``f_k / (A_k A_{k+1}) = 1 / A_{k+1} - 1 / A_k`` for ``A_k = sum_{t>=k} f_t``, so that by
    summation by parts ``t2 + t3 = 1/2 (f_{T-1} + sum_{k<T-1} f_k^2 / A_{k+1})``. It is taken from the last step to the
    first, within a long straight piece over blocks that are short against what is left of the run.

    >>> bound_of(Pieces([0, 1], [1.0, 0.5]))  # t1 = 1 / 3, t2 + t3 = (0.5 + 1 / 0.5) / 2
    ConvexBound(peak=0.5163..., value=1.2909...)
    """
    steps, values = pieces
    zero = _ZERO * max(values)
    if zero == 0:
        return None
    area = drift = 0.0  # the sum of the factors so far, and f_{T-1} + sum f_k^2 / A_{k+1}
    ends = [(steps[-1], values[-1]), (steps[-1] + 1, values[-1])]
    for (start, first), (stop, after) in [ends, *reversed([*pairwise(zip(steps, values, strict=True))])]:
        if max(first, after) <= zero:
            continue
        slope = (after - first) / (stop - start)
        left = stop - start  # steps of this piece, the last of which comes next
        while left:
            last = first + slope * (left - 1)
            if area == 0:
                area = drift = last if last > zero else 0.0
                left -= 1
                continue
            count = _block(left, max(first, last), area)
            if count == 1:
                drift += last * last / area
                area += last
            else:
                drift += _over_block(last, slope, count, area)
                area += count * last - slope * count * (count - 1) / 2
            left -= count
    return ConvexBound(math.sqrt(1 / (area * drift)), math.sqrt(drift / area))


def _block(left: int, highest: float, area: float) -> int:
    """Returns how many of the steps left in a piece make the next block: they add a 32nd to the area at most."""
    count = min(left, int(area / (32 * highest)) if highest else left)
    return count if count >= 8 else 1


def _over_block(last: float, slope: float, count: int, area: float) -> float:
    """Returns ``sum_{s<count} f_s^2 / (area + sum_{u<s} f_u)`` for ``f_s = last - slope s``, by Gauss's two points."""
    middle, half = (count - 1) / 2, count / math.sqrt(12)
    total = 0.0
    for s in (middle - half, middle + half):
        factor = last - slope * s
        total += factor * factor / (area + last * s - slope * s * (s - 1) / 2)
    return total * count / 2


def bound_of_factors(factors: Sequence[float]) -> ConvexBound | None:
    """Returns the exact bound of factors that are given one a step; None where all are 0.

    >>> bound_of_factors([1.0, 1.0])  # t1 = 1 / 4, t2 + t3 = (1 + 1 / 1) / 2
    ConvexBound(peak=0.5, value=1.0)
    """
    return bound_of(Pieces([*range(len(factors))], [*factors]))
