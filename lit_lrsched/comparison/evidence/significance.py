"""Paired differences between schedules: permutation tests, and the intervals that agree with them.

Several differences are judged together by a max-T test (Westfall and Young 1993). Were the schedules alike, every seed
could as well have had all its differences with the other sign. So whole seeds are flipped, all schedules at once, and
a difference counts only when it is larger than the largest of all differences usually is. This knows how the
comparisons hang together, which a correction of one p at a time (Bonferroni, Holm) has to guess from their number.

``T`` of a pair is ``|sum of d| / sqrt(sum of d ** 2)``, d its differences by seed: Student's t in another scale, and of
the same size for schedules that vary much and little. Flipping leaves the denominator as it is, so the test is exact.

- **Against a schedule named beforehand** the largest is taken over its own comparisons.
- **Against the best**, which the same data picked, it is taken over all pairs: whichever schedule had come first, its
  comparisons would have been among them.

Both step down: the schedules told apart leave, and the rest is judged among itself.

With 10 schedules and 12 seeds of independent noise, equal schedules are told apart in 4 of 100 races, and one that
leads by 1.7 standard deviations is found in 66, against 56 when each p is multiplied by the number of pairs left; with
8 seeds and 2.2, in 41 against none. ``scripts/verdict_errors.py`` measures it, docs/comparison.md has more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lit_lrsched.comparison.evidence.power import seeds_needed
from lit_lrsched.comparison.evidence.runs import FloatArray

# All sign patterns are enumerated where there are no more than this, and this many are drawn beyond it.
PATTERNS = 99_999
_BLOCK = 8_192  # patterns in memory at a time

_LIMIT_DRAWS = 1_999
_ROUNDING = 1e-12  # relative size below which a difference is rounding
_MOST_SEEDS = 10_000  # a difference that takes more seeds to show is none that matters


@dataclass(frozen=True)
class Difference:
    """How much better one schedule is than another, seed by seed.

    Args:
        gain: Mean difference over the seeds, positive when the first is better, whatever the metric's mode.
        low: Lower end of the interval that belongs to ``p_corrected``: it excludes 0 exactly when ``p_corrected`` is at
            most alpha. None when there are too few seeds for an interval of that level.
        high: Upper end, likewise.
        p: Two-sided p of the paired sign-flip test of this pair alone.
        p_corrected: The p corrected for the whole family of comparisons (max-T).
        more_seeds: How many more seeds should tell the two apart with 80 % power under the same correction, were the
            difference really ``gain``. 0 when they are told apart already. None when ``p_corrected`` is above 0.5, so
            that luck alone often gives as much, when it takes more than 10,000, and for a single seed.
        resplit: The same comparison with the overlap of the splits allowed for; None where that is not known, and
            with too few seeds for an interval.
    """

    gain: float
    low: float | None
    high: float | None
    p: float
    p_corrected: float
    more_seeds: int | None
    resplit: Resplit | None = None


@dataclass(frozen=True)
class Resplit:
    """A comparison that allows for seeds which re-split one data set, and so share rows.

    It is never surer than the permutation test, which allows for no overlap: p is the larger of the two, and the
    interval holds both.

    Args:
        low: Lower end of the interval of the mean difference.
        high: Upper end.
        p: Its p, with the same correction as that of the permutation test.
    """

    low: float
    high: float
    p: float


def _is_exact(patterns: int, seeds: int) -> bool:
    # The last sign stays: the test is two-sided, so a pattern and its negation count alike.
    return patterns == 1 << (seeds - 1)


def _flips(seeds: int, most: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yields blocks of patterns, True where a seed's sign is flipped: all of them, or as many random ones."""
    if 1 << (seeds - 1) <= most:
        codes = np.arange(1 << (seeds - 1))
        for start in range(0, len(codes), _BLOCK):
            yield (codes[start : start + _BLOCK, None] >> np.arange(seeds)) % 2 == 1
        return
    rng = np.random.default_rng(0)
    for start in range(0, most, _BLOCK):
        yield rng.integers(0, 2, size=(min(_BLOCK, most - start), seeds), dtype=np.int8) == 1


