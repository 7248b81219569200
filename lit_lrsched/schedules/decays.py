"""Decays: from ``start`` to ``end`` over a duration, and ``end`` ever after."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from lit_lrsched.schedules.checks import check_not_negative, check_positive
from lit_lrsched.schedules.core import Horizon, Schedule
from lit_lrsched.schedules.durations import Duration, check_duration, steps_in
from lit_lrsched.schedules.spans import Span


class Decay(Schedule):
    """From ``start`` to ``end`` over a duration, and ``end`` ever after: what the decays share.

    A decay is a frozen dataclass with these three fields and the method :meth:`curve`.
    """

    start: float
    end: float
    over: Duration | None

    def __post_init__(self) -> None:
        check_not_negative("start", self.start)
        check_not_negative("end", self.end)
        if self.over is not None:
            check_duration("over", self.over)

    @abstractmethod
    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps, from ``start`` at 0 to ``end`` at the length."""

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        length = steps_in(self.over, horizon)
        # A percentage of a very short horizon may round to no steps: such a decay is over as soon as it begins.
        return self.curve(min(step, length), length) if length else self.curve(1, 1)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the decay, and what is held after it."""
        length = min(steps_in(self.over, horizon), horizon.steps)
        both = [Span(self.describe(), 0, length), Span("held", length, horizon.steps)]
        return [span for span in both if span.start < span.stop]


@dataclass(frozen=True)
class Linear(Decay):
    """A straight line: ``end + (start - end) * (1 - u)`` with ``u = min(t / T, 1)``.

    t is the step and T the steps in ``over``. A rising line is a warmup, a falling one a decay.

    Use it as the first decay to try: down to 0 over the whole training it is hard to beat.

    Args:
        start: Factor at step 0, finite and at least 0.
        end: Factor at step T and ever after, finite and at least 0.
        over: Duration of the line; by default the whole horizon. One longer than the horizon is cut off by it.

    Raises:
        InputError: When a factor is negative or not finite, or ``over`` is not a duration.

    Source: Defazio et al. 2023, "When, Why and How Much?", https://arxiv.org/abs/2310.07831 (over a whole training).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Linear(end=0.5, over="4st"), Horizon(6))
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """

    start: float = 1.0
    end: float = 0.0
    over: Duration | None = None

    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps."""
        return self.start * ((length - t) / length) + self.end * (t / length)


@dataclass(frozen=True)
class Cosine(Decay):
    """Half a cosine wave: ``end + (start - end) * (1 + cos(pi * u)) / 2`` with ``u = min(t / T, 1)``.

    t is the step and T the steps in ``over``.

    Use it when the length of training is known: the rate stays high for long and then falls smoothly.

    Args:
        start: Factor at step 0, finite and at least 0.
        end: Factor at step T and ever after, finite and at least 0.
        over: Duration of the curve; by default the whole horizon. One longer than the horizon is cut off by it.

    Raises:
        InputError: When a factor is negative or not finite, or ``over`` is not a duration.

    Source: Loshchilov and Hutter 2016, "SGDR", https://arxiv.org/abs/1608.03983, equation 5 (one run).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(Cosine(over="4st"), Horizon(6))]
    [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """

    start: float = 1.0
    end: float = 0.0
    over: Duration | None = None

    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps."""
        return blend(self.start, self.end, (1.0 + math.cos(math.pi * t / length)) / 2.0)


@dataclass(frozen=True)
class Polynomial(Decay):
    """A power of the line: ``end + (start - end) * (1 - u) ** power`` with ``u = min(t / T, 1)``.

    t is the step and T the steps in ``over``.

    Use it to choose how early the rate falls; networks for segmentation are often trained with a power of 0.9.

    Args:
        power: Exponent, finite and above 0: 1 gives a straight line, more falls earlier, less falls later.
        start: Factor at step 0, finite and at least 0.
        end: Factor at step T and ever after, finite and at least 0.
        over: Duration of the curve; by default the whole horizon. One longer than the horizon is cut off by it.

    Raises:
        InputError: When ``power`` is not above 0, a factor is negative or not finite, or ``over`` is not a duration.

    Source: Chen et al. 2016, "DeepLab", https://arxiv.org/abs/1606.00915 (the "poly" policy).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Polynomial(power=2.0, over="4st"), Horizon(6))
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    power: float = 2.0
    start: float = 1.0
    end: float = 0.0
    over: Duration | None = None

    def __post_init__(self) -> None:
        check_positive("power", self.power, example=2.0)
        super().__post_init__()

    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps."""
        return blend(self.start, self.end, ((length - t) / length) ** self.power)


@dataclass(frozen=True)
class OneMinusSqrt(Decay):
    """Steep at first, then flat: ``end + (start - end) * (1 - sqrt(u))`` with ``u = min(t / T, 1)``.

    t is the step and T the steps in ``over``.

    Use it as the cooldown after a long stretch at a constant rate.

    Args:
        start: Factor at step 0, finite and at least 0.
        end: Factor at step T and ever after, finite and at least 0.
        over: Duration of the curve; by default the whole horizon. One longer than the horizon is cut off by it.

    Raises:
        InputError: When a factor is negative or not finite, or ``over`` is not a duration.

    Source: Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    https://arxiv.org/abs/2405.18392, the (1-sqrt) cooldown.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(OneMinusSqrt(over="4st"), Horizon(6))]
    [1.0, 0.5, 0.2929, 0.134, 0.0, 0.0]
    """

    start: float = 1.0
    end: float = 0.0
    over: Duration | None = None

    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps."""
        return blend(self.start, self.end, 1.0 - math.sqrt(t / length))


@dataclass(frozen=True)
class Rex(Decay):
    """Slow at first, then steep: ``end + (start - end) * (1 - u) / (1 - u / 2)`` with ``u = min(t / T, 1)``.

    t is the step and T the steps in ``over``.

    Use it for short trainings, for which it was proposed.

    Args:
        start: Factor at step 0, finite and at least 0.
        end: Factor at step T and ever after, finite and at least 0.
        over: Duration of the curve; by default the whole horizon. One longer than the horizon is cut off by it.

    Raises:
        InputError: When a factor is negative or not finite, or ``over`` is not a duration.

    Source: Chen, Wolfe and Kyrillidis 2021, "REX: Revisiting Budgeted Training with an Improved Schedule",
    https://arxiv.org/abs/2107.04197, the profile (1 - t/T) / (1/2 + 1/2 (1 - t/T)).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(Rex(over="4st"), Horizon(6))]
    [1.0, 0.8571, 0.6667, 0.4, 0.0, 0.0]
    """

    start: float = 1.0
    end: float = 0.0
    over: Duration | None = None

    def curve(self, t: int, length: int) -> float:
        """Returns the factor t steps into a decay of so many steps."""
        return blend(self.start, self.end, (length - t) / (length - t / 2))


def blend(start: float, end: float, weight: float) -> float:
    """Returns ``end + (start - end) * weight``, computed so that it is exact for the weights 0 and 1."""
    return start * weight + end * (1.0 - weight)
