"""Recipes: schedules that papers and other libraries name, each a chain of shapes.

A warmup of W steps has the factors (t + 1) / (W + 1) at the steps t = 0 to W - 1, and the decay starts from exactly 1
at step W: no step trains at rate 0. Other libraries, such as transformers, start a warmup at 0, so that their first
step trains nothing. Their warmup of W + 1 steps in T + 1 equals ours of W in T, without that first step.
``start=0.0`` gives the factors t / W.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import check_choice, check_not_negative, check_whole
from lit_lrsched.schedules.compose import Chain, Phase, as_part
from lit_lrsched.schedules.core import Horizon, Schedule, ScheduleLike
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, blend
from lit_lrsched.schedules.durations import Duration, check_duration, period_in, steps_in
from lit_lrsched.schedules.per_horizon import per_horizon
from lit_lrsched.schedules.shapes import Constant, InverseSqrt
from lit_lrsched.schedules.spans import Span, cycles

_ANNEALS: dict[str, type[Cosine] | type[Linear]] = {"cosine": Cosine, "linear": Linear}


class Recipe(Schedule):
    """A chain whose phases are known once the horizon is: what the recipes share."""

    @abstractmethod
    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns the phases, in order."""

    @per_horizon
    def chain(self, horizon: Horizon) -> Chain:
        """Returns the same schedule written out as a chain."""
        return Chain(self.phases(horizon))

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return self.chain(horizon)(step, horizon)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the phases by name."""
        return self.chain(horizon).spans(horizon)


@dataclass(frozen=True)
class WarmupLinear(Recipe):
    """Linear warmup, then :class:`Linear` to ``end`` over the rest.

    ``(t + 1) / (W + 1)`` for t < W, then ``end + (1 - end) * (T - t) / (T - W)``, where t is the step, W the steps in
    ``warmup`` and T the horizon.

    Use it to fine-tune transformers.

    Args:
        warmup: Duration of the warmup, from ``start`` to 1.
        start: Factor at step 0, finite and at least 0; by default 1 / (W + 1), so that no step trains at rate 0.
        end: Factor at the end of the horizon, finite and at least 0.

    Raises:
        InputError: When a duration or a factor is wrong; on use, when the warmup is longer than the horizon.

    Source: Devlin et al. 2018, "BERT", https://arxiv.org/abs/1810.04805, appendix A.2.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(WarmupLinear(warmup="3st"), Horizon(7))]
    [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]
    >>> WarmupLinear(warmup="3st").chain(Horizon(7)).phases[0]
    Phase(schedule=Linear(start=0.25, end=1.0, over=None), lasts='3st', name='warmup')
    """

    warmup: Duration
    start: float | None = None
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup, self.start)
        check_not_negative("end", self.end)

    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns the warmup and the decay."""
        return [_warmup(self.warmup, self.start, horizon), Phase(Linear(1.0, self.end), name="decay")]


@dataclass(frozen=True)
class WarmupCosine(Recipe):
    """Linear warmup, then :class:`Cosine` to ``end`` over the rest.

    ``(t + 1) / (W + 1)`` for t < W, then ``end + (1 - end) * (1 + cos(pi * (t - W) / (T - W))) / 2``, where t is the
    step, W the steps in ``warmup`` and T the horizon.

    Use it to train from scratch for a known time, above all with large batches or Adam, which may diverge when the
    first steps have the full rate.

    Args:
        warmup: Duration of the warmup, from ``start`` to 1.
        start: Factor at step 0, finite and at least 0; by default 1 / (W + 1), so that no step trains at rate 0.
        end: Factor at the end of the horizon, finite and at least 0.

    Raises:
        InputError: When a duration or a factor is wrong; on use, when the warmup is longer than the horizon.

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2 (the warmup); Brown et al. 2020, "GPT-3",
    https://arxiv.org/abs/2005.14165, appendix B (with the cosine).

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(WarmupCosine(warmup="3st"), Horizon(7))]
    [0.25, 0.5, 0.75, 1.0, 0.8536, 0.5, 0.1464]
    """

    warmup: Duration
    start: float | None = None
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup, self.start)
        check_not_negative("end", self.end)

    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns the warmup and the decay."""
        return [_warmup(self.warmup, self.start, horizon), Phase(Cosine(1.0, self.end), name="decay")]


@dataclass(frozen=True)
class WarmupInverseSqrt(Recipe):
    """Linear warmup, then :class:`InverseSqrt`.

    ``(t + 1) / (W + 1)`` for t < W, then ``end + (1 - end) / sqrt(1 + (t - W) / every)``, where t is the step and W
    the steps in ``warmup``.

    Use it for transformers whose training has no set end.

    Args:
        warmup: Duration of the warmup, from ``start`` to 1.
        every: Unit of time of the decay; by default W + 1 steps, as in the paper.
        start: Factor at step 0, finite and at least 0; by default 1 / (W + 1), so that no step trains at rate 0.
        end: The limit of the factor, finite and at least 0.

    Raises:
        InputError: When a duration or a factor is wrong; on use, when the warmup is longer than the horizon.

    Source: Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762, equation 3.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(WarmupInverseSqrt(warmup="3st"), Horizon(7))]
    [0.25, 0.5, 0.75, 1.0, 0.8944, 0.8165, 0.7559]
    """

    warmup: Duration
    every: Duration | None = None
    start: float | None = None
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup, self.start)
        check_not_negative("end", self.end)
        if self.every is not None:
            check_duration("every", self.every)

    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns the warmup and the decay."""
        # In this unit the decay is sqrt((W + 1) / (t + 1)): counted from step 0, wherever the warmup stops.
        every = self.every or f"{steps_in(self.warmup, horizon) + 1}st"
        decay = Phase(InverseSqrt(every, self.end), name="decay")
        return [_warmup(self.warmup, self.start, horizon), decay]


