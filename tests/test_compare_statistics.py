"""Evidence for the statistics of ``compare``: error rates by simulation, goldens by hand, scipy as the reference."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lit_lrsched.comparison.statistics import (
    Run,
    Summary,
    bca_interval,
    holm_multipliers,
    least_seeds,
    mean_curve,
    paired_differences,
    picked_multipliers,
    seeds_needed,
    sign_flip_interval,
    sign_flip_p,
    summarize,
    time_to_target,
    verdict,
    worst_value,
)
from lit_lrsched.errors import InputError

repeatable = settings(derandomize=True, deadline=None, max_examples=60)

# Values in steps, as accuracies come, so that ties and zeros are common; and values without steps.
stepped = st.integers(-5, 5).map(lambda k: k / 70)
differences = st.lists(stepped | st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=1, max_size=9)


def race(
    levels: dict[str, float],
    seeds: int,
    rng: np.random.Generator,
    lrs: tuple[float, ...] = (0.1,),
    noise: float = 0.02,
    steps: int = 0,
) -> list[Run]:
    """Independent noise a run, a split effect shared by a seed, validation and test that share the run's noise.

    The middle rate is the best. ``steps`` rounds to the accuracies that so many test rows allow.
    """
    split = rng.normal(size=seeds) * 2 * noise
    runs = []
    for (name, level), lr, seed in itertools.product(levels.items(), lrs, range(seeds)):
        quality = level + split[seed] - 0.01 * abs(lrs.index(lr) - len(lrs) // 2) + rng.normal() * noise
        validation, test = quality + rng.normal(size=2) * noise / 2
        if steps:
            validation, test = round(validation * steps) / steps, round(test * steps) / steps
        runs.append(Run(name, lr, 0.0, seed, validation, test))
    return runs


def judge(runs: list[Run], **options: object) -> Summary:
    return summarize(runs, **{"metric": "test_acc", "mode": "max", **options})


# --- The rates of error: does it declare what is there, and only that? ------------------------------------------------


def test_two_copies_of_one_schedule_are_rarely_told_apart(run_all: bool) -> None:
    # 5 rates to tune over, 70 test rows. The test is exact, so the rate is at most 5 %; accuracies in steps and the
    # tuning make it about 3 %.
    repetitions = 1000 if run_all else 100
    rng = np.random.default_rng(0)
    declared = 0
    for _ in range(repetitions):
        summary = judge(race({"a": 0.9, "b": 0.9}, 12, rng, lrs=(0.03, 0.1, 0.3), steps=70), reference="a")
        declared += len(summary.tied) == 1
    assert 0 < declared <= 0.05 * repetitions


def test_planted_truth_is_found_with_the_stated_number_of_seeds(run_all: bool) -> None:
    # Noise of a paired difference: both runs have 0.02 (shared with validation) and 0.01 (test alone).
    spread = math.sqrt(2 * (0.02**2 + 0.01**2))
    pilot = spread / math.sqrt(2) * np.array([-1.0, 1.0])  # two values with just that standard deviation
    assert pilot.std(ddof=1) == pytest.approx(spread)
    seeds = 2 + seeds_needed(pilot, difference=0.03, power=0.98)
    assert seeds == 21
    repetitions = 400 if run_all else 100
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(repetitions):
        summary = judge(race({"a": 0.93, "b": 0.9}, seeds, rng, lrs=(0.03, 0.1, 0.3)))
        found += summary.tied == ("a",)
    assert found >= 0.95 * repetitions


@pytest.mark.parametrize(("schedules", "seeds", "sample"), [(4, 10, 1000), (10, 12, 300)])
def test_equal_schedules_stay_tied_although_the_best_was_picked(
    schedules: int, seeds: int, sample: int, run_all: bool
) -> None:
    repetitions = 3000 if run_all else sample
    rng = np.random.default_rng(2)
    declared = {"picked": 0, "holm": 0}
    for _ in range(repetitions):
        values = rng.normal(size=(schedules, seeds))
        best = values.mean(axis=1).argmax()
        gains = [values[i] - values[best] for i in range(schedules) if i != best]
        for name, multipliers in (("picked", picked_multipliers), ("holm", holm_multipliers)):
            results = paired_differences(gains, multipliers(len(gains)))
            declared[name] += any(result.p_corrected <= 0.05 for result in results)
    assert 0 < declared["picked"] <= 0.05 * repetitions
    # Holm's own multipliers, which do not pay for picking, declare too much: this is what the others are for.
    assert declared["holm"] > 0.06 * repetitions


@pytest.mark.parametrize("level", [0.3, 1.0, 2.0])
def test_true_bests_are_kept_when_others_are_worse(level: float, run_all: bool) -> None:
    # Three schedules share the best level and three are worse: telling these apart lowers the multipliers of those.
    repetitions = 5000 if run_all else 1000
    rng = np.random.default_rng(3)
    lost = 0
    for _ in range(repetitions):
        values = rng.normal(size=(6, 10)) - level * np.repeat([0, 1], 3)[:, None]
        best = values.mean(axis=1).argmax()
        others = [i for i in range(6) if i != best]
        results = paired_differences([values[i] - values[best] for i in others], picked_multipliers(5))
        lost += any(i < 3 and result.p_corrected <= 0.05 for i, result in zip(others, results, strict=True))
    assert 0 < lost <= 0.05 * repetitions


def test_a_leader_of_ten_is_found() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(40):
        values = rng.normal(size=(10, 15)) + 2.2 * (np.arange(10) == 0)[:, None]
        results = paired_differences([values[i] - values[0] for i in range(1, 10)], picked_multipliers(9))
        found += all(result.p_corrected <= 0.05 for result in results)
    assert found >= 38


@pytest.mark.parametrize(
    "sizes",
    [
        [0.3, 0.1, 0.7, 0.2, 0.5, 0.4, 0.9, 0.6, 0.35],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 2, 2, 3, 3],
        [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 5.0],
    ],
)
def test_size_is_exact_whatever_the_differences(sizes: list[float]) -> None:
    # Under the null every sign pattern of the given sizes is equally likely: count those that are rejected.
    patterns = itertools.product([-1, 1], repeat=len(sizes))
    p_values = [sign_flip_p(np.array(sizes) * signs) for signs in patterns]
    for alpha in (0.01, 0.05, 0.2):
        assert np.mean([p <= alpha for p in p_values]) <= alpha


def test_seeds_needed_gives_the_power_it_promises(run_all: bool) -> None:
    pilot = np.array([-1.0, 1.0]) / math.sqrt(2)  # standard deviation 1
    seeds = 2 + seeds_needed(pilot, difference=0.8)
    rng = np.random.default_rng(5)
    repetitions = 3000 if run_all else 500
    rejected = [sign_flip_p(rng.normal(0.8, 1.0, size=seeds)) <= 0.05 for _ in range(repetitions)]
    assert np.mean(rejected) == pytest.approx(0.8, abs=0.06)


def test_bca_interval_holds_the_mean_about_as_often_as_said() -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        low, high = bca_interval(rng.exponential(size=30))
        held += low <= 1.0 <= high
    assert 0.88 <= held / 300 <= 0.97


# --- The sign-flip test and its interval ------------------------------------------------------------------------------


@given(differences)
@repeatable
def test_exact_p_equals_scipys(values: list[float]) -> None:
    d = np.array(values)
    if len(d) < 2:
        assert sign_flip_p(d) == 1.0
        return

    def statistic(x: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(np.round(x.sum(axis=axis), 9))  # scipy knows no slack for sums that are 0 but for rounding

    reference = stats.permutation_test(
        (d,), statistic, permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=True
    )
    assert sign_flip_p(d) == pytest.approx(reference.pvalue, abs=1e-12)


def test_drawn_p_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(7)
    for shift in (0.0, 0.3, 0.6):
        d = rng.normal(shift, 1.0, size=18)  # the first number of seeds that is drawn
        exact = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True, batch=8192
        ).pvalue
        assert sign_flip_p(d) == pytest.approx(exact, abs=4 * math.sqrt(exact / 99_999))
        assert sign_flip_p(d) == sign_flip_p(d)


def test_drawn_p_is_never_zero() -> None:
    assert sign_flip_p(np.ones(30)) == 1 / 100_000


def test_p_by_hand() -> None:
    # Of 2**4 patterns of 1, 2, 3, 4 (sum 10), those with |sum| >= 8: none flipped, 1 flipped, and their negations.
    assert sign_flip_p([-1.0, 2.0, 3.0, 4.0]) == 4 / 16
    # A zero doubles patterns and hits alike.
    assert sign_flip_p([-1.0, 2.0, 0.0, 3.0, 4.0]) == 4 / 16


@given(differences, st.sampled_from([0.05, 0.125, 0.3]))
@repeatable
def test_interval_holds_just_the_shifts_that_the_test_keeps(values: list[float], alpha: float) -> None:
    d = np.array(values)
    low, high = sign_flip_interval(d, alpha)
    if low is None or high is None:
        assert 2 ** (1 - len(d)) > alpha
        return
    width = 1e-6
    for inside in np.linspace(low + width, high - width, 7):
        if low < inside < high:
            assert sign_flip_p(d - inside) > alpha
    for outside in (low - width, low - 1, high + width, high + 1):
        assert sign_flip_p(d - outside) <= alpha


@pytest.mark.parametrize("seeds", [17, 18])  # all patterns, and drawn ones
def test_interval_and_p_agree_on_both_sides_of_enumeration(seeds: int) -> None:
    d = np.random.default_rng(8).normal(0.3, 1.0, size=seeds)
    low, high = sign_flip_interval(d, 0.05)
    for end, inward in ((low, 1e-9), (high, -1e-9)):
        assert sign_flip_p(d - (end + inward)) > 0.05
        assert sign_flip_p(d - (end - inward)) <= 0.05
    # Student's interval is its limit for many seeds; for these it is near.
    student = stats.t.interval(0.95, seeds - 1, d.mean(), stats.sem(d))
    assert (low, high) == pytest.approx(student, abs=0.15)


# --- Families of comparisons ------------------------------------------------------------------------------------------


def binomial_gains(negatives: int) -> np.ndarray:
    return np.array([-1.0] * negatives + [1.0] * (8 - negatives))


def test_step_down_by_hand() -> None:
    # Of 2**8 patterns of eight equal sizes: 2 are as far out as no negative, 2 + 2*8 as one, 2 + 2*8 + 2*28 as two.
    gains = [binomial_gains(k) for k in (2, 0, 1)]
    raw = [74 / 256, 2 / 256, 18 / 256]
    holm = paired_differences(gains, holm_multipliers(3))
    assert [d.p for d in holm] == raw
    assert [d.p_corrected for d in holm] == [74 / 256, 3 * 2 / 256, 2 * 18 / 256]
    picked = paired_differences(gains, picked_multipliers(3))
    assert [d.p_corrected for d in picked] == [74 / 256, 6 * 2 / 256, 3 * 18 / 256]
    # Never below the one before: 6 * 2/256 for both, though 3 * 2/256 is less.
    equal = paired_differences([binomial_gains(0)] * 2 + [binomial_gains(4)], picked_multipliers(3))
    assert [d.p_corrected for d in equal] == [12 / 256, 12 / 256, 1.0]


@given(st.lists(st.lists(stepped, min_size=9, max_size=9), min_size=1, max_size=4), st.booleans())
@repeatable
def test_interval_excludes_zero_exactly_when_told_apart(rows: list[list[float]], lean: bool) -> None:
    gains = [np.array(row) + 0.05 * lean for row in rows]
    for difference in paired_differences(gains, picked_multipliers(len(gains))):
        if difference.low is None or difference.high is None:
            assert difference.p_corrected > 0.05
            continue
        excludes = difference.low > 0 or difference.high < 0
        assert excludes == (difference.p_corrected <= 0.05)
        assert difference.low - 1e-12 <= difference.gain <= difference.high + 1e-12
        assert (difference.more_seeds == 0) == (difference.p_corrected <= 0.05)


def test_one_planned_comparison() -> None:
    (planned,) = paired_differences([np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.3])])
    assert planned.p == planned.p_corrected == 2 / 64


# --- Bootstrap interval -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 200])
def test_bca_equals_scipys(size: int) -> None:
    values = np.random.default_rng(size).normal(5.0, 2.0, size=size)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert bca_interval(values) == pytest.approx(tuple(reference), abs=1e-9)


def test_bca_equals_all_resamples_counted() -> None:
    # Of five values all 5**5 resamples can be counted. Their sums are whole numbers here, so a resample whose mean
    # equals the observed one (sum 30) is seen as equal: half of those count as below. The division by 70 makes
    # rounding errors that must not matter.
    values = np.array([1, 4, 6, 9, 10])
    sums = np.sort([sum(resample) for resample in itertools.product(values, repeat=5)])
    bias = stats.norm.ppf((np.sum(sums < 30) + np.sum(sums == 30) / 2) / 5**5)
    # Leaving out v moves the mean from 6 to (30 - v) / 4, that is by (6 - v) / 4.
    moves = (values - 6) / 4
    acceleration = np.sum(moves**3) / (6 * np.sum(moves**2) ** 1.5)
    ends = []
    for z in stats.norm.ppf([0.025, 0.975]):
        share = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        ends.append(np.quantile(sums, share) / 5)
    assert bca_interval(values / 70) == pytest.approx(np.array(ends) / 70, abs=0.1 / 70)


@given(st.lists(stepped, min_size=2, max_size=8), st.sampled_from([0.0, 0.1, 0.7]))
@repeatable
def test_bca_interval_is_finite_and_moves_with_the_values(values: list[float], shift: float) -> None:
    low, high = bca_interval(values)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert bca_interval([value + shift for value in values]) == pytest.approx((low + shift, high + shift), abs=1e-9)


def test_bca_of_a_single_value_and_of_equal_ones() -> None:
    assert bca_interval([0.7]) is None
    assert bca_interval([0.7] * 20) == (0.7, 0.7)
    assert bca_interval([0.1 + 0.2, 0.3]) == (0.1 + 0.2, 0.1 + 0.2)  # equal but for rounding
    low, high = bca_interval([0.0] * 19 + [1.0])
    assert 0.0 <= low < 0.05 < high <= 1.0


# --- How many seeds ---------------------------------------------------------------------------------------------------


def test_seeds_needed_by_hand() -> None:
    # sd = 1, difference 1/2: n = ((t(0.975, 33) + t(0.8, 33)) / 0.5)**2 = ((2.0345 + 0.8530) * 2)**2 = 33.35 <= 34,
    # and 33 do not do: ((2.0369 + 0.8534) * 2)**2 = 33.41. Two are there, 32 more are needed.
    pilot = np.array([-1.0, 1.0]) / math.sqrt(2)
    assert seeds_needed(pilot, difference=0.5) == 32
    # Ever smaller differences take their inverse square.
    assert seeds_needed(pilot, difference=0.005) == pytest.approx(32e4, rel=0.1)


def test_seeds_needed_at_the_limits() -> None:
    assert seeds_needed([0.1, -0.1]) is None
    assert seeds_needed([0.0, 0.0, 0.0]) is None
    assert seeds_needed([0.1, 0.3], difference=0.0) is None
    assert seeds_needed([0.1, 0.1]) == 4  # no spread, yet 6 seeds are the fewest that can show p <= 0.05: 2**-5
    assert seeds_needed([0.1] * 6) == 0
    with pytest.raises(InputError, match="at least 2 seeds"):
        seeds_needed([0.1])


def test_least_seeds() -> None:
    for alpha in (0.5, 0.05, 0.01, 0.05 / 45):
        n = least_seeds(alpha)
        assert 2.0 ** (1 - n) <= alpha
        assert n == 2 or 2.0 ** (2 - n) > alpha


# --- Tuning -----------------------------------------------------------------------------------------------------------


def grid_of(validation: dict[float, float], test: dict[float, float], seeds: int = 3) -> list[Run]:
    return [Run("a", lr, 0.0, seed, validation[lr], test[lr]) for lr in validation for seed in range(seeds)]


def test_validation_chooses_and_test_judges() -> None:
    runs = grid_of({0.1: 0.8, 0.2: 0.9, 0.3: 0.7}, {0.1: 0.99, 0.2: 0.85, 0.3: 0.5})
    (row,) = judge(runs).schedules
    assert (row.lr, row.validation, row.mean, row.edge) == (0.2, pytest.approx(0.9), pytest.approx(0.85), None)


@pytest.mark.parametrize(
    ("validation", "edge"),
    [
        ({0.1: 0.8, 0.2: 0.7, 0.3: 0.6}, "lowest"),
        ({0.1: 0.7, 0.2: 0.7, 0.3: 0.8}, "highest"),
        ({0.1: 0.7, 0.2: 0.8, 0.3: 0.7}, None),
        ({0.1: 0.7}, None),
        ({0.1: 0.7, 0.2: 0.7}, "lowest"),  # equal rates: the lower one
    ],
)
def test_edge_of_the_grid(validation: dict[float, float], edge: str | None) -> None:
    assert judge(grid_of(validation, validation)).schedules[0].edge == edge


def test_momentum_is_tuned_and_has_no_edge() -> None:
    runs = [Run("a", 0.1, m, seed, 0.8 + 0.1 * m, 0.7) for m in (0.0, 0.9) for seed in range(2)]
    (row,) = judge(runs).schedules
    assert (row.momentum, row.edge) == (0.9, None)
    assert [(cell.lr, cell.momentum) for cell in judge(runs).settings] == [(0.1, 0.0), (0.1, 0.9)]


def test_a_diverged_run_counts_as_the_worst_and_loses_the_tuning() -> None:
    # At 0.3 two seeds are better than any at 0.1, and one diverged: (0.95 + 0.95 + 0.5) / 3 = 0.8 < 0.9.
    runs = [Run("a", 0.1, 0.0, seed, 0.9, 0.9, curve=(0.5, 0.9)) for seed in range(3)]
    runs += [Run("a", 0.3, 0.0, seed, 0.95, 0.95, curve=(0.6, 0.95)) for seed in range(2)]
    runs += [Run("a", 0.3, 0.0, 2, math.nan, math.nan, True, curve=(0.2, math.nan))]
    assert worst_value(runs, "max") == 0.5
    summary = judge(runs)
    assert summary.schedules[0].lr == 0.1
    assert summary.settings[1].validation == pytest.approx(0.8)
    assert summary.settings[1].diverged == 1


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_a_diverged_run(metric: float) -> None:
    runs = [Run("a", 0.1, 0.0, seed, 0.9, 0.9 if seed else metric) for seed in range(3)]
    runs += [Run("b", 0.1, 0.0, seed, 0.6, 0.6) for seed in range(3)]
    row = judge(runs).schedules[0]
    assert (row.schedule, row.diverged, row.worst, row.worst_seed) == ("a", 1, 0.6, 0)
    assert row.mean == pytest.approx(0.8)  # (0.9 + 0.9 + 0.6) / 3


def test_a_loss_that_exploded_before_nan_does_not_drown_the_rest() -> None:
    runs = [Run("a", 0.1, 0.0, 0, math.nan, math.nan, True, curve=(1e30, math.nan))]
    runs += [Run("a", 0.1, 0.0, 1, 0.2, 0.3, curve=(0.7, 0.2))]
    assert worst_value(runs, "min") == 0.7


# --- The whole summary ------------------------------------------------------------------------------------------------


def test_order_of_the_runs_changes_nothing() -> None:
    runs = race({"a": 0.9, "b": 0.9, "c": 0.95}, 8, np.random.default_rng(9), lrs=(0.03, 0.1, 0.3))
    shuffled = runs.copy()
    random.Random(0).shuffle(shuffled)
    assert judge(shuffled, reference="a") == judge(runs, reference="a")


def test_min_is_the_mirror_of_max() -> None:
    runs = race({"a": 0.9, "b": 0.91, "c": 0.95}, 8, np.random.default_rng(10), lrs=(0.03, 0.1, 0.3))
    mirrored = [dataclasses.replace(run, validation=-run.validation, test=-run.test) for run in runs]
    one, other = judge(runs, reference="a"), judge(mirrored, reference="a", mode="min")
    assert (one.best, one.tied) == (other.best, other.tied)
    for row, twin in zip(one.schedules, other.schedules, strict=True):
        assert (row.lr, row.worst_seed) == (twin.lr, twin.worst_seed)
        assert row.mean == pytest.approx(-twin.mean)
        assert row.against_best == twin.against_best
        assert row.against_reference == twin.against_reference


def test_pairing_removes_what_a_seed_shares() -> None:
    # The splits differ by up to 0.3, the schedules by 0.01 in every one.
    levels = np.linspace(0.6, 0.9, 8)
    runs = [Run("a", 0.1, 0.0, seed, 0.9, level) for seed, level in enumerate(levels)]
    runs += [Run("b", 0.1, 0.0, seed, 0.9, level + 0.01 + 0.001 * (seed % 2)) for seed, level in enumerate(levels)]
    summary = judge(runs, reference="a")
    assert summary.tied == ("b",)
    against = summary.schedules[0].against_reference
    assert against.gain == pytest.approx(0.0105)
    assert against.p == 2 / 2**8


def test_worst_seed() -> None:
    tests = [0.9, 0.7, 0.8]
    up = [Run("a", 0.1, 0.0, seed + 10, 0.9, test) for seed, test in enumerate(tests)]
    (row,) = judge(up).schedules
    assert (row.worst, row.worst_seed) == (0.7, 11)
    (row,) = judge(up, mode="min").schedules
    assert (row.worst, row.worst_seed) == (0.9, 10)


def test_schedules_that_always_diverge_are_out_of_the_tests() -> None:
    runs = race({"a": 0.9, "b": 0.9}, 8, np.random.default_rng(11))
    broken = [Run("z", 0.1, 0.0, seed, math.nan, math.nan, True) for seed in range(8)]
    with_broken, without = judge(runs + broken, reference="a"), judge(runs, reference="a")
    assert with_broken.out == ("z",)
    assert with_broken.tied == without.tied
    assert with_broken.schedules[:2] == without.schedules
    assert with_broken.schedules[2].mean is None
    # A reference that broke down cannot be compared with, which is not an error.
    assert all(row.against_reference is None for row in judge(runs + broken, reference="z").schedules)


@given(
    names=st.integers(1, 3),
    seeds=st.integers(1, 8),
    cells=st.lists(st.sampled_from([0.5, 0.6, 0.7, math.nan, math.inf]), min_size=24, max_size=24),
    mode=st.sampled_from(["min", "max"]),
)
@repeatable
def test_any_race_gives_plain_numbers_and_two_sentences(names: int, seeds: int, cells: list[float], mode: str) -> None:
    values = iter(cells)
    runs = [Run(name, 0.1, 0.0, seed, x := next(values), x) for name in "abc"[:names] for seed in range(seeds)]
    summary = judge(runs, mode=mode, reference="a")
    text = json.dumps(dataclasses.asdict(summary), allow_nan=False)
    assert json.loads(text)["seeds"] == list(range(seeds))
    first, second = verdict(summary)
    assert first.endswith(".")
    assert second.endswith(".")
    assert len(first) <= 100
    assert len(second) <= 100
    assert "nan" not in (first + second).replace("nant", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: [], "no runs"),
        (lambda runs: runs[1:], r"a at lr 0.1, momentum 0 has no run for seed 0"),
        (lambda runs: [*runs, runs[-1]], r"b at lr 0.1, momentum 0 has two runs for seed 2"),
    ],
)
def test_incomplete_races_are_refused(change, message: str) -> None:
    runs = [Run(name, 0.1, 0.0, seed, 0.9, 0.9) for name in "ab" for seed in range(3)]
    with pytest.raises(InputError, match=message):
        judge(change(runs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "maximum"}, "'min' or 'max'"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"reference": "constnat"}, "did you mean 'constant'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        judge([Run("constant", 0.1, 0.0, 0, 0.9, 0.9)], **options)


# --- Time to target ---------------------------------------------------------------------------------------------------


def test_time_to_the_level_where_the_reference_ends() -> None:
    slow, fast, never = (0.5, 0.6, 0.7, 0.8), (0.7, 0.8, 0.9, 0.9), (0.5, 0.5, 0.6, 0.7)
    curves = {"constant": slow, "cosine": fast, "rex": never}
    runs = [Run(name, 0.1, 0.0, seed, c[-1], c[-1], curve=c) for name, c in curves.items() for seed in range(3)]
    summary = judge(runs, reference="constant")
    assert summary.target == pytest.approx(0.8)
    reached = {row.schedule: row.epochs_to_target for row in summary.schedules}
    assert reached == {"constant": 4, "cosine": 2, "rex": None}
    assert judge(runs).target == pytest.approx(0.7)  # no reference: where the last one ends
    assert judge(runs, target=0.9).schedules[0].epochs_to_target == 3


def test_time_to_target_of_a_loss_and_without_curves() -> None:
    assert time_to_target([0.9, 0.4, 0.5, 0.3], 0.4, "min") == 2
    assert time_to_target([], 0.4, "min") is None
    assert judge([Run("a", 0.1, 0.0, 0, 0.9, 0.9)]).target is None


def test_mean_curve_counts_the_tail_of_a_diverged_run_as_the_worst() -> None:
    runs = [
        Run("a", 0.1, 0.0, 0, 0.8, 0.8, curve=(0.6, 0.7, 0.8)),
        Run("a", 0.1, 0.0, 1, 0.7, 0.7, curve=(0.7,)),  # stopped early: keeps its last
        Run("a", 0.1, 0.0, 2, math.nan, math.nan, True, curve=(0.6, math.nan)),
    ]
    # (0.6 + 0.7 + 0.6) / 3, (0.7 + 0.7 + 0.4) / 3, (0.8 + 0.7 + 0.4) / 3
    assert mean_curve(runs, worst=0.4) == pytest.approx([1.9 / 3, 1.8 / 3, 1.9 / 3])


# --- The verdict in words ---------------------------------------------------------------------------------------------


def planted(levels: dict[str, float], seeds: int, spread: float = 0.01) -> list[Run]:
    """Each schedule has its level and a wave of its own whose mean over 5, 10, ... seeds is zero: nothing random."""
    return [
        Run(name, 0.1, 0.0, seed, 0.9, level + spread * (seed * (2 + i) % 5 - 2))
        for i, (name, level) in enumerate(levels.items())
        for seed in range(seeds)
    ]


def test_words_for_a_winner() -> None:
    # All ten differences are positive: p = 2 / 2**10.
    assert verdict(judge(planted({"constant": 0.8, "cosine": 0.9}, 10), reference="constant")) == (
        "cosine wins: mean test_acc 0.9, better than the rest beyond chance over 10 seeds.",
        "It beats constant by 0.1 (95 %: 0.085 to 0.11; p = 0.002); no more seeds are needed.",
    )


def test_words_for_a_winner_that_is_the_reference() -> None:
    runs = planted({"constant": 0.95, "cosine": 0.85, "rex": 0.7}, 10)
    first, second = verdict(judge(runs, reference="constant"))
    assert first.startswith("constant wins")
    assert second.startswith("It beats cosine by 0.1 ")


def test_words_for_a_tie() -> None:
    first, second = verdict(judge(planted({"constant": 0.9, "cosine": 0.902}, 10), reference="constant"))
    assert first.startswith("No winner: cosine and constant are tied; the best mean is cosine's, test_acc 0.902.")
    assert second.startswith("It leads constant by 0.002 (95 %: -0.0")
    assert second.endswith("more seeds should settle it.")


def test_words_for_a_tie_that_leaves_the_reference_behind() -> None:
    first, second = verdict(judge(planted({"constant": 0.8, "cosine": 0.902, "rex": 0.9}, 10), reference="constant"))
    assert first.startswith("No winner: cosine and rex are tied")
    assert second.startswith("It beats constant by 0.1 ")
    assert second.endswith("more seeds should tell it from rex.")


def test_words_for_identical_schedules() -> None:
    runs = [Run(name, 0.1, 0.0, seed, 0.9, 0.8 + seed / 100) for name in "ab" for seed in range(8)]
    assert verdict(judge(runs)) == (
        "No winner: a and b are tied; the best mean is a's, test_acc 0.835.",
        "It is level with b (95 %: 0 to 0; p = 1); no number of seeds would settle it.",
    )


def test_words_for_too_few_seeds() -> None:
    # Both differences are 0.1 or so: p = 2 / 2**3, and 6 seeds are the fewest that show p <= 0.05.
    runs = planted({"constant": 0.8, "cosine": 0.9}, 3, spread=0.0001)
    first, second = verdict(judge(runs, reference="constant"))
    assert first.startswith("No winner: cosine and constant are tied")
    assert second == "It leads constant by 0.1 (3 seeds give no interval; p = 0.25); ~3 more seeds should settle it."


def test_words_for_one_seed() -> None:
    runs = [Run(f"s{i}", 0.1, 0.0, 0, 0.9, 0.8 + i / 100) for i in range(10)]
    summary = judge(runs)
    assert len(summary.tied) == 10
    assert verdict(summary) == (
        "One seed gives no interval: s9 came first (test_acc 0.89), perhaps by luck.",
        # 2**-10 * 45 = 0.044 <= 0.05 < 2**-9 * 45
        "At least 11 seeds are needed before 10 schedules can be told apart.",
    )


def test_words_for_one_schedule() -> None:
    assert verdict(judge(planted({"cosine": 0.9}, 1, spread=0.0))) == (
        "Only cosine raced: mean test_acc 0.9.",
        "One seed gives no interval: run at least 2 seeds.",
    )
    second = verdict(judge(planted({"cosine": 0.9}, 10)))[1]
    assert second.startswith("Its interval is 0.89")
    assert second.endswith("(95 %, 10 seeds); race it against another.")


def test_words_for_diverged_runs() -> None:
    broken = [Run("z", lr, 0.0, seed, math.nan, math.nan, True) for lr in (0.1, 0.3) for seed in range(8)]
    assert verdict(judge(broken)) == (
        "Every run diverged, so no schedule can be judged.",
        "Lower the peak learning rates: the lowest tried was 0.1.",
    )
    first, _ = verdict(judge(planted({"a": 0.9}, 8) + broken))
    assert first.startswith("Only a finished: mean test_acc 0.9")
    assert first.endswith("; every run of z diverged.")
    partly = planted({"a": 0.9, "b": 0.6}, 15)
    partly[0] = dataclasses.replace(partly[0], diverged=True)
    first, _ = verdict(judge(partly))
    assert "a wins" in first
    assert first.endswith("; 1 of its 15 runs diverged.")


def test_words_for_a_loss() -> None:
    runs = planted({"constant": 0.3, "cosine": 0.2}, 10)
    assert verdict(judge(runs, mode="min", metric="test_loss", reference="constant")) == (
        "cosine wins: mean test_loss 0.2, better than the rest beyond chance over 10 seeds.",
        "It beats constant by 0.1 (95 %: 0.085 to 0.11; p = 0.002); no more seeds are needed.",
    )


def test_importing_loads_no_scipy() -> None:
    code = "import sys, lit_lrsched.comparison.statistics; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
