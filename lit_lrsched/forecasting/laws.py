"""Laws of the learning-rate curve: the loss at a step from the rates of all steps before it.

All have the form ``L = L0 + A * progress - B * annealing``. Rates are in units of a reference rate and steps in units
of a reference length, so that the parameters are plain numbers of the order of 1, whatever the optimizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from lit_lrsched.forecasting.rate_path import FloatArray, RatePath


@dataclass(frozen=True)
class Units:
    """What rates, steps and losses are counted in.

    Args:
        rate: A learning rate.
        steps: A number of steps.
        loss: A loss.
    """

    rate: float
    steps: float
    loss: float


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one run, with what the laws need to know of the steps before each.

    Args:
        steps: Steps done at each point in units, ``[points]``.
        sums: Sum of the rates until then in units, ``[points]``.
        drops: Falls of the rate in units, ``[blocks]``.
        rates: The rate in each block in units, ``[blocks]``.
        sums_since: Sum of the rates from each block to each point in units, 0 for a later block, ``[points, blocks]``.
        steps_since: Steps from each block to each point in units, likewise.
    """

    steps: FloatArray
    sums: FloatArray
    drops: FloatArray
    rates: FloatArray
    sums_since: FloatArray
    steps_since: FloatArray

    @classmethod
    def of(cls, path: RatePath, counts: FloatArray, units: Units) -> Points:
        """Returns the points of a run.

        Args:
            path: The run's learning rate.
            counts: How many steps are done at each point, at least 1.
            units: The units.
        """
        whole = np.asarray(counts, dtype=np.int64)
        blocks, area = path.blocks(whole), units.rate * units.steps
        sums = path.sum_until(whole)
        return cls(
            whole / units.steps,
            sums / area,
            blocks.drops / units.rate,
            blocks.rates / units.rate,
            np.maximum(sums[:, None] - blocks.sums, 0.0) / area,
            np.maximum(whole[:, None] - blocks.middles, 0.0) / units.steps,
        )


class Parameter(NamedTuple):
    """A parameter of a law, which is above 0: where to look for it, before any run is seen.

    In the units of a forecast the laws of language models and those of SGD on least squares are alike: the usual values
    are near theirs.

    Args:
        name: The symbol.
        usual: The usual value, in units.
        spread: By what factor it may well be off: ``usual * spread`` is one standard deviation away.
        low: The least.
        high: The most.
    """

    name: str
    usual: float
    spread: float
    low: float
    high: float


_LEVELS = (
    Parameter("L0", 0.6, 3.0, 1e-4, 1.0),
    Parameter("A", 0.1, 4.0, 1e-5, 30.0),
    Parameter("alpha", 0.5, 2.0, 0.05, 3.0),
)


class Law(ABC):
    """A law: the loss in units as a function of the logarithms of its parameters."""

    name: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    @abstractmethod
    def losses(self, logs: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
        """Returns the loss at each point, ``[points]``, and its derivatives by ``logs``, ``[points, parameters]``."""


class MultiPower(Law):
    """``L = L0 + A * S(t)**-alpha - B * sum_k (e[k-1] - e[k]) * G(e[k]**-gamma * S_k(t))``.

    G(x) is ``1 - (1 + C * x)**-beta``, e[k] the rate at step k, S(t) the sum of the rates until t, and S_k(t) that from
    k to t. The sum runs over all steps, those of the warmup too, in which the rate rises from 0.

    Source: Luo et al. 2025, "A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules",
    https://arxiv.org/abs/2503.12811.
    """

    name = "multi-power"
    parameters = (
        *_LEVELS,
        Parameter("B", 0.05, 4.0, 1e-6, 30.0),
        Parameter("C", 300.0, 10.0, 1e-2, 1e5),
        Parameter("beta", 0.5, 2.0, 0.02, 3.0),
        Parameter("gamma", 0.5, 1.5, 0.05, 1.0),
    )

    def losses(self, logs: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
        """Returns the losses and their derivatives."""
        level, size, alpha, gain, reach, beta, gamma = np.exp(logs)
        falling = size * points.sums**-alpha
        log_rates = np.log(points.rates)
        x = reach * np.exp(-gamma * log_rates) * points.sums_since
        log1p = np.log1p(x)
        left = np.exp(-beta * log1p)
        annealed = gain * ((1.0 - left) @ points.drops)
        # d(1 - (1 + x)**-beta) / dlog(x) = beta * x * (1 + x)**(-beta - 1)
        moved = beta * left * (x / (1.0 + x))
        derivatives = [
            np.full_like(falling, level),
            falling,
            -falling * alpha * np.log(points.sums),
            -annealed,
            -gain * (moved @ points.drops),
            -gain * ((beta * left * log1p) @ points.drops),
            gain * gamma * (moved @ (log_rates * points.drops)),
        ]
        return level + falling - annealed, np.stack(derivatives, axis=1)


class Annealing(Law):
    """``L = L0 + A * S(t)**-alpha - B * sum_k (e[k-1] - e[k]) * tau * (1 - exp(-(t - k) / tau))``.

    e[k] is the rate at step k and S(t) the sum of the rates until t. The paper's decay factor of a step is
    ``exp(-1 / tau)``.

    Source: Tissue et al. 2024, "Scaling Law with Learning Rate Annealing", https://arxiv.org/abs/2408.11029.
    """

    name = "annealing"
    parameters = (*_LEVELS, Parameter("B", 0.05, 4.0, 1e-6, 300.0), Parameter("tau", 0.03, 10.0, 1e-4, 10.0))

    def losses(self, logs: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
        """Returns the losses and their derivatives."""
        level, size, alpha, gain, tau = np.exp(logs)
        falling = size * points.sums**-alpha
        x = points.steps_since / tau
        left = np.exp(-x)
        # In units of tau, so that B stays of the order of 1: B here is the paper's times tau.
        annealed = gain * ((1.0 - left) @ points.drops)
        derivatives = [
            np.full_like(falling, level),
            falling,
            -falling * alpha * np.log(points.sums),
            -annealed,
            gain * ((x * left) @ points.drops),
        ]
        return level + falling - annealed, np.stack(derivatives, axis=1)


class PowerLaw(Law):
    """``L = L0 + A * t**-alpha``: the steps alone, which the others have to beat."""

    name = "power law in the steps"
    parameters = _LEVELS

    def losses(self, logs: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
        """Returns the losses and their derivatives."""
        level, size, alpha = np.exp(logs)
        falling = size * points.steps**-alpha
        derivatives = [np.full_like(falling, level), falling, -falling * alpha * np.log(points.steps)]
        return level + falling, np.stack(derivatives, axis=1)


LAWS: tuple[Law, ...] = (MultiPower(), Annealing())
BASELINE = PowerLaw()