def differences_from(
    base: FloatArray,
    others: Sequence[FloatArray],
    *,
    picked: bool = False,
    alpha: float = 0.05,
    overlap: float | None = None,
    patterns: int = PATTERNS,
) -> list[Difference]:
    """Compares schedules with one of them so that alpha is the chance of any false declaration.

    Args:
        base: Values of the schedule that the others are held against, one a seed, higher is better.
        others: Values of the others, likewise.
        picked: Whether the base was picked by these values as the best, rather than named beforehand.
        alpha: Chance of declaring any difference where there is none, in (0, 1).
        overlap: Test rows per training row when the seeds re-split one data set; None when they do not.
        patterns: The most sign patterns: all are counted where there are no more, and so many are drawn beyond.

    Returns:
        A :class:`Difference` for each of the others, in the order given.

    Source: Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.6 and algorithm 4.1 (step-down
    max-T); Nadeau and Bengio, Inference for the generalization error (2003), section 3 (the overlap).

    >>> gains = np.array([0.3, 0.1, 0.2, 0.1, 0.2, 0.1, 0.4])
    >>> planned, = differences_from(np.zeros(7), [gains])
    >>> print(f"{planned.gain:.3f} ({planned.low:.3f} to {planned.high:.3f}), p = {planned.p_corrected:.4f}")
    0.200 (0.100 to 0.300), p = 0.0156
    """
    if not others:
        return []
    n = len(base)
    gains = np.stack([other - base for other in others], axis=1)
    sums, flipped = _flipped_sums(gains, patterns)
    # T of a pattern is at most the root of the number of seeds, which is thus the scale of rounding.
    observed = np.abs(gains.sum(axis=0)) / _lengths(gains)
    order = sorted(range(len(others)), key=lambda i: (observed[i], -i))
    families = _Families(sums, gains, order, picked)
    p_values = np.array([_share(families.largest(i) >= observed[i] - _ROUNDING * math.sqrt(n), n) for i in order])
    # From the largest down; the first that is not told apart stops the steps, and its family judges those below it.
    corrected = dict(zip(reversed(order), np.maximum.accumulate(p_values[::-1]).tolist(), strict=True))
    stop = next((i for i in reversed(order) if corrected[i] > alpha), None)
    levels = _levels(gains, order, picked, alpha)
    found = []
    for i, gain in enumerate(gains.T):
        judge = i if stop is None or corrected[i] <= alpha else stop
        low, high = _interval(gain, sums[:, i], flipped, families.largest(judge, without=i), alpha)
        resplit = None
        if overlap is not None and low is not None and high is not None:
            alone = _resplit(gain, overlap, alpha, levels[judge])
            resplit = Resplit(min(low, alone.low), max(high, alone.high), max(corrected[i], alone.p))
        found.append(
            Difference(
                gain=float(gain.mean()),
                low=low,
                high=high,
                p=_alone(gain, sums[:, i]),
                p_corrected=corrected[i],
                more_seeds=_more_seeds(gain, corrected[i], alpha, levels[judge]),
                resplit=resplit,
            )
        )
    return found


