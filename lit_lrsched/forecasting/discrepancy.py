"""What a law gets wrong, as a Gaussian process over runs: errors of runs that are alike are alike.

``log loss = log law(parameters) + discrepancy + noise``. The parameters are known as well as the runs tell them. The
discrepancy has four parts: by the peak rate, by the length, by the shape, and each run's own. How large each is, is
told by runs that were left out. So two schedules of one peak and one length share most of their error, and the interval
of their difference is narrower than that of either; and where no run of another length was seen, a longer one is known
no better than lengths usually are.

Source: Kennedy and O'Hagan 2001, "Bayesian Calibration of Computer Models", https://doi.org/10.1111/1467-9868.00294.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lit_lrsched.forecasting.fitting import FittedLaw, Observations
from lit_lrsched.forecasting.laws import Points
from lit_lrsched.forecasting.rate_path import FloatArray, RatePath

_POINTS = 8  # of a run, at most: its error changes slowly
_ALL_POINTS = 112  # of all runs


class Sizes(NamedTuple):
    """How much the logarithm of a loss is off: standard deviations.

    Args:
        peak: Of the difference of two runs whose peaks are a factor of 2 apart.
        length: Of the difference of two runs whose lengths are a factor of 2 apart.
        shape: Of the difference of a constant rate and a cosine.
        own: Of what a run has for itself, such as its seed's luck.
    """

    peak: float
    length: float
    shape: float
    own: float


USUAL = Sizes(peak=0.015, length=0.01, shape=0.005, own=0.0005)
_USUAL_FALL = 0.025  # of the logarithm of a language model's loss over a doubling of its steps: what USUAL is for


def usual_sizes(fitted: FittedLaw, observed: Sequence[Observations]) -> Sizes:
    """Returns how large the parts are before any run was left out.

    Where the loss still falls faster than a language model's, a law has more to get wrong of how it goes on and of what
    a decay brings: by the root of how much faster, as with SGD on least squares (``scripts/forecast_calibration.py``).

    Args:
        fitted: The law, fitted to the runs.
        observed: The runs.
    """
    fall = float(np.median([fitted.falls(each.points)[-1] for each in observed]))
    more = max(fall / _USUAL_FALL, 1.0) ** 0.5
    return USUAL._replace(length=more * USUAL.length, shape=more * USUAL.shape)


class Traits(NamedTuple):
    """Where runs lie among others.

    Args:
        peak: Doublings of the peak rate, ``[points]``.
        length: Doublings of the number of steps, ``[points]``.
        shape: Square roots of the last rate, the mean rate, and that over the last fifth, as shares of the peak,
            ``[points, 3]``.
    """

    peak: FloatArray
    length: FloatArray
    shape: FloatArray

    @classmethod
    def of(cls, path: RatePath, counts: FloatArray) -> Traits:
        """Returns the traits of the first so many steps of a run, for each of some counts."""
        whole = np.asarray(counts, dtype=np.int64)
        top, total = path.top_until(whole), path.sum_until(whole)
        fifth = np.maximum(whole // 5, 1)
        recent = (total - path.sum_until(whole - fifth)) / fifth
        shape = np.stack([path.rate_at(whole - 1), total / whole, recent], axis=1) / top[:, None]
        return cls(np.log2(top), np.log2(whole), np.sqrt(np.maximum(shape, 0.0)))

    @classmethod
    def joined(cls, traits: Sequence[Traits]) -> Traits:
        """Returns the traits of several runs as one."""
        return cls(*(np.concatenate(column) for column in zip(*traits, strict=True)))


def _smooth(distance: FloatArray, reach: float) -> FloatArray:
    """Returns the Matérn correlation of order 3/2: its functions have slopes, so they can be followed a little."""
    x = np.sqrt(3.0) * distance / reach
    return np.asarray((1.0 + x) * np.exp(-x))


def _apart_by_one(reach: float) -> float:
    """Returns the standard deviation of a difference over the distance 1, of a part with variance 1."""
    return float(np.sqrt(2 - 2 * _smooth(np.array(1.0), reach)))


def kernels(one: Traits, other: Traits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns the covariances of the parts by peak, length and shape of size 1, ``[points, points]`` each."""
    peak, length = np.abs(one.peak[:, None] - other.peak), np.abs(one.length[:, None] - other.length)
    shape = np.sqrt(((one.shape[:, None] - other.shape) ** 2).sum(axis=-1))
    return (
        _smooth(peak, 3.0) * _smooth(length, 4.0) / _apart_by_one(3.0) ** 2,
        _smooth(length, 3.0) * _smooth(peak, 6.0) / _apart_by_one(3.0) ** 2,
        np.exp(-shape) * _smooth(peak, 6.0) * _smooth(length, 6.0) / (2 - 2 * np.exp(-1.0)),
    )


