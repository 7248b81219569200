"""Shapes beside the decays: one class, one closed formula. Durations count from the start of the enclosing horizon."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import as_tuple, check_not_negative, check_positive, check_shrink
from lit_lrsched.schedules.core import Horizon, Schedule

# Files of version 0.1 name the decays by this module.
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Polynomial, Rex, blend  # noqa: F401
from lit_lrsched.schedules.durations import Duration, check_duration, instant_in, parse_instant, period_in, steps_in
from lit_lrsched.schedules.per_horizon import per_horizon
from lit_lrsched.schedules.spans import Span, cycles


@dataclass(frozen=True)
class Constant(Schedule):
    """The same factor at every step: ``factor``.

    Use it as the baseline for any comparison, and as a phase of a :class:`Chain`.

    Args:
        factor: The factor, finite and at least 0.

    Raises:
        InputError: When the factor is negative or not finite.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Constant(0.5), Horizon(5))
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative("factor", self.factor)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return self.factor


@dataclass(frozen=True)
class Exponential(Schedule):
    """A constant ratio: ``gamma ** (t / every)``, where t is the step.

    Use it when the end of training is open: the curve does not depend on the horizon.

    Args:
        gamma: Ratio of two factors that are ``every`` apart; finite and above 0.
        every: Duration in which the factor is multiplied by ``gamma`` once; at least one step.

    Raises:
        InputError: When ``gamma`` is not above 0 or ``every`` is not a duration.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Exponential(gamma=0.5, every="2st"), Horizon(5))[::2]
    [1.0, 0.5, 0.25]
    >>> table(Exponential(gamma=0.5, every="1ep"), Horizon(50, steps_per_epoch=10), interval="epoch")
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    gamma: float
    every: Duration = "1ep"

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma, example=0.9)
        check_duration("every", self.every)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return _power(self.gamma, step / period_in(self.every, horizon))


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Decays as one over time: ``1 / (1 + alpha * t / every)``, where t is the step.

    Use it when the end of training is open and the rate may fall fast at first, then more and more slowly.

    Args:
        alpha: Speed of the decay, finite and at least 0: the factor is 1/2 after ``every / alpha``.
        every: Unit of time; at least one step.

    Raises:
        InputError: When ``alpha`` is negative or not finite, or ``every`` is not a duration.

    Source: Robbins and Monro 1951, "A Stochastic Approximation Method" (steps of the order of 1/n).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(InverseTime(alpha=1.0, every="1st"), Horizon(5))]
    [1.0, 0.5, 0.3333, 0.25, 0.2]
    """

    alpha: float
    every: Duration = "1ep"

    def __post_init__(self) -> None:
        check_not_negative("alpha", self.alpha)
        check_duration("every", self.every)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        # The division comes first so that at the start of epoch n this is 1 / (1 + alpha * n) to the last bit.
        return 1.0 / (1.0 + self.alpha * (step / period_in(self.every, horizon)))


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Decays as one over the square root of time: ``end + (1 - end) / sqrt(1 + t / every)``, where t is the step.

    Use it for long trainings whose end is open, above all of transformers.

    Args:
        every: Unit of time; at least one step. With ``end`` 0 the factor is 1/2 after 3 of them.
        end: The limit of the factor, finite and at least 0.

    Raises:
        InputError: When ``every`` is not a duration, or ``end`` is negative or not finite.

    Source: Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762, equation 3 (after its
    warmup; here counted from 1 at step 0).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(InverseSqrt(every="1st"), Horizon(5))]
    [1.0, 0.7071, 0.5774, 0.5, 0.4472]
    """

    every: Duration = "1ep"
    end: float = 0.0

    def __post_init__(self) -> None:
        check_duration("every", self.every)
        check_not_negative("end", self.end)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return blend(1.0, self.end, 1.0 / math.sqrt(1.0 + step / period_in(self.every, horizon)))


@dataclass(frozen=True)
class Step(Schedule):
    """A staircase: ``gamma ** floor(t / every)``, where t is the step.

    Use it when it is known how long a rate makes progress, as for image classifiers.

    Args:
        every: Duration of a stair; at least one step.
        gamma: Ratio of a stair to the one before, finite and above 0.

    Raises:
        InputError: When ``gamma`` is not above 0 or ``every`` is not a duration.

    Source: He et al. 2015, "Deep Residual Learning", https://arxiv.org/abs/1512.03385, section 3.4 (drops by 10).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Step(every="2st", gamma=0.5), Horizon(5))
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: Duration
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_duration("every", self.every)
        check_positive("gamma", self.gamma, example=0.1)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return _power(self.gamma, step // period_in(self.every, horizon))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Drops at given times: ``gamma ** (number of milestones m with m <= t)``, where t is the step.

    Use it to reproduce published recipes, whose rates drop at given epochs.

    Args:
        milestones: Times of the drops, from the start of the horizon, in increasing order.
        gamma: Ratio of a drop, finite and above 0.

    Raises:
        InputError: When ``gamma`` is not above 0, a milestone is not a duration, or they are out of order: at
            construction where the units agree, otherwise on use.

    Source: He et al. 2015, "Deep Residual Learning", https://arxiv.org/abs/1512.03385, section 4.2 (two drops by 10).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(MultiStep(["2st", "80%"], gamma=0.5), Horizon(5))
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    milestones: Sequence[Duration]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", as_tuple("milestones", self.milestones, "'30ep', '60ep'"))
        for index, milestone in enumerate(self.milestones):
            check_duration(f"milestones[{index}]", milestone)
        _check_order("milestones", self.milestones)
        check_positive("gamma", self.gamma, example=0.1)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return _power(self.gamma, bisect_right(self._drops(horizon), step))

    @per_horizon
    def _drops(self, horizon: Horizon) -> list[int]:
        _times("milestones", self.milestones, horizon)
        return [steps_in(milestone, horizon) for milestone in self.milestones]


@dataclass(frozen=True)
class Triangle(Schedule):
    """Up and down again: ``low + (high - low) * shrink ** c * (1 - abs(2 * v - 1))``.

    t is the step and P the steps in ``period``; ``c = floor(t / P)`` counts the cycles and ``v = t / P - c`` is the
    position in a cycle. The factor is ``low`` at both ends of a cycle and peaks in the middle.

    Use it to search for good rates, and to leave poor minima.

    Args:
        period: Duration of a cycle, up and down; at least one step.
        low: Factor at the ends of a cycle, finite and at least 0.
        high: Factor in the middle of the first cycle, finite and at least 0; below ``low`` the triangle points down.
        shrink: Ratio of the heights ``high - low`` of a cycle and the one before, above 0 and at most 1.

    Raises:
        InputError: When a factor is negative or not finite, ``shrink`` is out of range, or ``period``
            is not a duration.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", https://arxiv.org/abs/1506.01186,
    section 3 (``shrink=0.5`` is its triangular2).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Triangle(period="4st", low=0.0, shrink=0.5), Horizon(8))
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    period: Duration
    low: float = 0.1
    high: float = 1.0
    shrink: float = 1.0

    def __post_init__(self) -> None:
        check_duration("period", self.period)
        check_not_negative("low", self.low)
        check_not_negative("high", self.high)
        check_shrink(self.shrink)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        period = period_in(self.period, horizon)
        cycle, t = divmod(step, period)
        return blend(self.high, self.low, self.shrink**cycle * (2 * min(t, period - t) / period))

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the cycles."""
        return cycles(period_in(self.period, horizon), horizon.steps)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Straight lines between points: ``f + (g - f) * (t - a) / (b - a)``.

    t is the step, (a, f) the last point at or before it and (b, g) the next. Before the first point its factor holds,
    and after the last point its factor.

    Use it for a curve that no formula gives.

    Args:
        points: Pairs (time, factor) in increasing order of time. Times count from the start of the horizon, from
            ``"0st"`` on; a factor is finite and at least 0.

    Raises:
        InputError: When there are no points, a time has no unit, a factor is negative or not finite, or the points
            are out of order: at construction where the units agree, otherwise on use.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Piecewise([("0st", 0.0), ("2st", 1.0), ("100%", 0.5)]), Horizon(6))
    [0.0, 0.5, 1.0, 0.875, 0.75, 0.625]
    """

    points: Sequence[tuple[Duration, float]]

    def __post_init__(self) -> None:
        pairs = as_tuple("points", self.points, "['0st', 0.1], ['5ep', 1.0]")
        for index, pair in enumerate(pairs):
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise InputError(f"points[{index}]={shown(pair)} is not a point: write a pair like ['5ep', 1.0]")
            parse_instant(f"points[{index}]", pair[0])
            check_not_negative(f"points[{index}] factor", pair[1])
        object.__setattr__(self, "points", tuple(tuple(pair) for pair in pairs))
        _check_order("points", [time for time, _ in self.points])

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        times = self._times(horizon)
        after = bisect_right(times, step)
        if after == 0 or after == len(times):
            return self.points[max(after - 1, 0)][1]
        (left, right), (begin, end) = times[after - 1 : after + 1], self.points[after - 1 : after + 1]
        return blend(begin[1], end[1], (right - step) / (right - left))

    @per_horizon
    def _times(self, horizon: Horizon) -> list[float]:
        return _times("points", [time for time, _ in self.points], horizon)


def _check_order(name: str, times: Sequence[Duration]) -> None:
    """Refuses times of the same unit that are out of order: other units cannot be compared without a horizon."""
    latest: dict[str, tuple[float, Duration]] = {}
    for time in times:
        value, unit = parse_instant(name, time)
        if unit in latest and value <= latest[unit][0]:
            raise InputError(
                f"{name} are out of order: {shown(time)} comes after {shown(latest[unit][1])}: sort them by time"
            )
        latest[unit] = value, time


def _times(name: str, times: Sequence[Duration], horizon: Horizon) -> list[float]:
    """Returns the times in steps, and refuses them when they are out of order in this horizon."""
    found = [instant_in(time, horizon) for time in times]
    for index in range(1, len(found)):
        if found[index] <= found[index - 1]:
            raise InputError(
                f"{name} are out of order in {horizon.steps} steps: {shown(times[index])} (step {found[index]:g}) "
                f"comes after {shown(times[index - 1])} (step {found[index - 1]:g}): sort them by time"
            )
    return found


def _power(gamma: float, exponent: float) -> float:
    try:
        return float(gamma**exponent)
    except OverflowError:
        return math.inf  # factor_at refuses it, with the step