def _flipped_sums(gains: FloatArray, most: int = PATTERNS) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Returns the sums of each column of ``[seeds, columns]`` under every pattern, and how many seeds it flips."""
    blocks = [(gains.sum(axis=0) - 2 * (flips @ gains), flips.sum(axis=1)) for flips in _flips(len(gains), most)]
    return np.concatenate([sums for sums, _ in blocks]), np.concatenate([flipped for _, flipped in blocks])


def _share(hit: npt.NDArray[np.bool_], seeds: int) -> float:
    hits = int(np.count_nonzero(hit))
    return hits / len(hit) if _is_exact(len(hit), seeds) else (hits + 1) / (len(hit) + 1)


def _alone(d: FloatArray, sums: FloatArray) -> float:
    """Returns the two-sided p of the sign-flip test of one pair: the share of patterns as far from 0 as what was seen.

    Source: Fisher, The Design of Experiments (1935), section 21; Phipson and Smyth, Permutation p-values should never
    be zero (2010), section 2.
    """
    # The slack makes patterns whose mean is the same but for rounding count as equal.
    return _share(np.abs(sums) >= abs(d.sum()) - _ROUNDING * np.abs(d).sum(), len(d))


def _lengths(gains: FloatArray) -> FloatArray:
    """Returns the root of the sum of squares; infinity where all are zero, so that T is 0."""
    lengths = np.sqrt((gains**2).sum(axis=0))
    return np.asarray(np.where(lengths > 0, lengths, np.inf))


class _Families:
    """The largest T of each family, pattern by pattern.

    The family of a schedule are those up to it in the order given, and the base.

    Args:
        sums: Sums of the differences under each pattern, ``[patterns, schedules]``.
        gains: The differences from the base, ``[seeds, schedules]``.
        order: The schedules, those closest to the base first.
        picked: Whether a family has all pairs, or only those with the base.
    """

    def __init__(self, sums: FloatArray, gains: FloatArray, order: Sequence[int], picked: bool) -> None:
        self._order = order
        # A schedule's patterns lie side by side, so that the largest of several schedules is soon found.
        sums = np.ascontiguousarray(sums.T)
        self._with_base = np.abs(sums) / _lengths(gains)[:, None]
        self._among: dict[int, FloatArray] = {}
        top = np.zeros(sums.shape[1])
        for place, i in enumerate(order):
            if picked and place:
                earlier = order[:place]
                lengths = _lengths(gains[:, earlier] - gains[:, [i]])
                top = np.maximum(top, (np.abs(sums[earlier] - sums[i]) / lengths[:, None]).max(axis=0))
            self._among[i] = top

    def largest(self, last: int, without: int | None = None) -> FloatArray:
        """Returns it for the family of a schedule, one comparison with the base left out where asked for."""
        family = [i for i in self._order[: self._order.index(last) + 1] if i != without]
        return np.asarray(np.maximum(self._among[last], self._with_base[family].max(axis=0, initial=0)))


def _interval(
    d: FloatArray, sums: FloatArray, flipped: npt.NDArray[np.int64], rivals: FloatArray, alpha: float
) -> tuple[float, float] | tuple[None, None]:
    """Returns the mean differences that the max-T test does not reject: for each, this pair alone is shifted by it.

    Flipping a subset of the seeds moves the sum of ``d - shift`` past its own value when the subset's mean is beyond
    the shift. So a pattern speaks for a shift in between the means of the seeds that it flips and keeps; and, by way of
    the rivals, as long as T of the shifted pair is below theirs. Both sets hold the mean, so together they are one
    interval, and the ends are order statistics.

    Source: Hartigan, Using subsample values as typical values (1969), theorem 1.
    """
    n, mean = len(d), float(d.mean())
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([(d.sum() - sums) / 2 / flipped, (d.sum() + sums) / 2 / (n - flipped)])
        # T of the shifted pair is r where (shift - mean) ** 2 = r ** 2 * var / (n - r ** 2).
        reach = np.abs(rivals) * np.sqrt(d.var() / (n - rivals**2))
    low, high = np.minimum(means.min(axis=0), mean - reach), np.maximum(means.max(axis=0), mean + reach)
    # A pattern that flips all or nothing, or whose rivals are as far out as can be, speaks for every shift.
    always = (flipped == 0) | (flipped == n) | (rivals**2 >= n * (1 - _ROUNDING))
    low[always], high[always] = -np.inf, np.inf
    # The slack is for levels whose product with a whole number falls short of it by rounding.
    level = alpha * (1 + _ROUNDING)
    rank = math.floor(level * len(low)) if _is_exact(len(low), n) else math.floor(level * (len(low) + 1)) - 1
    if rank < 0:
        return None, None
    ends = np.partition(low, rank)[rank], np.partition(high, -1 - rank)[-1 - rank]
    if not np.isfinite(ends).all():
        return None, None
    # An end that is zero but for rounding is zero: the p counts it so.
    first, last = (0.0 if abs(end) <= 1e-9 * np.abs(d).max() else float(end) for end in ends)
    return first, last


def _levels(gains: FloatArray, order: Sequence[int], picked: bool, alpha: float) -> dict[int, float]:
    """Returns the level at which a single test would be as strict as each family's, in the limit of many seeds."""
    from scipy.stats import norm

    centered = gains - gains.mean(axis=0)
    drawn = np.random.default_rng(0).normal(size=(_LIMIT_DRAWS, len(gains))) @ centered
    families = _Families(drawn, centered, order, picked)
    bounds = np.quantile([families.largest(i) for i in order], 1 - alpha, axis=1)
    levels = np.minimum(alpha, 2 * norm.sf(bounds)).tolist()
    return {**dict(zip(order, levels, strict=True)), order[0]: alpha}  # one comparison needs no correction


def _more_seeds(gain: FloatArray, corrected: float, alpha: float, level: float) -> int | None:
    if corrected <= alpha:
        return 0
    if corrected > 0.5 or len(gain) < 2:
        return None
    more = seeds_needed(gain, alpha=level)
    return None if more is None or more > _MOST_SEEDS else max(1, more)


def _resplit(gain: FloatArray, overlap: float, alpha: float, level: float) -> Resplit:
    from scipy.stats import t

    n, mean = len(gain), float(gain.mean())
    error = math.sqrt((1 / n + overlap) * float(gain.var(ddof=1)))
    half = float(t.isf(level / 2, n - 1)) * error
    # The factor is that of the p beside it, so that the interval excludes 0 exactly when this p is at most alpha.
    p = min(1.0, alpha / level * 2 * float(t.sf(abs(mean) / error, n - 1))) if error > 0 else float(mean == 0)
    return Resplit(mean - half, mean + half, p)
