"""How wrong forecasts are, by leaving out runs: single ones, those of a peak, a shape, the longest; second halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_lrsched.forecasting.discrepancy import Discrepancy, Sizes, Targets, Traits, usual_sizes
from lit_lrsched.forecasting.fitting import FittedLaw, Observations, fit
from lit_lrsched.forecasting.laws import Law, Units
from lit_lrsched.forecasting.rate_path import FloatArray

_FACTORS = np.geomspace(1 / 8, 8, 9)  # of the usual sizes
_DOUBT = np.log(1.7)  # standard deviation of the logarithm of a size, before any run was left out
_WORTH = 4.0  # degrees of freedom of the usual sizes; every two runs add one
_MOST_SINGLE = 8  # of more runs several are left out at once
_STOPPED = 0.5  # of its length, where a run is forecast from its beginning


@dataclass(frozen=True, eq=False)
class Fold:
    """Runs that were left out together, and what the others say of them.

    Args:
        discrepancy: What the others say of how these end.
        logs: The logarithms of the losses that they ended with, ``[members]``.
        noise: The variances of these, ``[members]``.
    """

    discrepancy: Discrepancy
    logs: FloatArray
    noise: FloatArray

    def errors(self, sizes: Sizes) -> tuple[FloatArray, FloatArray]:
        """Returns logged minus forecast, in logarithms, and the covariance that these errors should have."""
        forecast, covariance = self.discrepancy.predict(sizes)
        return self.logs - forecast, covariance + np.diag(self.noise)


@dataclass(frozen=True, eq=False)
class Calibration:
    """How wrong a law is on runs that were left out.

    Args:
        fitted: The law, fitted to all runs.
        folds: The runs left out.
        sizes: The sizes of the discrepancy's parts, by what was left out.
        freedom: Degrees of freedom of the sizes: the runs are few, and left out more than once.
    """

    fitted: FittedLaw
    folds: Sequence[Fold]
    sizes: Sizes
    freedom: float

    @property
    def score(self) -> float:
        """How likely the losses of the runs left out were by the forecasts: the mean logarithm over the folds."""
        return _likelihood(self.folds, self.sizes) / len(self.folds)

    @property
    def errors(self) -> FloatArray:
        """Logged over forecast loss minus 1, for every run left out, ``[left out]``."""
        return np.asarray(np.expm1(np.concatenate([fold.errors(self.sizes)[0] for fold in self.folds])))


def calibrate(law: Law, observed: Sequence[Observations], units: Units) -> Calibration:
    """Fits a law to all runs, and to those that are left when some are left out.

    Args:
        law: The law.
        observed: The runs, at least two.
        units: The units.
    """
    fitted = fit(law, observed, units)
    everyone = range(len(observed))
    folds = []
    for members in members_of_folds(observed):
        rest = [observed[place] for place in everyone if place not in members]
        folds.append(_fold(fitted, rest, [observed[place] for place in members]))
    halves = {place: half for place, each in enumerate(observed) if (half := each.until(_STOPPED))}
    if halves:  # how they would have been forecast at half their length
        rest = [halves.get(place, observed[place]) for place in everyone]
        folds.append(_fold(fitted, rest, [observed[place] for place in halves]))
    return Calibration(fitted, folds, sizes_of(folds, usual_sizes(fitted, observed)), _WORTH + len(observed) / 2)


def members_of_folds(observed: Sequence[Observations]) -> list[tuple[int, ...]]:
    """Returns what to leave out: every run once, all of the greatest length, of each peak rate, and of each shape.

    Groups only where at least two runs remain.
    """
    count = len(observed)
    number = min(count, _MOST_SINGLE)
    folds = [tuple(range(first, count, number)) for first in range(number)]
    lengths = np.array([each.counts[-1] for each in observed])
    traits = Traits.joined([Traits.of(each.run.path, each.counts[-1:]) for each in observed])
    alike = np.concatenate([np.round(traits.peak, 1)[:, None], 100 + np.round(traits.shape, 1)], axis=1)
    groups = [lengths > 0.8 * lengths.max()]
    for columns in (alike[:, :1], alike[:, 1:]):
        groups += [(columns == one).all(axis=1) for one in np.unique(columns, axis=0)]
    folds += [tuple(np.flatnonzero(group).tolist()) for group in groups if (~group).sum() >= 2]
    return list(dict.fromkeys(folds))


def _fold(fitted: FittedLaw, rest: Sequence[Observations], left_out: Sequence[Observations]) -> Fold:
    refitted = fit(fitted.law, rest, fitted.units, start=fitted.logs)
    targets = Targets.of(refitted, [(each.run.path, each.counts[-1:]) for each in left_out])
    logs = np.log([each.losses[-1] for each in left_out])
    return Fold(Discrepancy(refitted, rest, targets), logs, np.array([each.noise[-1] for each in left_out]))


def sizes_of(folds: Sequence[Fold], usual: Sizes) -> Sizes:
    """Returns the sizes under which the errors of the runs left out are most likely.

    Errors of runs that were left out together are taken together, so that their differences count as well. A fold
    counts as the root of its number of runs.

    Args:
        folds: The runs left out.
        usual: How large the parts usually are, which is weighed in.
    """
    sizes = usual
    for _ in range(2):
        for place, size in enumerate(usual):
            tried = [sizes._replace(**{Sizes._fields[place]: size * factor}) for factor in _FACTORS]
            sizes = max(tried, key=lambda one: _likelihood(folds, one) + _prior(one, usual))
    return sizes


def _likelihood(folds: Sequence[Fold], sizes: Sizes) -> float:
    total = 0.0
    for fold in folds:
        errors, covariance = fold.errors(sizes)
        factor = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(errors)))
        scaled = np.linalg.solve(factor, errors)
        total += float(-0.5 * scaled @ scaled - np.log(np.diag(factor)).sum()) / len(errors) ** 0.5
    return total


def _prior(sizes: Sizes, usual: Sizes) -> float:
    return -0.5 * float(sum((np.log(size / at) / _DOUBT) ** 2 for size, at in zip(sizes, usual, strict=True)))