@dataclass(frozen=True)
class WarmupStableDecay(Recipe):
    """Linear warmup, a long stretch at 1, and a cooldown at the end.

    ``(t + 1) / (W + 1)`` for t < W, then 1, then ``shape`` over the last D steps, where t is the step, W the steps in
    ``warmup`` and D those in ``decay``.

    Use it when the length of training may still change: the cooldown can start at any point of the long stretch.

    Args:
        warmup: Duration of the warmup, from ``start`` to 1.
        decay: Duration of the cooldown.
        shape: The cooldown, a shape that falls from 1, with its own step count and horizon.
        start: Factor at step 0, finite and at least 0; by default 1 / (W + 1), so that no step trains at rate 0.

    Raises:
        InputError: When a duration, a factor or the shape is wrong; on use, when the two durations together are longer
            than the horizon.

    Source: Hu et al. 2024, "MiniCPM", https://arxiv.org/abs/2404.06395, section 4 (WSD); the default shape from
    Hägele et al. 2024, https://arxiv.org/abs/2405.18392.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(WarmupStableDecay(warmup="2st", decay="4st"), Horizon(9))]
    [0.3333, 0.6667, 1.0, 1.0, 1.0, 1.0, 0.5, 0.2929, 0.134]
    """

    warmup: Duration
    decay: Duration
    shape: ScheduleLike = OneMinusSqrt()  # noqa: RUF009  (frozen, so one instance serves all)
    start: float | None = None

    def __post_init__(self) -> None:
        _check_warmup(self.warmup, self.start)
        check_duration("decay", self.decay)
        object.__setattr__(self, "shape", as_part(self.shape, "shape"))

    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns the warmup, the stable stretch and the cooldown."""
        warmup = _warmup(self.warmup, self.start, horizon)
        return [warmup, Phase(Constant(), name="stable"), Phase(self.shape, self.decay, "cooldown")]


@dataclass(frozen=True)
class OneCycle(Recipe):
    """Up to the peak, then down to almost 0.

    From ``low`` to 1 over ``up``, then to ``end`` over the rest. With ``down``, back to ``low`` over ``down``, then to
    ``end`` over the rest. The peak is the base learning rate.

    Use it for short trainings at a high peak rate.

    Args:
        up: Duration of the way up.
        down: Duration of the way down to ``low``; None for two phases instead of three.
        low: Factor at step 0, finite and at least 0 (1 / 25: torch's ``div_factor``).
        end: Factor at the end of the horizon, finite and at least 0 (torch: 1 / ``div_factor`` / ``final_div_factor``).
        shape: ``"cosine"`` or ``"linear"``: the curve of each phase.
        momentum: Factor of the base momentum at the peak, finite and at least 0: its factor goes from 1 to this
            while the rate rises, and back while it falls (torch: 0.85 / 0.95, with the momentum at 0.95). None leaves
            the momentum as it is.

    Raises:
        InputError: When a duration, a factor or the shape is wrong; on use, when the phases are longer than the
            horizon.

    Source: Smith and Topin 2017, "Super-Convergence", https://arxiv.org/abs/1708.07120. torch's ``OneCycleLR`` over
    ``total_steps`` reaches its end at step ``total_steps - 1``: it equals this one on a horizon one step shorter, with
    ``up`` of ``pct_start * total_steps - 1`` steps.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(OneCycle(up="2st", low=0.1, end=0.0, shape="linear"), Horizon(6))]
    [0.1, 0.55, 1.0, 0.75, 0.5, 0.25]
    >>> momentum = OneCycle(up="2st", shape="linear", momentum=0.9).companions()["momentum"]
    >>> [round(factor, 4) for factor in table(momentum, Horizon(6))]
    [1.0, 0.95, 0.9, 0.925, 0.95, 0.975]
    """

    up: Duration = "30%"
    down: Duration | None = None
    low: float = 1 / 25
    end: float = 1 / 250_000
    shape: Literal["cosine", "linear"] = "cosine"
    momentum: float | None = None

    def __post_init__(self) -> None:
        check_duration("up", self.up)
        if self.down is not None:
            check_duration("down", self.down)
        check_not_negative("low", self.low)
        check_not_negative("end", self.end)
        if self.momentum is not None:
            check_not_negative("momentum", self.momentum)
        check_choice("shape", self.shape, tuple(_ANNEALS))

    def phases(self, horizon: Horizon) -> list[Phase]:
        """Returns up, down and, with ``down``, annihilate."""
        return self._through(self.low, 1.0, self.low, self.end)

    def companions(self) -> dict[str, Schedule]:
        """Returns the schedule of the momentum by the name ``"momentum"``, or nothing when it stays as it is."""
        return {} if self.momentum is None else {"momentum": Chain(self._through(1.0, self.momentum, 1.0, 1.0))}

    def _through(self, first: float, peak: float, back: float, last: float) -> list[Phase]:
        anneal = _ANNEALS[self.shape]
        up = Phase(anneal(first, peak), self.up, "up")
        if self.down is None:
            return [up, Phase(anneal(peak, last), name="down")]
        return [up, Phase(anneal(peak, back), self.down, "down"), Phase(anneal(back, last), name="annihilate")]


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine wave that starts again, each time longer: ``end + (1 - end) * (1 + cos(pi * v / P)) / 2``.

    v is the step within its cycle. The first cycle has P steps, those in ``period``, and each later one ``multiplier``
    times as many as the one before: cycle c starts at ``P * (multiplier ** c - 1) / (multiplier - 1)``, or ``P * c``
    when it is 1. At the end of the horizon no new cycle begins: the end of the last is held.

    Use it to get a good model at the end of every cycle, to stop there or to build an ensemble.

    Args:
        period: Duration of the first cycle; at least one step.
        multiplier: Ratio of the lengths of a cycle and the one before, a whole number of at least 1.
        end: Factor at the end of a cycle, finite and at least 0.

    Raises:
        InputError: When ``period`` is not a duration, ``multiplier`` is below 1 or ``end`` is not a factor.

    Source: Loshchilov and Hutter 2016, "SGDR", https://arxiv.org/abs/1608.03983, equation 5.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> [round(factor, 4) for factor in table(CosineRestarts(period="2st", multiplier=2), Horizon(7))]
    [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 1.0]
    """

    period: Duration
    multiplier: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        check_duration("period", self.period)
        check_whole("multiplier", self.multiplier, least=1)
        check_not_negative("end", self.end)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        last = horizon.steps - 1
        start, length = self._cycle(min(step, last), period_in(self.period, horizon))
        t = min(step, last + 1) - start
        return blend(1.0, self.end, (1.0 + math.cos(math.pi * t / length)) / 2.0)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the cycles, the last one cut off by the horizon."""
        found: list[Span] = []
        start, length = 0, period_in(self.period, horizon)
        if self.multiplier == 1:
            return cycles(length, horizon.steps)
        while start < horizon.steps:
            found.append(Span(f"cycle {len(found) + 1}", start, min(start + length, horizon.steps)))
            start, length = start + length, length * self.multiplier
        return found

    def _cycle(self, step: int, period: int) -> tuple[int, int]:
        """Returns the first step and the length of the cycle that a step lies in."""
        if self.multiplier == 1:
            return step - step % period, period
        growth = self.multiplier - 1
        # The largest c with multiplier ** c <= 1 + step * growth / period, found in whole numbers: a logarithm is
        # off by one at the restarts.
        ratio, scale = 1 + step * growth // period, 1
        while scale * self.multiplier <= ratio:
            scale *= self.multiplier
        return period * (scale - 1) // growth, period * scale


def _check_warmup(warmup: Duration, start: float | None) -> None:
    check_duration("warmup", warmup)
    if start is not None:
        check_not_negative("start", start)


def _warmup(warmup: Duration, start: float | None, horizon: Horizon) -> Phase:
    steps = steps_in(warmup, horizon)
    if steps > horizon.steps:
        raise InputError(
            f"warmup={shown(warmup)} needs {steps} steps but training has {horizon.steps}: "
            "shorten the warmup or raise max_epochs"
        )
    return Phase(Linear(1 / (steps + 1) if start is None else start, 1.0), warmup, "warmup")
