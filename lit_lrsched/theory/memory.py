"""Which updates the final weights are made of, when weight decay shrinks them at every step."""

from __future__ import annotations

import math
from typing import NamedTuple

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.checks import check_not_negative, check_positive
from lit_lrsched.schedules.core import Horizon, ScheduleLike
from lit_lrsched.theory.pieces import Pieces, pieces_of_schedule


class UpdateMemory(NamedTuple):
    """What of training the final weights keep.

    Args:
        steps: Steps, from 0 to the last: all of a short run, of a longer one as many as the curve needs.
        weights: The weight of each of these updates in the final weights, ``c_i``.
        last_tenth: Share of the last tenth of the steps in the sum of all weights.
        effective: How many updates of equal weight would average as well, ``(sum c)^2 / sum c^2``.
        initial: Factor of the initial weights in the final ones.
        timescale: Steps over which weights are forgotten at the highest rate, ``1 / (lr * weight_decay)``; infinite
            without weight decay.
        warning: What is wrong when the timescale exceeds the run, or None.
    """

    steps: list[int]
    weights: list[float]
    last_tenth: float
    effective: float
    initial: float
    timescale: float
    warning: str | None


def update_memory(schedule: ScheduleLike, horizon: Horizon, lr: float, weight_decay: float) -> UpdateMemory:
    """Returns which updates the final weights are made of, with AdamW or plain SGD.

    With the rates ``e_t = lr * f_t`` a step is ``w <- (1 - e_t d) w - e_t u_t``, so that the final weights are the
    initial ones times ``prod (1 - e_j d)``, less ``sum c_i u_i`` with ``c_i = e_i prod_{j>i} (1 - e_j d)``.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule` or a function ``(step, horizon) -> float``.
        horizon: How long training lasts. Up to 4,096 steps the numbers are exact, of a longer run within 0.1 %.
        lr: The learning rate that multiplies the factors, above 0.
        weight_decay: The weight decay d, at least 0.

    Raises:
        InputError: When a number is out of range, a step would decay the weights to 0 or below, the schedule is 0 at
            every step, or it does not fit the horizon.

    Source: Bergsma et al. 2025, "Straight to Zero: Why Linearly Decaying the Learning Rate to Zero Works Best for
    LLMs", https://arxiv.org/abs/2502.15938 (AdamW's weights as a moving average of its updates).

    >>> from lit_lrsched import Constant
    >>> memory = update_memory(Constant(), Horizon(3), lr=0.5, weight_decay=1.0)
    >>> memory.weights, round(memory.initial, 3)  # 0.5 * 0.5 * 0.5, 0.5 * 0.5, 0.5; and 0.5 ** 3
    ([0.125, 0.25, 0.5], 0.125)
    """
    check_positive("lr", lr, example=0.001)
    check_not_negative("weight_decay", weight_decay)
    steps, factors = pieces_of_schedule(schedule, horizon, (first_of_last_tenth(horizon.steps),))
    return memory_of(Pieces(steps, [lr * factor for factor in factors]), weight_decay)


def first_of_last_tenth(steps: int) -> int:
    """Returns the first step of the last tenth of a run.

    >>> [first_of_last_tenth(steps) for steps in (100, 15, 3)]
    [90, 14, 2]
    """
    return steps - max(1, steps // 10)


def memory_of(rates: Pieces, weight_decay: float) -> UpdateMemory:
    """Returns what of training the final weights keep, for a curve of learning rates.

    Args:
        rates: The rates; the first step of the last tenth is among its steps.
        weight_decay: The weight decay.

    Raises:
        InputError: As for :func:`update_memory`.
    """
    steps, values = rates
    highest = max(values)
    if not highest > 0:
        raise InputError(
            "the learning rate is 0 at every step, which trains nothing: give a schedule above 0 somewhere"
        )
    if highest * weight_decay >= 1:
        raise InputError(
            f"a rate of {highest:g} and weight_decay={weight_decay:g} shrink the weights to 0 or below in one step: "
            "their product has to be below 1"
        )
    total, length = steps[-1] + 1, len(steps)
    tenth = first_of_last_tenth(total)
    weights = [0.0] * length
    decayed = area = squares = last_tenth = 0.0  # - ln of the decay so far, sum of the rates, sum of c^2

    def mass() -> float:
        """The sum of c so far. Weighted by the decay it telescopes."""
        return -math.expm1(-decayed) / weight_decay if weight_decay else area

    for place in reversed(range(length)):
        start, first = steps[place], values[place]
        stop, after = (steps[place + 1], values[place + 1]) if place + 1 < length else (total, first)
        slope, left = (after - first) / (stop - start), stop - start
        while left:
            last = first + slope * (left - 1)
            count = _block(left, max(first, last) * weight_decay)
            before = last - slope * (count - 1)
            forgets, growth = _forgets(last, before, weight_decay, count)
            squares += _squares(last, slope, forgets, growth, count, decayed)
            if count == left:
                weights[place] = first * math.exp(-decayed - _sum(forgets, growth, count - 1))
            decayed += _sum(forgets, growth, count)
            area += _sum(last, slope, count)
            left -= count
        if start == tenth:
            last_tenth = mass()
    return UpdateMemory(
        steps,
        weights,
        last_tenth / mass(),
        mass() ** 2 / squares,
        math.exp(-decayed),
        1 / (highest * weight_decay) if weight_decay else math.inf,
        _warning(highest * weight_decay, total, math.exp(-decayed)),
    )


def _block(left: int, decay: float) -> int:
    """Returns how many of the steps left in a piece make the next block: weights shrink by a 16th in it at most."""
    count = min(left, int(1 / (16 * decay)) if decay * left > 1 / 16 else left)
    return count if count >= 8 else 1


def _forgets(last: float, before: float, weight_decay: float, count: int) -> tuple[float, float]:
    """Returns ``-ln(1 - e d)`` at the last step of a block, and by how much it falls with each step before that."""
    at_last, at_first = -math.log1p(-last * weight_decay), -math.log1p(-before * weight_decay)
    return at_last, (at_last - at_first) / max(1, count - 1)


def _sum(last: float, slope: float, count: float) -> float:
    """Returns the sum of the last ``count`` values of a straight line."""
    return count * last - slope * count * (count - 1) / 2


def _squares(last: float, slope: float, forgets: float, growth: float, count: int, decayed: float) -> float:
    """Returns the sum of c^2 over a block, by Gauss's two points."""
    if count == 1:
        return float((last * math.exp(-decayed)) ** 2)
    middle, half = (count - 1) / 2, count / math.sqrt(12)
    total = 0.0
    for s in (middle - half, middle + half):
        total += ((last - slope * s) * math.exp(-decayed - _sum(forgets, growth, s))) ** 2
    return total * count / 2


def _warning(decay: float, steps: int, initial: float) -> str | None:
    if decay == 0 or 1 / decay <= steps:
        return None
    return (
        f"weights are forgotten over 1 / (lr x weight_decay) = {1 / decay:,.0f} steps, longer than the run of "
        f"{steps:,}: weight decay hardly acts, and {100 * initial:.0f} % of the initial weights stay"
    )
