"""Which schedule is better, and how sure is that: tuning, intervals, paired tests and a verdict in words.

The numbers speak about the data at hand, over repeated splits, initial weights and batch orders (the seeds). Seeds
that re-split one small data set share most of its rows, so more seeds make the answer surer for *these* data; they
do not turn it into a claim about other data.

Three choices keep the answer honest:

- **Tuned on validation, judged on test.** Each schedule's peak rate (and momentum) has the best mean validation
  metric; only the test metric at that setting is compared. Test data choose no setting.
- **A diverged run counts as the worst, never dropped.** It takes the worst finite value seen anywhere in the race,
  early epochs included (:func:`worst_value`): about that of an untrained model. Dropping it would reward a
  schedule for breaking down.
- **Picking the best is paid for.** The best is chosen by the same data that then test it against the others, so
  Holm's multipliers (S-1, ..., 2, 1 for S schedules) are too small: with 10 equal schedules of independent noise
  they declare some difference in 12 of 100 races. While m schedules are in play the best is one of m(m-1)/2 pairs,
  and that is the multiplier (:func:`picked_multipliers`): 4 of 100 or fewer. Correcting for all pairs throughout
  is no safer and finds a schedule that leads 9 others by 1.5 standard deviations with 20 seeds in 27 of 100 races;
  this finds it in 90, the too small multipliers in 95.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lit_lrsched.errors import InputError, did_you_mean

Mode = Literal["min", "max"]
FloatArray = npt.NDArray[np.float64]

# All sign patterns are enumerated up to this many seeds, and this many are drawn beyond it.
_EXACT_SEEDS = 17
_DRAWS = 99_999
_BLOCK = 8_192  # patterns in memory at a time

_RESAMPLES = 9_999
_ROUNDING = 1e-12  # relative size below which a difference is rounding


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        schedule: Name of the schedule.
        lr: Peak learning rate.
        momentum: Momentum, 0 where the optimizer has none.
        seed: Runs with the same seed share the split, the initial weights and the batch order.
        validation: Metric on validation data at the end of training.
        test: The same metric on test data.
        diverged: Whether training broke down. A metric that is not finite says the same.
        curve: The validation metric after each epoch.
    """

    schedule: str
    lr: float
    momentum: float
    seed: int
    validation: float
    test: float
    diverged: bool = False
    curve: tuple[float, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether the run diverged or ended with a metric that is not finite."""
        return self.diverged or not (math.isfinite(self.validation) and math.isfinite(self.test))


@dataclass(frozen=True)
class Setting:
    """One cell of the rate x schedule map: a schedule at one peak rate and momentum, over all seeds.

    Args:
        schedule: Name of the schedule.
        lr: Peak learning rate.
        momentum: Momentum.
        validation: Mean validation metric, a diverged run counted as the worst; None when no run of the race finished.
        test: Mean test metric, likewise.
        diverged: How many of the runs diverged.
    """

    schedule: str
    lr: float
    momentum: float
    validation: float | None
    test: float | None
    diverged: int


@dataclass(frozen=True)
class Difference:
    """How much better one schedule is than another, seed by seed.

    Args:
        gain: Mean difference over the seeds, positive when the first is better, whatever the metric's mode.
        low: Lower end of the interval that belongs to ``p_corrected``: it excludes 0 exactly when ``p_corrected`` is at
            most alpha. None when there are too few seeds for an interval of that level.
        high: Upper end, likewise.
        p: Two-sided p of the paired sign-flip test of this pair alone.
        p_corrected: The p corrected for the whole family of comparisons.
        more_seeds: How many more seeds would be needed to tell the two apart, were the difference really ``gain``:
            0 when they are told apart already, None when no number would do (no difference) or when one seed shows no
            spread to reckon with.
    """

    gain: float
    low: float | None
    high: float | None
    p: float
    p_corrected: float
    more_seeds: int | None


@dataclass(frozen=True)
class ScheduleSummary:
    """One schedule at the setting that its validation metric chose.

    Args:
        schedule: Name of the schedule.
        lr: The chosen peak learning rate.
        momentum: The chosen momentum.
        edge: ``"lowest"`` or ``"highest"`` when the chosen rate is that of several tried, so that a better one may lie
            outside the grid; otherwise None.
        validation: Mean validation metric, which chose the setting; None when no run finished.
        mean: Mean test metric; None when no run finished.
        low: Lower end of its BCa bootstrap interval; None for one seed.
        high: Upper end, likewise.
        worst: Test metric of the worst seed.
        worst_seed: That seed.
        diverged: How many of the runs at this setting diverged.
        epochs_to_target: Epochs after which the mean validation curve reaches the target; None when it never does.
        against_best: This schedule against the best; None for the best itself.
        against_reference: This schedule against the reference; None for the reference itself, or without one.
    """

    schedule: str
    lr: float
    momentum: float
    edge: Literal["lowest", "highest"] | None
    validation: float | None
    mean: float | None
    low: float | None
    high: float | None
    worst: float | None
    worst_seed: int | None
    diverged: int
    epochs_to_target: int | None
    against_best: Difference | None
    against_reference: Difference | None


@dataclass(frozen=True)
class Summary:
    """What the race says. ``dataclasses.asdict`` makes plain numbers, text and None of it, ready for JSON.

    Args:
        metric: Name of the metric.
        mode: ``"max"`` or ``"min"``: which way is better.
        alpha: Chance of declaring any difference where there is none, for each of the two questions (against the best,
            against the reference). Intervals have the level ``1 - alpha``.
        seeds: The seeds, ascending.
        best: Schedule with the best mean test metric; None when every run diverged.
        tied: The schedules that the data cannot tell from the best, best first, the best included. One name: a winner.
        out: Schedules of which every run diverged. They take no part in the tests.
        reference: Schedule that the others are held against, or None.
        target: Value of the validation metric that ``epochs_to_target`` refers to, or None.
        schedules: One entry a schedule, best first, those that are out last.
        settings: The rate x schedule map.
    """

    metric: str
    mode: Mode
    alpha: float
    seeds: tuple[int, ...]
    best: str | None
    tied: tuple[str, ...]
    out: tuple[str, ...]
    reference: str | None
    target: float | None
    schedules: tuple[ScheduleSummary, ...]
    settings: tuple[Setting, ...]


def worst_value(runs: Sequence[Run], mode: Mode) -> float | None:
    """Returns what a diverged run counts as: the worst finite value of any run that finished, at any epoch.

    Early epochs are included because a race whose final metrics are all good would otherwise let a run that broke
    down pass for a good one. The curves of diverged runs are left out: just before it breaks down a loss may reach
    1e30, which would drown every other number.

    Args:
        runs: All runs of the race.
        mode: ``"max"`` or ``"min"``: which way is better.

    Returns:
        The value, or None when no run finished.

    >>> worst_value([Run("a", 0.1, 0.0, 0, 0.9, 0.8, curve=(0.4, 0.9)), Run("a", 0.1, 0.0, 1, 0.1, 0.1, True)], "max")
    0.4
    """
    values = [x for run in runs if not run.broken for x in (run.validation, run.test, *run.curve) if math.isfinite(x)]
    if not values:
        return None
    return min(values) if mode == "max" else max(values)


def bca_interval(values: Sequence[float] | FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the BCa bootstrap interval of the mean, the same at every call.

    It is approximate for few values: for normal noise an interval of 95 % holds the true mean in 94 of 100 cases with
    50 values, 92 with 20, 90 with 10 and 83 with 5.

    Args:
        values: Finite numbers, one a seed.
        level: Confidence level in (0, 1).

    Returns:
        The two ends; the value itself twice when all are equal; None for a single value, which shows no spread.

    Source: Efron, Better bootstrap confidence intervals (1987), equation 1.6.

    >>> low, high = bca_interval([0.90, 0.92, 0.93, 0.95, 0.95])
    >>> print(f"{low:.3f} {high:.3f}")
    0.912 0.946
    >>> bca_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    from scipy.stats import bootstrap

    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return None
    center, width = x.mean(), np.ptp(x)
    if width <= _ROUNDING * np.abs(x).max():
        return float(x[0]), float(x[0])

    def rounded_mean(sample: FloatArray, axis: int) -> FloatArray:
        # Accuracies come in steps, so many resampled means equal the observed one. BCa counts those that lie below it:
        # left to rounding errors, ties would shift the interval.
        means: FloatArray = np.round(sample.mean(axis=axis), 12)
        return means

    result = bootstrap(
        ((x - center) / width,),
        rounded_mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        batch=max(1, 1_000_000 // len(x)),  # bounds the memory, not the answer
        method="BCa",
        random_state=np.random.default_rng(0),
    )
    low, high = (center + width * np.array(result.confidence_interval)).tolist()
    return low, high


def _is_exact(seeds: int) -> bool:
    return seeds <= _EXACT_SEEDS


def _flips(seeds: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yields blocks of patterns, True where a seed's sign is flipped: all of them, or random ones."""
    if _is_exact(seeds):
        # The last sign stays: the test is two-sided, so a pattern and its negation count alike.
        codes = np.arange(2 ** (seeds - 1))
        for start in range(0, len(codes), _BLOCK):
            yield (codes[start : start + _BLOCK, None] >> np.arange(seeds)) % 2 == 1
        return
    rng = np.random.default_rng(0)
    for start in range(0, _DRAWS, _BLOCK):
        yield rng.integers(0, 2, size=(min(_BLOCK, _DRAWS - start), seeds), dtype=np.int8) == 1


def sign_flip_p(differences: Sequence[float] | FloatArray) -> float:
    """Returns the two-sided p of the paired sign-flip permutation test of a mean difference of zero.

    Were the two schedules alike, each seed's difference could as well have had the other sign: p is the share of sign
    patterns whose mean is at least as far from 0 as the one observed. All patterns are counted up to 17 seeds;
    beyond, 99,999 are drawn (always the same) and ``p = (hits + 1) / (draws + 1)``. Seeds with a difference of zero
    stay in and change nothing.

    Args:
        differences: Finite differences, one a seed.

    Returns:
        The p in (0, 1]: at least ``2 ** (1 - n)`` for n seeds, and 1 for one seed.

    Source: Fisher, The Design of Experiments (1935), section 21; Phipson and Smyth, Permutation p-values should never
    be zero (2010), section 2.

    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    >>> sign_flip_p([0.0, 0.0, 0.0])
    1.0
    """
    d = np.asarray(differences, dtype=float)
    # The slack makes patterns whose mean is the same but for rounding count as equal.
    least = abs(d.sum()) - _ROUNDING * np.abs(d).sum()
    hits = total = 0
    for flipped in _flips(len(d)):
        hits += int(np.count_nonzero(np.abs(d.sum() - 2 * (flipped @ d)) >= least))
        total += len(flipped)
    return hits / total if _is_exact(len(d)) else (hits + 1) / (total + 1)


def sign_flip_interval(
    differences: Sequence[float] | FloatArray, alpha: float = 0.05
) -> tuple[float, float] | tuple[None, None]:
    """Returns the mean differences that :func:`sign_flip_p` does not reject at alpha: an interval that agrees with it.

    Flipping a subset of the seeds moves the sum of ``d - shift`` past its own value when the subset's mean is beyond
    the shift, so the ends are order statistics of the means of subsets.

    Args:
        differences: Finite differences, one a seed.
        alpha: Level in (0, 1).

    Returns:
        The two ends; ``(None, None)`` when so few seeds cannot reject anything at alpha.

    Source: Hartigan, Using subsample values as typical values (1969), theorem 1.

    >>> sign_flip_interval([1.0, 2.0, 3.0, 4.0], alpha=0.25)
    (1.5, 3.5)
    >>> sign_flip_interval([1.0, 2.0, 3.0, 4.0], alpha=0.05)
    (None, None)
    """
    d = np.asarray(differences, dtype=float)
    lowest, highest = [], []
    for flipped in _flips(len(d)):
        size = flipped.sum(axis=1)
        with np.errstate(invalid="ignore"):
            means = np.stack([flipped @ d / size, ~flipped @ d / (len(d) - size)])
        means[:, (size == 0) | (size == len(d))] = np.nan
        lowest.append(means.min(axis=0))
        highest.append(means.max(axis=0))
    low, high = np.concatenate(lowest), np.concatenate(highest)
    # A pattern that flips all or nothing reaches every mean, whatever the shift: it is beyond both ends.
    low[np.isnan(low)], high[np.isnan(high)] = -np.inf, np.inf
    # The slack is for levels like 0.05 / 5, whose product with a whole number falls short of it by rounding.
    level = alpha * (1 + _ROUNDING)
    rank = math.floor(level * len(low)) if _is_exact(len(d)) else math.floor(level * (len(low) + 1)) - 1
    if rank < 0:
        return None, None
    ends = np.partition(low, rank)[rank], np.partition(high, -1 - rank)[-1 - rank]
    if not np.isfinite(ends).all():
        return None, None
    # An end that is zero but for rounding is zero: the p counts it so.
    first, last = (0.0 if abs(end) <= _ROUNDING * np.abs(d).max() else float(end) for end in ends)
    return first, last


def holm_multipliers(comparisons: int) -> list[int]:
    """Returns Holm's multipliers for comparisons that were named before the data: k, ..., 2, 1.

    Source: Holm, A simple sequentially rejective multiple test procedure (1979), section 3.

    >>> holm_multipliers(4)
    [4, 3, 2, 1]
    """
    return list(range(comparisons, 0, -1))


def picked_multipliers(comparisons: int) -> list[int]:
    """Returns the multipliers for comparisons against a best that the same data picked.

    With m schedules left, the best and the one held against it are one of m(m-1)/2 pairs, any of which the data could
    have picked. Each step that tells one schedule apart leaves one fewer.

    Args:
        comparisons: Number of schedules other than the best.

    >>> picked_multipliers(4)
    [10, 6, 3, 1]
    """
    return [m * (m - 1) // 2 for m in range(comparisons + 1, 1, -1)]


def paired_differences(
    gains: Sequence[FloatArray], multipliers: Sequence[int] | None = None, alpha: float = 0.05
) -> list[Difference]:
    """Tests several paired differences together, so that alpha is the chance of any false declaration.

    The p-values are put in ascending order and multiplied by the multipliers in turn; a corrected p is never below the
    one before it (Holm's step-down). Each interval has the level at which its own pair was judged, so it excludes 0
    exactly when the corrected p is at most alpha.

    Args:
        gains: For each comparison the differences, one a seed in the same order, positive when the first is better.
        multipliers: One for each comparison, descending: :func:`holm_multipliers` (also for None) or
            :func:`picked_multipliers`.
        alpha: Chance of any false declaration, in (0, 1).

    Returns:
        A :class:`Difference` for each comparison, in the order given.

    >>> planned, = paired_differences([np.array([0.3, 0.1, 0.2, 0.1, 0.2, 0.1, 0.4])])
    >>> print(f"{planned.gain:.3f} ({planned.low:.3f} to {planned.high:.3f}), p = {planned.p_corrected:.4f}")
    0.200 (0.100 to 0.300), p = 0.0156
    """
    if multipliers is None:
        multipliers = holm_multipliers(len(gains))
    p_values = [sign_flip_p(gain) for gain in gains]
    differences: dict[int, Difference] = {}
    corrected, judged_by = 0.0, 1
    for step, index in enumerate(sorted(range(len(gains)), key=lambda i: p_values[i])):
        if corrected <= alpha:  # past the first that is not told apart, the multiplier that stopped the steps stays
            judged_by = multipliers[step]
        corrected = min(1.0, max(corrected, p_values[index] * multipliers[step]))
        gain = gains[index]
        low, high = sign_flip_interval(gain, alpha / judged_by)
        if corrected <= alpha:
            more: int | None = 0
        elif len(gain) < 2:
            more = None
        else:
            more = seeds_needed(gain, alpha=alpha / judged_by)
            more = more if more is None else max(1, more)
        differences[index] = Difference(float(gain.mean()), low, high, p_values[index], corrected, more)
    return [differences[index] for index in range(len(gains))]


def seeds_needed(
    differences: Sequence[float] | FloatArray,
    difference: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Returns how many more seeds would be needed to tell apart a given difference.

    The smallest n with ``n >= ((t(1 - alpha/2) + t(power)) * sd / difference) ** 2``, t the quantiles of Student's t
    with n - 1 degrees of freedom and sd the standard deviation of the paired differences, and with ``2 ** (1 - n) <=
    alpha``, the least p that n seeds can show.

    Args:
        differences: Finite differences, one a seed, at least 2.
        difference: True mean difference to tell apart; None for the mean of ``differences``.
        alpha: Level of the test in (0, 1); divided by the multiplier where several are tested together.
        power: Chance of telling it apart, in (0.5, 1).

    Returns:
        The number beyond the seeds at hand, 0 when they suffice; None when the difference is zero: no number would do.

    Raises:
        InputError: For fewer than 2 differences, which show no spread.

    Source: Student's t approximation to the power of a paired test: Cohen, Statistical Power Analysis for the
    Behavioral Sciences (1988), section 2.4.

    >>> seeds_needed([0.3, -0.1, 0.2, 0.1, -0.2, 0.1])
    58
    >>> seeds_needed([0.1, -0.1]) is None
    True
    """
    from scipy.stats import norm, t

    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        raise InputError(f"{len(d)} seed shows no spread to reckon with: run at least 2 seeds")
    delta = abs(d.mean() if difference is None else difference)
    spread = float(d.std(ddof=1))
    if delta <= _ROUNDING * max(np.abs(d).max(), spread):
        return None
    ratio = spread / delta
    # Student's quantiles exceed the normal ones, so the normal answer is a lower bound to start from.
    n = max(least_seeds(alpha), math.ceil(((norm.isf(alpha / 2) + norm.ppf(power)) * ratio) ** 2))
    while n < ((t.isf(alpha / 2, n - 1) + t.ppf(power, n - 1)) * ratio) ** 2:
        n += 1
    return max(0, int(n) - len(d))


def least_seeds(alpha: float) -> int:
    """Returns the fewest seeds with which a sign-flip test can reach alpha: the least n with ``2 ** (1 - n) <= alpha``.

    >>> [least_seeds(0.05), least_seeds(0.05 / 45)]
    [6, 11]
    """
    return max(2, math.ceil(1 - math.log2(alpha)))


def mean_curve(runs: Sequence[Run], worst: float) -> FloatArray:
    """Returns the validation metric after each epoch, averaged over runs.

    Args:
        runs: Runs of one setting. One that stopped early keeps its last value, as its weights would.
        worst: What counts where a run is not finite, and for a diverged run after it stopped.

    Returns:
        One value an epoch; empty when no run has a curve.

    >>> runs = [Run("a", 0.1, 0.0, 0, 0.9, 0.9, curve=(0.5, 0.9)), Run("a", 0.1, 0.0, 1, 0.7, 0.7, curve=(0.7,))]
    >>> [round(float(value), 3) for value in mean_curve(runs, worst=0.5)]
    [0.6, 0.8]
    """
    epochs = max((len(run.curve) for run in runs), default=0)
    return np.asarray(filled_curves(runs, worst, epochs).mean(axis=0))


def filled_curves(runs: Sequence[Run], worst: float, epochs: int) -> FloatArray:
    """Returns the validation metric of runs after each epoch, ``[runs, epochs]``, filled as :func:`mean_curve` says."""
    rows = []
    for run in runs:
        curve = run.curve[:epochs]
        rest = worst if run.broken or not curve else curve[-1]
        rows.append([*curve, *[rest] * (epochs - len(curve))])
    values = np.array(rows, dtype=float).reshape(len(runs), epochs)
    return np.where(np.isfinite(values), values, worst)


def time_to_target(curve: Sequence[float] | FloatArray, target: float, mode: Mode) -> int | None:
    """Returns after how many epochs a curve first reaches the target; None when it never does.

    Args:
        curve: Metric after epoch 1, 2, ...
        target: Value to reach.
        mode: ``"max"``: reach it from below. ``"min"``: from above.

    >>> time_to_target([0.5, 0.8, 0.7, 0.9], 0.75, "max")
    2
    >>> time_to_target([0.5, 0.4], 0.1, "min") is None
    True
    """
    values = np.asarray(curve, dtype=float)
    reached = np.flatnonzero(values >= target if mode == "max" else values <= target)
    return int(reached[0]) + 1 if len(reached) else None


_Grid = dict[tuple[str, float, float], list[Run]]


def _grid(runs: Sequence[Run]) -> _Grid:
    """Returns the runs of each setting by ascending seed, checked to be complete."""
    grid: _Grid = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.schedule, run.lr, run.momentum, run.seed)):
        grid[run.schedule, run.lr, run.momentum].append(run)
    seeds = sorted({run.seed for run in runs})
    for (schedule, lr, momentum), members in grid.items():
        have = [run.seed for run in members]
        if have == seeds:
            continue
        where = f"{schedule} at lr {lr:g}, momentum {momentum:g}"
        twice = next((seed for seed in have if have.count(seed) > 1), None)
        if twice is not None:
            raise InputError(f"{where} has two runs for seed {twice}: keep one")
        missing = min(set(seeds) - set(have))
        raise InputError(f"{where} has no run for seed {missing}, so schedules cannot be paired: finish the race first")
    return grid


def _means(grid: _Grid, worst: float | None) -> list[Setting]:
    settings = []
    for (schedule, lr, momentum), members in grid.items():
        validation = test = None
        if worst is not None:
            validation = math.fsum(worst if run.broken else run.validation for run in members) / len(members)
            test = math.fsum(worst if run.broken else run.test for run in members) / len(members)
        diverged = sum(run.broken for run in members)
        settings.append(Setting(schedule, lr, momentum, validation, test, diverged))
    return settings


def _tune(settings: Sequence[Setting], mode: Mode) -> dict[str, Setting]:
    """Returns for each schedule the setting with the best mean validation metric.

    Equal means go to the fewest diverged runs, then to the lowest rate and momentum, whatever the order of the runs.
    """
    sign = -1.0 if mode == "max" else 1.0

    def rank(setting: Setting) -> tuple[float, int, float, float]:
        return sign * (setting.validation or 0.0), setting.diverged, setting.lr, setting.momentum

    chosen: dict[str, Setting] = {}
    for setting in sorted(settings, key=rank):
        chosen.setdefault(setting.schedule, setting)
    return chosen


def _edge(lr: float, tried: set[float]) -> Literal["lowest", "highest"] | None:
    if len(tried) == 1 or min(tried) < lr < max(tried):
        return None
    return "lowest" if lr == min(tried) else "highest"


def summarize(
    runs: Sequence[Run],
    *,
    metric: str,
    mode: Mode,
    reference: str | None = None,
    target: float | None = None,
    alpha: float = 0.05,
) -> Summary:
    """Tunes every schedule on validation data, judges it on test data and says which differ.

    Args:
        runs: The whole race: for every schedule, rate and momentum one run for each seed. Their order does not matter.
        metric: Name of the metric, for the words.
        mode: ``"max"`` or ``"min"``: which way is better.
        reference: Schedule that the others are held against, usually ``"constant"``.
        target: Validation metric for the time to target. None: where the reference ends (its mean after the last
            epoch), so that the column says how much sooner a schedule gets there; without a reference, where the last
            of the race ends.
        alpha: Chance, for each question, of declaring any difference where there is none; in (0, 1).

    Returns:
        The summary; equal runs give an equal summary.

    Raises:
        InputError: For no runs, a missing or repeated run, an unknown mode or reference, or an alpha outside (0, 1).

    >>> runs = [
    ...     Run(name, lr, 0.0, seed, validation=value + 0.01 * (lr > 0.1), test=value + 0.002 * (seed % 3))
    ...     for name, value in [("constant", 0.8), ("cosine", 0.9)] for lr in (0.1, 0.3) for seed in range(8)
    ... ]
    >>> summary = summarize(runs, metric="accuracy", mode="max", reference="constant")
    >>> for row in summary.schedules:
    ...     print(f"{row.schedule:8} {row.lr} {row.edge} {row.mean:.4f} ({row.low:.4f} to {row.high:.4f})")
    cosine   0.3 highest 0.9018 (0.9008 to 0.9028)
    constant 0.3 highest 0.8018 (0.8008 to 0.8028)
    >>> summary.tied
    ('cosine',)
    """
    if mode not in ("min", "max"):
        raise InputError(f"mode={mode!r} is unknown: write 'min' or 'max'")
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha!r} is outside (0, 1): write 0.05 for intervals of 95 %")
    if not runs:
        raise InputError("there are no runs to summarize: finish at least one run of each schedule")
    names = sorted({run.schedule for run in runs})
    if reference is not None and reference not in names:
        raise InputError(
            f"reference={reference!r} is not raced{did_you_mean(reference, names)}: name one of {', '.join(names)}"
        )

    grid = _grid(runs)
    worst = worst_value(runs, mode)
    settings = _means(grid, worst)
    chosen = _tune(settings, mode)
    members = {name: grid[name, setting.lr, setting.momentum] for name, setting in chosen.items()}
    seeds = tuple(run.seed for run in members[names[0]])

    out = tuple(name for name in names if chosen[name].diverged == len(seeds))
    better = 1.0 if mode == "max" else -1.0
    values: dict[str, FloatArray] = {}
    curves: dict[str, FloatArray] = {}
    if worst is not None:
        values = {n: np.array([worst if r.broken else r.test for r in members[n]]) for n in names if n not in out}
        curves = {name: mean_curve(members[name], worst) for name in names}
    ranked = sorted(values, key=lambda name: (-better * values[name].mean(), name))
    best = ranked[0] if ranked else None

    def against(other: str | None, multipliers: Sequence[int]) -> dict[str, Difference]:
        if other not in values:
            return {}
        rivals = [name for name in ranked if name != other]
        gains = [better * (values[name] - values[other]) for name in rivals]
        return dict(zip(rivals, paired_differences(gains, multipliers, alpha), strict=True))

    against_best = against(best, picked_multipliers(len(ranked) - 1))
    against_reference = against(reference, holm_multipliers(len(ranked) - 1))
    tied = [name for name in ranked if name == best or against_best[name].p_corrected > alpha]

    if target is None and ranked:
        end = curves[reference if reference in values else ranked[-1]][-1:]
        target = float(end[0]) if len(end) else None
    rows = []
    for name in (*ranked, *out):
        setting = chosen[name]
        tried = {lr for schedule, lr, _ in grid if schedule == name}
        finished = name in values
        interval = bca_interval(values[name], 1 - alpha) if finished else None
        worst_run = int((better * values[name]).argmin()) if finished else None
        rows.append(
            ScheduleSummary(
                schedule=name,
                lr=setting.lr,
                momentum=setting.momentum,
                edge=_edge(setting.lr, tried) if finished else None,
                validation=setting.validation if finished else None,
                mean=float(values[name].mean()) if finished else None,
                low=interval[0] if interval else None,
                high=interval[1] if interval else None,
                worst=None if worst_run is None else float(values[name][worst_run]),
                worst_seed=None if worst_run is None else seeds[worst_run],
                diverged=setting.diverged,
                epochs_to_target=time_to_target(curves[name], target, mode)
                if finished and target is not None
                else None,
                against_best=against_best.get(name),
                against_reference=against_reference.get(name),
            )
        )
    return Summary(
        metric=metric,
        mode=mode,
        alpha=alpha,
        seeds=seeds,
        best=best,
        tied=tuple(tied),
        out=out,
        reference=reference,
        target=target,
        schedules=tuple(rows),
        settings=tuple(settings),
    )


def verdict(summary: Summary) -> tuple[str, str]:
    """Returns the answer in two sentences: who wins or who is tied, and how sure that is.

    The p and the interval are those of the comparison with the best, which pays for having picked it.

    Args:
        summary: What :func:`summarize` returned.

    Returns:
        Two sentences, each of at most 100 columns as long as the names are short.

    >>> runs = [
    ...     Run(name, 0.1, 0.0, seed, validation=0.9, test=value + spread * (seed * 7 % 5 - 2))
    ...     for name, value, spread in [("constant", 0.80, 0.01), ("cosine", 0.82, 0.02)] for seed in range(10)
    ... ]
    >>> for sentence in verdict(summarize(runs, metric="test_acc", mode="max", reference="constant")):
    ...     print(sentence)
    cosine wins: mean test_acc 0.82, better than the rest beyond chance over 10 seeds.
    It beats constant by 0.02 (95 %: 0.01 to 0.03; p = 0.0078); no more seeds are needed.
    """
    seeds = len(summary.seeds)
    if summary.best is None:
        lowest = min(setting.lr for setting in summary.settings)
        return (
            "Every run diverged, so no schedule can be judged.",
            f"Lower the peak learning rates: the lowest tried was {lowest:g}.",
        )

    best = next(row for row in summary.schedules if row.schedule == summary.best)
    behind = {row.schedule: row.against_best for row in summary.schedules if row.against_best is not None}
    score = f"{summary.metric} {best.mean:.4g}"
    losses = f"; {best.diverged} of its {seeds} runs diverged" if best.diverged else ""
    if summary.out:
        losses += f"; every run of {_listed(summary.out)} diverged"

    if not behind:
        first = f"Only {best.schedule} {'finished' if summary.out else 'raced'}: mean {score}{losses}."
        if best.low is None:
            return first, "One seed gives no interval: run at least 2 seeds."
        interval = f"{best.low:.4g} to {best.high:.4g} ({_percent(summary)}, {seeds} seeds)"
        return first, f"Its interval is {interval}; race it against another."
    if seeds == 1:
        least = least_seeds(summary.alpha / picked_multipliers(len(behind))[0])
        return (
            f"One seed gives no interval: {best.schedule} came first ({score}), perhaps by luck{losses}.",
            f"At least {least} seeds are needed before {len(behind) + 1} schedules can be told apart.",
        )

    if len(summary.tied) == 1:
        first = f"{best.schedule} wins: mean {score}, better than the rest beyond chance over {seeds} seeds{losses}."
    else:
        first = f"No winner: {_listed(summary.tied)} are tied; the best mean is {best.schedule}'s, {score}{losses}."
    rival = summary.reference if summary.reference in behind else next(iter(behind))
    nearest = rival if rival in summary.tied else next(iter(behind))
    if len(summary.tied) == 1:
        outlook = "no more seeds are needed"
    else:
        outlook = _outlook(behind[nearest].more_seeds, "settle it" if nearest == rival else f"tell it from {nearest}")
    return first, f"It {_lead(summary, rival, behind[rival])}; {outlook}."


def _percent(summary: Summary) -> str:
    return f"{100 * (1 - summary.alpha):g} %"


def _lead(summary: Summary, rival: str, difference: Difference) -> str:
    """Returns by how much the best is ahead of a rival, with interval and p."""
    # Stored as the rival against the best, told as the best against the rival; 0.0 - x is never -0.0.
    if difference.low is None or difference.high is None:
        interval = f"{len(summary.seeds)} seeds give no interval"
    else:
        interval = f"{_percent(summary)}: {0.0 - difference.high:.2g} to {0.0 - difference.low:.2g}"
    p = "p < 0.001" if difference.p_corrected < 0.001 else f"p = {difference.p_corrected:.2g}"
    if difference.gain == 0:
        return f"is level with {rival} ({interval}; {p})"
    verb = "leads" if rival in summary.tied else "beats"
    return f"{verb} {rival} by {-difference.gain:.2g} ({interval}; {p})"


def _outlook(more_seeds: int | None, purpose: str) -> str:
    if more_seeds is None:
        return f"no number of seeds would {purpose}"
    return f"{'over 10000' if more_seeds > 10_000 else f'~{more_seeds}'} more seeds should {purpose}"


def _listed(names: Sequence[str]) -> str:
    """Returns names as words, the tail of a long list as a number.

    >>> [_listed(["a"]), _listed(["a", "b", "c"]), _listed(["a", "b", "c", "d", "e"])]
    ['a', 'a, b and c', 'a, b and 3 more']
    """
    if len(names) == 1:
        return names[0]
    if len(names) <= 3:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:2])} and {len(names) - 2} more"
