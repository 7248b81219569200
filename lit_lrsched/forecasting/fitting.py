"""A law fitted to logged runs: robust, with a weak notion of usual parameters where the runs say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lit_lrsched.forecasting.laws import Law, Points, Units
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath

HUBER = 1e-3  # of a log residual: from here on its weight falls, as in the papers
_POINTS = 24  # of a run, at most
_ALL_POINTS = 288  # of all runs
_BEGIN = 0.1  # of a run: the laws say nothing of its beginning
_STARTS = (0.25, 0.5, 1.0)  # alpha


@dataclass(frozen=True, eq=False)
class Observations:
    """What of a run the laws are fitted to.

    Args:
        run: The run.
        counts: Steps done at each point, ``[points]``.
        losses: The losses there, each a mean over the logged ones around it, ``[points]``.
        noise: Variance of the logarithm of each, as far as it comes and goes from one point to the next, ``[points]``.
        points: The same points as the laws take them.
    """

    run: LoggedRun
    counts: FloatArray
    losses: FloatArray
    noise: FloatArray
    points: Points

    @classmethod
    def of(cls, run: LoggedRun, units: Units, most: int = _POINTS) -> Observations:
        """Returns the points of a run, after its warmup and its first tenth.

        Args:
            run: The run.
            units: The units.
            most: How many points at most.
        """
        begin = max(min(run.path.warmup, run.length // 2), _BEGIN * run.length, run.path.begun)
        kept = run.steps >= min(begin, run.steps[-1])
        steps, logs = run.steps[kept], np.log(run.losses[kept])
        noise = _noise(logs)
        groups = np.array_split(np.arange(len(steps)), min(len(steps), most))
        counts = np.array([np.rint(steps[group].mean()) for group in groups])
        means = np.array([logs[group].mean() for group in groups])
        sizes = np.array([len(group) for group in groups])
        return cls(run, counts, np.exp(means), noise / sizes, Points.of(run.path, counts, units))

    def until(self, share: float) -> Observations | None:
        """Returns the points of the first part of the run, as if it had been stopped; None where they are few."""
        kept = self.counts <= share * self.counts[-1]
        if kept.sum() < 4:
            return None
        points = replace(
            self.points,
            steps=self.points.steps[kept],
            sums=self.points.sums[kept],
            sums_since=self.points.sums_since[kept],
            steps_since=self.points.steps_since[kept],
        )
        return Observations(self.run, self.counts[kept], self.losses[kept], self.noise[kept], points)


def _noise(logs: FloatArray) -> float:
    """Returns the variance of what comes and goes from one point to the next, robustly."""
    if len(logs) < 5:
        return 0.0
    second = logs[2:] - 2 * logs[1:-1] + logs[:-2]
    return float((np.median(np.abs(second)) / 0.6745) ** 2 / 6)


def observed(runs: Sequence[LoggedRun]) -> tuple[list[Observations], Units]:
    """Returns what the laws are fitted to, no more points than are needed, and units for it."""
    units = units_of(runs)
    most = min(max(_ALL_POINTS // len(runs), 6), _POINTS)
    return [Observations.of(run, units, most) for run in runs], units


def units_of(runs: Sequence[LoggedRun]) -> Units:
    """Returns units in which the numbers of these runs are of the order of 1."""
    return Units(
        rate=float(np.exp(np.mean([np.log(run.path.peak) for run in runs]))),
        steps=float(max(run.length for run in runs)),
        loss=float(np.median([run.losses[-1] for run in runs])),
    )


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """A law and its parameters.

    Args:
        law: The law.
        logs: Logarithms of the parameters, in units.
        units: The units.
    """

    law: Law
    logs: FloatArray
    units: Units

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value:.3g}" for name, value in self.parameters.items())
        return f"{self.name} law: {values}"

    def predict(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Returns the logarithm of the loss at each point, and its derivatives, ``[points, parameters]``."""
        losses, slopes = self.law.losses(self.logs, points)
        least = 1e-3 * float(np.exp(self.logs[0]))
        low = losses < least  # where the annealing would bring more than there is
        safe = np.where(low, least, losses)
        return np.log(safe * self.units.loss), np.where(low[:, None], 0.0, slopes) / safe[:, None]

    def falls(self, points: Points) -> FloatArray:
        """Returns by how much the logarithm of the loss falls over a doubling of the steps, ``[points]``."""
        # The derivative by log(A) is the share of the loss that falls with the power alpha.
        return np.asarray(np.log(2) * self.parameters["alpha"] * self.predict(points)[1][:, 1])

    def losses(self, path: RatePath, counts: FloatArray) -> FloatArray:
        """Returns the loss after so many steps of a run."""
        return np.exp(self.predict(Points.of(path, counts, self.units))[0])

    @cached_property
    def parameters(self) -> dict[str, float]:
        """The parameters by name, in units."""
        return {p.name: float(value) for p, value in zip(self.law.parameters, np.exp(self.logs), strict=True)}


def fit(law: Law, observed: Sequence[Observations], units: Units, start: FloatArray | None = None) -> FittedLaw:
    """Returns the law that fits best: least Huber loss of log residuals, every run of the same weight a point.

    Args:
        law: The law.
        observed: What to fit it to.
        units: The units.
        start: Logarithms of parameters to start from. None: several starts, of which the best counts.
    """
    from scipy.optimize import least_squares

    usual = np.log([p.usual for p in law.parameters])
    spread = np.log([p.spread for p in law.parameters])
    bounds = np.log([p.low for p in law.parameters]), np.log([p.high for p in law.parameters])
    logs = [np.log(each.losses) for each in observed]

    last: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def both(at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Residuals and their derivatives, which cost little once the residuals are there."""
        if at.tobytes() not in last:
            fitted = FittedLaw(law, at, units)
            found = [fitted.predict(each.points) for each in observed]
            off = [(ours - log) / HUBER for (ours, _), log in zip(found, logs, strict=True)]
            slopes = [of_run / HUBER for _, of_run in found]
            last.clear()
            last[at.tobytes()] = (
                np.concatenate([*off, (at - usual) / spread]),
                np.concatenate([*slopes, np.diag(1 / spread)]),
            )
        return last[at.tobytes()]

    def huber(squares: FloatArray) -> FloatArray:
        roots = np.sqrt(np.maximum(squares, 1.0))
        rho = np.stack([np.where(squares > 1, 2 * roots - 1, squares), 1 / roots, -0.5 / roots**3 * (squares > 1)])
        prior = slice(len(squares) - len(usual), None)
        rho[:, prior] = np.stack([squares, np.ones_like(squares), np.zeros_like(squares)])[:, prior]
        return rho

    starts = [start] if start is not None else [np.concatenate([usual[:2], [np.log(a)], usual[3:]]) for a in _STARTS]
    found = [
        least_squares(
            lambda at: both(at)[0],
            at,
            jac=lambda at: both(at)[1],
            bounds=bounds,
            loss=huber,
            max_nfev=60,
            x_scale=spread,
            ftol=1e-5,
        )
        for at in starts
    ]
    return FittedLaw(law, min(found, key=lambda one: float(one.cost)).x, units)
