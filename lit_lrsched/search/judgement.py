"""What the losses of many rates say: the best rate and how sure that is, the largest safe one, and the one to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lit_lrsched.errors import InputError
from lit_lrsched.search.rates import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]

_REACH = 0.7  # decades on either side of a rate over which a quadratic is fitted around it
_LEAST = 7  # rates that it is fitted to at least
_CAP = 1.0  # in log: what lies further above the lowest loss says nothing of where that is, and would bend the fit
_SLACK = 0.01  # how much higher the loss may be at the rate that is suggested ...
_SHARE = 0.2  # ... or, of the standard error of the best's: what is small beside that is luck
_TIED = 0.05  # how much higher it may be at a rate that does as well ...
_FLAT = 10.0  # ... where such rates span this factor, the loss is flat
_ALPHA = 0.05
_RESAMPLES = 999


@dataclass(frozen=True)
class Judgement:
    """What the losses say.

    Args:
        best: The rate with the lowest loss.
        interval: 95 % bootstrap interval of it over the seeds.
        largest_safe: The largest rate tried at and below which no seed diverged.
        suggested: The largest rate tried, at most the largest safe one, whose loss is within 1 % of the best's, or
            a fifth of its standard error, and cannot be told from it; the best itself where there is none above it.
        edge: The end of the range, ``"low"`` or ``"high"``, that the best lies on; None when it lies inside.
        flat: The lowest and the highest rate whose losses are within 5 % of the best's, all between included, when they
            are a factor of 10 apart; otherwise None.
        all_safe: Whether no seed diverged at any rate.
    """

    best: float
    interval: tuple[float, float]
    largest_safe: float
    suggested: float
    edge: Literal["low", "high"] | None
    flat: tuple[float, float] | None
    all_safe: bool


def diverged(broken: BoolArray, ends: Sequence[tuple[FloatArray, FloatArray]]) -> BoolArray:
    """Returns which trainings diverged, ``[L, S]``.

    Those whose loss or weights became nan or infinite, and those that end above the untrained module by more than the
    best rate ends below it, in any of the losses looked at.

    Args:
        broken: Whether a loss or a weight became nan or infinite, ``[L, S]``.
        ends: Losses at the end, ``[L, S]``, each with that of the untrained module, ``[S]``.

    >>> losses = np.array([[0.5], [1.4], [2.1], [np.nan]])
    >>> diverged(np.zeros((4, 1), bool), [(losses, np.array([1.0]))])[:, 0]
    array([False, False,  True,  True])
    """
    found = broken.copy()
    for values, _ in ends:
        found |= ~np.isfinite(values)
    for values, start in ends:
        lowest = np.where(found, np.inf, values).min(axis=0)
        gain = np.maximum(start - np.minimum(lowest, start), 0.0).mean()
        found = found | (np.nan_to_num(values, nan=np.inf) > start + gain)
    return found


def judge(lrs: FloatArray, losses: FloatArray, broken_down: BoolArray) -> Judgement:
    """Judges rates by the losses that they end with.

    Around every rate a quadratic in log rate is fitted to the log of the mean loss over the seeds; the best rate is the
    lowest point of the one whose middle is lowest.

    Args:
        lrs: Rates in rising order, ``[L]``.
        losses: The loss of every seed, ``[L, S]``; a column is one seed, the same for all rates.
        broken_down: Which trainings diverged, ``[L, S]``.

    Raises:
        InputError: When a seed diverged at the lowest rate already.

    >>> lrs = 10.0 ** np.arange(-3, 1.1, 0.25)
    >>> losses = np.exp((np.log10(lrs)[:, None] - np.array([[-1.1, -0.9]])) ** 2 / 10)
    >>> found = judge(lrs, losses, np.zeros(losses.shape, bool))
    >>> f"{found.best:.3g} {found.suggested:.3g} {found.largest_safe:.3g}", found.edge
    ('0.1 0.178 10', None)
    """
    unsafe = broken_down.any(axis=1)
    safe = int(unsafe.argmax()) if unsafe.any() else len(lrs)
    if safe == 0:
        raise InputError(f"a seed diverged at the lowest rate tried, {lrs[0]:.3g}: give lower rates (lrs)")
    valley, scale = Valley(np.log10(lrs[:safe])), _Scale(losses[:safe])
    (best,), (middle,) = valley.lowest(scale.level(losses[:safe])[:, None])
    smooth = valley.smooth(scale.by_seed(losses[:safe]))
    differences = smooth - smooth[middle]
    told = np.array([_is_told(row) for row in differences])
    above = differences.mean(axis=1)
    first, last = _run_around(middle, above <= math.log1p(_TIED))
    edge: Literal["low", "high"] | None = None
    if middle == 0:
        edge = "low"
    elif middle == len(lrs) - 1:
        edge = "high"
    slack = max(math.log1p(_SLACK), _SHARE * _error(scale.by_seed(losses[:safe])[middle]))
    suggested = _run_around(middle, ~told & (above <= slack))[1]
    return Judgement(
        best=_rate(best, lrs[:safe]),
        interval=_interval_of_best(valley, scale, losses[:safe], best, lrs[:safe]),
        largest_safe=float(lrs[safe - 1]),
        suggested=max(float(lrs[suggested]), _rate(best, lrs[:safe])),
        edge=edge,
        flat=(float(lrs[first]), float(lrs[last])) if lrs[last] >= _FLAT * lrs[first] else None,
        all_safe=safe == len(lrs),
    )


class Valley:
    """Quadratics fitted around each of some rates, the nearer ones counting more (Cleveland 1979).

    Args:
        rates: The rates, in decades, rising, ``[L]``.

    >>> valley = Valley(np.arange(-3.0, 1.1, 0.25))
    >>> best, middle = valley.lowest((valley.rates[:, None] + 0.9) ** 2)
    >>> best.round(6), valley.rates[middle]
    (array([-0.9]), array([-1.]))
    """

    def __init__(self, rates: FloatArray) -> None:
        self.rates = rates
        fits = []
        for rate in rates:
            away = np.abs(rates - rate)
            reach = 1.01 * max(_REACH, float(np.sort(away)[min(_LEAST, len(rates)) - 1]), 1e-9)
            root = np.sqrt(np.clip(1 - (away / reach) ** 3, 0, None) ** 3)
            fits.append(np.linalg.pinv(root[:, None] * np.vander(rates - rate, 3, increasing=True)) * root)
        self._level, self._slope, self._bend = np.array(fits).transpose(1, 0, 2)  # [L, L] each

    def smooth(self, values: FloatArray) -> FloatArray:
        """Returns the middle of every fit, of values ``[L, ...]``."""
        found: FloatArray = self._level @ values
        return found

    def lowest(self, values: FloatArray) -> tuple[FloatArray, IntArray]:
        """Returns where values ``[L, N]`` are lowest, in decades, and the places of the rates next to that, ``[N]``."""
        middle = self.smooth(values).argmin(axis=0)
        slope, bend = ((fits[middle] * values.T).sum(axis=1) for fits in (self._slope, self._bend))
        rate, low, high = (self.rates[np.clip(middle + off, 0, len(self.rates) - 1)] for off in (0, -1, 1))
        at = rate - np.divide(slope, 2 * bend, out=np.zeros_like(slope), where=bend > 0)
        return np.clip(at, low, high), middle


class _Scale:
    """The scale on which losses are compared: the log of their mean, or where they are not all above 0, their own.

    Args:
        losses: Losses, ``[L, S]``.
    """

    def __init__(self, losses: FloatArray) -> None:
        means = losses.mean(axis=1)
        self._in_log = bool((losses >= 0).all() and (means > 0).all())
        self._unit = 1.0 if self._in_log else float(means.max() - means.min()) or 1.0
        self._least = float(means.min()) / 10  # a draw of seeds may have no loss at all
        self._most = float(self._of(means).min()) + _CAP

    def _of(self, means: FloatArray) -> FloatArray:
        found: FloatArray = np.log(np.maximum(means, self._least)) if self._in_log else means / self._unit
        return found

    def level(self, losses: FloatArray) -> FloatArray:
        """Returns the mean over the last axis, the seeds, on this scale."""
        return np.minimum(self._of(losses.mean(axis=-1)), self._most)

    def by_seed(self, losses: FloatArray) -> FloatArray:
        """Returns what each seed contributes to that mean, to first order, ``[L, S]``: their mean is the level."""
        means = losses.mean(axis=1, keepdims=True)
        found: FloatArray = self.level(losses)[:, None] + (losses - means) / (means if self._in_log else self._unit)
        return found


def _run_around(middle: int, fits: BoolArray) -> tuple[int, int]:
    """Returns the first and the last place of the unbroken run around one of them."""
    others = np.flatnonzero(~fits)
    return int(max(others[others < middle], default=-1)) + 1, int(min(others[others > middle], default=len(fits))) - 1


def _rate(decades: float, lrs: FloatArray) -> float:
    """Returns a rate given in decades, within those tried."""
    return float(np.clip(10**decades, lrs[0], lrs[-1]))


def _interval_of_best(
    valley: Valley, scale: _Scale, losses: FloatArray, best: float, lrs: FloatArray
) -> tuple[float, float]:
    from scipy.stats import norm, t

    seeds = losses.shape[1]
    draws = np.random.default_rng(0).integers(seeds, size=(_RESAMPLES, seeds))
    found, _ = valley.lowest(scale.level(losses[:, draws]))
    # Over few seeds a bootstrap is too narrow: by the root of n / (n - 1), and for the normal quantile instead of
    # Student's (Hesterberg 2015, whose expanded percentiles so few seeds do not have).
    wider = math.sqrt(seeds / (seeds - 1)) * float(t.ppf(1 - _ALPHA / 2, seeds - 1) / norm.ppf(1 - _ALPHA / 2))
    ends = best + wider * (np.quantile(found, [_ALPHA / 2, 1 - _ALPHA / 2]) - best)
    return _rate(min(ends[0], best), lrs), _rate(max(ends[1], best), lrs)


def _is_told(differences: FloatArray) -> bool:
    """Returns whether paired differences are above 0 on average, by a two-sided t test at 5 %."""
    from scipy.stats import t

    return bool(differences.mean() > t.ppf(1 - _ALPHA / 2, len(differences) - 1) * _error(differences) + 1e-12)


def _error(values: FloatArray) -> float:
    """Returns the standard error of a mean."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def interval(losses: FloatArray) -> tuple[float, float]:
    """Returns the 95 % t interval of a mean over seeds, in log where no loss is below 0.

    >>> low, high = interval(np.array([1.0, 2.0, 3.0]))
    >>> f"{low:.2f} {high:.2f}"  # 2 * exp(+-4.30 * 1 / sqrt(3) / 2)
    '0.58 6.93'
    """
    from scipy.stats import t

    mean = float(losses.mean())
    half = float(t.ppf(1 - _ALPHA / 2, len(losses) - 1) * losses.std(ddof=1)) / math.sqrt(len(losses))
    if mean > 0 and (losses >= 0).all():
        return mean * math.exp(-half / mean), mean * math.exp(min(half / mean, 700.0))
    return mean - half, mean + half