@dataclass(frozen=True, eq=False)
class Targets:
    """Points of runs, as a fitted law sees them.

    Args:
        traits: Where they lie, ``[targets]``.
        logs: What the law says, ``[targets]``.
        slopes: Its derivatives by the parameters, ``[targets, parameters]``.
    """

    traits: Traits
    logs: FloatArray
    slopes: FloatArray

    @classmethod
    def of(cls, fitted: FittedLaw, asked: Sequence[tuple[RatePath, FloatArray]]) -> Targets:
        """Returns the targets: of each path the first so many steps, for each of some counts."""
        found = [fitted.predict(Points.of(path, counts, fitted.units)) for path, counts in asked]
        logs, slopes = zip(*found, strict=True)
        traits = Traits.joined([Traits.of(path, counts) for path, counts in asked])
        return cls(traits, np.concatenate(logs), np.concatenate(slopes))


class Discrepancy:
    """The errors of a fitted law at the runs it was fitted to, and what they say of other runs.

    Args:
        fitted: The law.
        observed: The runs.
        targets: The other runs.
    """

    def __init__(self, fitted: FittedLaw, observed: Sequence[Observations], targets: Targets) -> None:
        most = int(np.clip(_ALL_POINTS // len(observed), 2, _POINTS))
        picks = [_spread_out(each.counts, most) for each in observed]
        both = list(zip(observed, picks, strict=True))
        known = Targets.of(fitted, [(each.run.path, each.counts[pick]) for each, pick in both])
        owner = np.repeat(np.arange(len(observed)), [len(pick) for pick in picks])
        self._targets = targets
        self._errors = np.concatenate([np.log(each.losses[pick]) for each, pick in both]) - known.logs
        noise = np.concatenate([each.noise[pick] for each, pick in both])
        prior = np.log([parameter.spread for parameter in fitted.law.parameters]) ** 2
        # Each covariance is a sum: what is fixed, and four parts whose sizes are to be told.
        weighted, asked = known.slopes * prior, targets.slopes * prior
        same = (owner[:, None] == owner).astype(float)
        self._known = (weighted @ known.slopes.T + np.diag(noise + 1e-10), *kernels(known.traits, known.traits), same)
        self._across = (
            asked @ known.slopes.T,
            *kernels(targets.traits, known.traits),
            np.zeros((len(targets.logs), len(owner))),
        )
        self._own = (
            asked @ targets.slopes.T,
            *kernels(targets.traits, targets.traits),
            np.eye(len(targets.logs)),
        )

    def predict(self, sizes: Sizes) -> tuple[FloatArray, FloatArray]:
        """Returns the logarithms of the losses of the other runs, ``[targets]``, and their covariance.

        Args:
            sizes: How large the parts of the discrepancy are.
        """
        from scipy.linalg import cho_factor, cho_solve

        known, across, own = (_sum(parts, sizes) for parts in (self._known, self._across, self._own))
        weights = cho_solve(cho_factor(known, check_finite=False), across.T, check_finite=False).T
        return self._targets.logs + weights @ self._errors, own - weights @ across.T


def _sum(parts: Sequence[FloatArray], sizes: Sizes) -> FloatArray:
    total = parts[0].copy()
    for part, size in zip(parts[1:], sizes, strict=True):
        total += size**2 * part
    return total


def _spread_out(counts: FloatArray, most: int) -> FloatArray:
    """Returns the places of some of a run's points, each as much longer than the one before, and of the last."""
    wanted = np.geomspace(counts[0], counts[-1], min(most, len(counts)))
    return np.unique(np.append(np.searchsorted(counts[:-1], wanted[:-1] * (1 - 1e-9)), len(counts) - 1))
