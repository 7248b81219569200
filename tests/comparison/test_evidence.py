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

from lit_lrsched.comparison.evidence.bootstrap import bca_interval
from lit_lrsched.comparison.evidence.power import least_seeds, seeds_needed
from lit_lrsched.comparison.evidence.runs import Run, RunKey, time_to_target, worst_value
from lit_lrsched.comparison.evidence.significance import differences_from
from lit_lrsched.comparison.evidence.summary import Splits, Summary, summarize
from lit_lrsched.comparison.evidence.verdict import few_seeds_in_words, overlap_in_words, verdict

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
        runs.append(Run(RunKey(name, lr, 0.0, 0.0, seed), validation, test))
    return runs


def sign_flip_p(values: np.ndarray | list[float]) -> float:
    """The p of one planned comparison."""
    return differences_from(np.zeros(len(values)), [np.array(values)])[0].p


def sign_flip_interval(d: np.ndarray, alpha: float) -> tuple[float | None, float | None]:
    (found,) = differences_from(np.zeros(len(d)), [d], alpha=alpha)
    return found.low, found.high


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


NOISES = {
    "independent": lambda rng, shape: rng.normal(size=shape),
    "shared split": lambda rng, shape: rng.normal(size=shape) + 2 * rng.normal(size=shape[1]),
    "unequal": lambda rng, shape: rng.normal(size=shape) * np.where(np.arange(shape[0]) % 3 == 2, 4, 1)[:, None],
    "ties": lambda rng, shape: np.round(rng.normal(size=shape)),
}


def judged(values: np.ndarray) -> tuple[int, dict[int, float]]:
    """The best, and the corrected p of every other."""
    best = int(values.mean(axis=1).argmax())
    others = [i for i in range(len(values)) if i != best]
    found = differences_from(values[best], [values[i] for i in others], picked=True)
    return best, {i: difference.p_corrected for i, difference in zip(others, found, strict=True)}


@pytest.mark.parametrize(
    ("schedules", "seeds", "noise"),
    [(4, 10, "independent"), (10, 7, "shared split"), (10, 7, "unequal"), (4, 10, "ties")],
)
def test_equal_schedules_stay_tied_although_the_best_was_picked(
    schedules: int, seeds: int, noise: str, run_all: bool
) -> None:
    # scripts/verdict_errors.py measures more of them.
    repetitions = 4000 if run_all else 300
    rng = np.random.default_rng(2)
    declared = 0
    for _ in range(repetitions):
        _, p_values = judged(NOISES[noise](rng, (schedules, seeds)))
        declared += min(p_values.values()) <= 0.05
    assert 0 < declared <= 0.05 * repetitions


def test_without_paying_for_the_pick_too_much_is_declared() -> None:
    # This is what the pick costs: as if the best had been named beforehand.
    rng = np.random.default_rng(2)
    declared = 0
    for _ in range(200):
        values = rng.normal(size=(10, 8))
        best = values.mean(axis=1).argmax()
        found = differences_from(values[best], [values[i] for i in range(10) if i != best])
        declared += any(difference.p_corrected <= 0.05 for difference in found)
    assert declared > 0.08 * 200


@pytest.mark.parametrize("level", [0.3, 1.0, 2.0])
def test_true_bests_are_kept_when_others_are_worse(level: float, run_all: bool) -> None:
    # Three schedules share the best level and three are worse: telling these apart leaves fewer to judge together.
    repetitions = 5000 if run_all else 300
    rng = np.random.default_rng(3)
    lost = 0
    for _ in range(repetitions):
        best, p_values = judged(rng.normal(size=(6, 10)) - level * np.repeat([0, 1], 3)[:, None])
        lost += any(i < 3 and p <= 0.05 for i, p in p_values.items()) and best < 3
    assert 0 < lost <= 0.05 * repetitions


def test_a_leader_of_ten_is_found() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(40):
        best, p_values = judged(rng.normal(size=(10, 12)) + 2.2 * (np.arange(10) == 0)[:, None])
        found += best == 0 and max(p_values.values()) <= 0.05
    assert found >= 38


def test_six_seeds_can_decide_between_ten_schedules() -> None:
    values = np.random.default_rng(5).normal(size=(10, 6)) + 8.0 * (np.arange(10) == 0)[:, None]
    _, p_values = judged(values)
    assert set(p_values.values()) == {2 / 64}  # the least p of six seeds, however many race


def test_intervals_hold_all_true_differences_at_once(run_all: bool) -> None:
    repetitions = 2000 if run_all else 200
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(repetitions):
        true = np.array([0.0, 0.0, -0.5, -1.0, -1.0])
        values = rng.normal(size=(5, 10)) + true[:, None]
        best = int(values.mean(axis=1).argmax())
        others = [i for i in range(5) if i != best]
        found = differences_from(values[best], [values[i] for i in others], picked=True)
        held += all(d.low <= true[i] - true[best] <= d.high for i, d in zip(others, found, strict=True))
    assert held >= 0.93 * repetitions


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


def by_hand(values: np.ndarray, base: int, picked: bool) -> dict[int, float]:
    """Step-down max-T, written down as the book has it: every pattern, every pair, one step at a time."""
    schedules, seeds = values.shape

    def t(signs: np.ndarray, i: int, j: int) -> float:
        d = values[i] - values[j]
        return abs((signs * d).sum()) / math.sqrt((d**2).sum()) if d.any() else 0.0

    patterns = [np.array(signs) for signs in itertools.product([1, -1], repeat=seeds)]
    observed = {i: t(np.ones(seeds), i, base) for i in range(schedules) if i != base}
    left, found, before = sorted(observed, key=lambda i: -observed[i]), {}, 0.0
    for i in list(left):
        family = [base, *left]
        pairs = itertools.combinations(family, 2) if picked else ((base, j) for j in left)
        pairs = list(pairs)
        hits = sum(max(t(signs, *pair) for pair in pairs) >= observed[i] - 1e-9 for signs in patterns)
        found[i] = before = max(before, hits / len(patterns))
        left.remove(i)
    return found


@given(st.lists(st.lists(stepped, min_size=5, max_size=5), min_size=2, max_size=4), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=30)
def test_corrected_p_by_hand(rows: list[list[float]], picked: bool) -> None:
    values = np.array(rows)
    others = range(1, len(values))
    expected = by_hand(values, 0, picked)
    found = differences_from(values[0], [values[i] for i in others], picked=picked)
    for i, difference in zip(others, found, strict=True):
        assert difference.p_corrected == pytest.approx(expected[i])
        assert difference.p == sign_flip_p(values[i] - values[0])
        assert difference.p <= difference.p_corrected


@pytest.mark.parametrize("picked", [False, True])
@given(rows=st.lists(st.lists(stepped, min_size=9, max_size=9), min_size=1, max_size=4), lean=st.booleans())
@repeatable
def test_interval_excludes_zero_exactly_when_told_apart(picked: bool, rows: list[list[float]], lean: bool) -> None:
    gains = [np.array(row) + 0.05 * lean for row in rows]
    for difference in differences_from(np.zeros(9), gains, picked=picked, overlap=0.3):
        if difference.low is None or difference.high is None:
            assert difference.p_corrected > 0.05
        else:
            excludes = difference.low > 0 or difference.high < 0
            assert excludes == (difference.p_corrected <= 0.05)
            assert difference.low - 1e-12 <= difference.gain <= difference.high + 1e-12
        assert (difference.more_seeds == 0) == (difference.p_corrected <= 0.05)
        resplit = difference.resplit
        assert (resplit.low > 0 or resplit.high < 0) == (resplit.p <= 0.05)


def test_a_run_that_explodes_spoils_no_other_comparison() -> None:
    rng = np.random.default_rng(13)
    rows = [rng.normal(size=10) for _ in range(3)]
    rows[0] = rows[0] + 4
    huge = np.where(np.arange(10) == 3, -1e30, rows[2])
    found = differences_from(rows[0], [rows[1], huge], picked=True)
    assert found[0].p_corrected <= 0.05 < found[1].p_corrected


def test_more_seeds_pay_the_same_correction() -> None:
    rows = np.random.default_rng(14).normal(size=(10, 12))
    rows[0] = rows[1] + 0.3 + np.random.default_rng(1).normal(size=12)
    alone = differences_from(rows[0], [rows[1]])[0]
    together = differences_from(rows[0], list(rows[1:]), picked=True)[0]
    # One comparison is decided, the same among ten schedules is not.
    assert alone.p == together.p == alone.p_corrected < 0.05 < together.p_corrected < 0.5
    assert alone.more_seeds == 0
    assert together.more_seeds > seeds_needed(rows[1] - rows[0])


@given(st.lists(st.lists(stepped, min_size=6, max_size=6), min_size=1, max_size=5))
@repeatable
def test_more_seeds_are_a_number_that_somebody_could_run(rows: list[list[float]]) -> None:
    for difference in differences_from(np.zeros(6), [np.array(row) for row in rows], picked=True):
        if difference.p_corrected > 0.5:
            assert difference.more_seeds is None
        if difference.more_seeds is not None:
            assert 0 <= difference.more_seeds <= 10_000


# --- Splits that overlap ----------------------------------------------------------------------------------------------


def test_overlap_widens_the_interval_as_nadeau_and_bengio_say() -> None:
    # 10 seeds, a test row for every four training rows: the variance of the mean is s ** 2 * (1 / 10 + 1 / 4).
    d = np.random.default_rng(15).normal(1.0, 1.0, size=10)
    (found,) = differences_from(np.zeros(10), [d], overlap=0.25)
    error = d.std(ddof=1) * math.sqrt(0.1 + 0.25)
    expected = stats.t.interval(0.95, 9, d.mean(), error)
    assert (found.resplit.low, found.resplit.high) == pytest.approx(expected)
    assert found.resplit.p == pytest.approx(2 * stats.t.sf(d.mean() / error, 9))
    assert differences_from(np.zeros(10), [d])[0].resplit is None


def test_overlap_is_said_and_changes_no_verdict() -> None:
    runs = planted({"constant": 0.8, "cosine": 0.82}, 10)
    plain = judge(runs, reference="constant")
    resplit = judge(runs, reference="constant", splits=Splits(200, 100, same_test=False))
    assert verdict(resplit) == verdict(plain)
    assert overlap_in_words(plain) is None
    words = overlap_in_words(resplit)
    found = resplit.schedules[1].against_best.resplit
    assert words.startswith("The seeds re-split the same rows, and intervals and p speak of these; for new rows")
    assert f"{-found.high:.2g} to {-found.low:.2g} (p " in words
    same = overlap_in_words(judge(runs, splits=Splits(200, 100, same_test=True)))
    assert same == "Every seed has the same 100 test rows: intervals and p speak of these rows alone."


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


def test_least_seeds() -> None:
    for alpha in (0.5, 0.05, 0.01, 0.05 / 45):
        n = least_seeds(alpha)
        assert n == min(seeds for seeds in range(2, 20) if 2.0 ** (1 - seeds) <= alpha)


# --- Tuning -----------------------------------------------------------------------------------------------------------


def grid_of(validation: dict[float, float], test: dict[float, float], seeds: int = 3) -> list[Run]:
    keys = [RunKey("a", lr, 0.0, 0.0, seed) for lr in validation for seed in range(seeds)]
    return [Run(key, validation[key.lr], test[key.lr]) for key in keys]


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
        ({0.1: 0.7, 0.2: 0.7}, None),  # the other does as well
    ],
)
def test_edge_of_the_grid(validation: dict[float, float], edge: str | None) -> None:
    assert judge(grid_of(validation, validation)).schedules[0].edge == edge


def test_where_another_rate_does_as_well_there_is_no_edge() -> None:
    alike = dict.fromkeys((0.1, 0.3), 0.9)  # a metric that is the same whatever the rate, or a perfect score
    summary = judge(rated({"a": alike, "b": alike}))
    assert [(row.lr, row.edge) for row in summary.schedules] == [(0.1, None)] * 2
    assert (summary.open_edges, summary.wider_lrs) == ((), ())
    assert "widen" not in verdict(summary)[1]


def test_momentum_is_tuned_and_has_no_edge() -> None:
    runs = [Run(RunKey("a", 0.1, m, 0.0, seed), 0.8 + 0.1 * m, 0.7) for m in (0.0, 0.9) for seed in range(2)]
    (row,) = judge(runs).schedules
    assert (row.momentum, row.edge) == (0.9, None)
    assert [(cell.lr, cell.momentum) for cell in judge(runs).settings] == [(0.1, 0.0), (0.1, 0.9)]


def test_a_diverged_run_counts_as_the_worst_and_loses_the_tuning() -> None:
    # At 0.3 two seeds are better than any at 0.1, and one diverged: (0.95 + 0.95 + 0.5) / 3 = 0.8 < 0.9.
    runs = [Run(RunKey("a", 0.1, 0.0, 0.0, seed), 0.9, 0.9, curve=(0.5, 0.9)) for seed in range(3)]
    runs += [Run(RunKey("a", 0.3, 0.0, 0.0, seed), 0.95, 0.95, curve=(0.6, 0.95)) for seed in range(2)]
    runs += [Run(RunKey("a", 0.3, 0.0, 0.0, 2), math.nan, math.nan, True, curve=(0.2, math.nan))]
    assert worst_value(runs, "max") == 0.5
    summary = judge(runs)
    assert summary.schedules[0].lr == 0.1
    assert summary.settings[1].validation == pytest.approx(0.8)
    assert summary.settings[1].diverged == 1


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_a_diverged_run(metric: float) -> None:
    runs = [Run(RunKey("a", 0.1, 0.0, 0.0, seed), 0.9, 0.9 if seed else metric) for seed in range(3)]
    runs += [Run(RunKey("b", 0.1, 0.0, 0.0, seed), 0.6, 0.6) for seed in range(3)]
    row = judge(runs).schedules[0]
    assert (row.schedule, row.diverged, row.worst, row.worst_seed) == ("a", 1, 0.6, 0)
    assert row.mean == pytest.approx(0.8)  # (0.9 + 0.9 + 0.6) / 3


def test_a_loss_that_exploded_before_nan_does_not_drown_the_rest() -> None:
    runs = [Run(RunKey("a", 0.1, 0.0, 0.0, 0), math.nan, math.nan, True, curve=(1e30, math.nan))]
    runs += [Run(RunKey("a", 0.1, 0.0, 0.0, 1), 0.2, 0.3, curve=(0.7, 0.2))]
    assert worst_value(runs, "min") == 0.7


# --- The edge of the grid ---------------------------------------------------------------------------------------------


def rated(
    levels: dict[str, dict[float, float]], seeds: int = 10, broken: tuple[tuple[str, float], ...] = ()
) -> list[Run]:
    """Validation and test at these levels by rate, with a wave of its own for each schedule."""
    return [
        Run(RunKey(name, lr, 0.0, 0.0, seed), level, level + 0.002 * (seed * (2 + place) % 5 - 2), (name, lr) in broken)
        for place, (name, by_rate) in enumerate(levels.items())
        for lr, level in by_rate.items()
        for seed in range(seeds)
    ]


INSIDE = {0.1: 0.7, 0.3: 0.75, 1.0: 0.7}


def test_a_winner_inside_the_grid_wins() -> None:
    summary = judge(rated({"a": INSIDE, "b": {0.1: 0.8, 0.3: 0.9, 1.0: 0.8}}))
    assert (summary.open_edges, summary.wider_lrs) == ((), ())
    assert verdict(summary)[0].startswith("b wins")


@pytest.mark.parametrize(
    ("levels", "edge", "lrs"),
    [
        ({0.1: 0.8, 0.3: 0.85, 1.0: 0.9}, "highest", (0.1, 0.3, 1.0, 3.0, 10.0)),
        ({0.1: 0.9, 0.3: 0.85, 1.0: 0.8}, "lowest", (0.01, 0.03, 0.1, 0.3, 1.0)),
    ],
)
def test_a_winner_at_the_edge_does_not_win(levels: dict[float, float], edge: str, lrs: tuple[float, ...]) -> None:
    summary = judge(rated({"a": INSIDE, "b": levels}))
    assert (summary.tied, summary.open_edges, summary.wider_lrs) == (("b",), ("b",), lrs)
    first, second = verdict(summary)
    assert first == f"Not decided: b leads (mean test_acc 0.9), but its best rate is the {edge} tried."
    assert second.startswith("It beats a by 0.15 ")
    assert second.endswith(f"; widen the grid: lrs=[{', '.join(f'{lr:g}' for lr in lrs)}].")


def test_a_wider_grid_has_the_rates_that_were_tried_to_their_last_digit() -> None:
    summary = judge(rated({"a": {1 / 3: 0.7, 1.0: 0.75}, "b": {1 / 3: 0.8, 1.0: 0.9}}))
    assert verdict(summary)[1].endswith("; widen the grid: lrs=[0.3333333333333333, 1, 3, 9].")


def test_a_loser_at_the_edge_unseats_the_winner_unless_it_is_far_behind() -> None:
    winner = {0.1: 0.8, 0.3: 0.9, 1.0: 0.8}
    # The last step brought 0.1: once more, and it is ahead.
    near = judge(rated({"a": {0.1: 0.7, 0.3: 0.75, 1.0: 0.85}, "b": winner}))
    assert (near.tied, near.open_edges) == (("b",), ("a",))
    assert verdict(near)[0] == "Not decided: b leads (mean test_acc 0.9), but a's best rate is the highest tried."
    # It brought 0.02, and 0.1 is missing.
    far = judge(rated({"a": {0.1: 0.7, 0.3: 0.78, 1.0: 0.8}, "b": winner}))
    assert (far.tied, far.open_edges) == (("b",), ())
    assert far.schedules[1].edge == "highest"
    assert verdict(far)[0].startswith("b wins")
    both = judge(rated({"a": {0.1: 0.7, 0.3: 0.75, 1.0: 0.85}, "b": {0.1: 0.9, 0.3: 0.8, 1.0: 0.8}}))
    assert both.wider_lrs == (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    assert "the best rates of b and a are at the edge of those tried" in verdict(both)[0]


def test_a_tied_schedule_at_the_edge_needs_no_more_seeds_but_a_wider_grid() -> None:
    summary = judge(rated({"a": {0.1: 0.7, 0.3: 0.8, 1.0: 0.901}, "b": {0.1: 0.8, 0.3: 0.9, 1.0: 0.8}}))
    assert summary.tied == ("a", "b")
    first, second = verdict(summary)
    assert first.startswith("No winner: a and b are tied")
    assert second.endswith("widen the grid: lrs=[0.1, 0.3, 1, 3, 10].")


def test_a_rate_beyond_which_runs_diverge_is_no_edge() -> None:
    levels = {"a": INSIDE, "b": {0.1: 0.8, 0.3: 0.9, 1.0: 0.8}}
    summary = judge(rated(levels, broken=(("b", 1.0),)))
    assert (summary.tied, summary.open_edges) == (("b",), ())
    # All rates but the lowest diverge: a lower one may be better.
    summary = judge(rated(levels, broken=(("b", 1.0), ("b", 0.3))))
    assert summary.open_edges == ("b",)


def test_a_single_rate_is_a_choice() -> None:
    summary = judge(rated({"a": {0.3: 0.7}, "b": {0.3: 0.9}}))
    assert verdict(summary)[0].startswith("b wins")


def test_the_rate_of_a_schedule_alone_needs_no_decision() -> None:
    assert judge(rated({"a": {0.1: 0.7, 0.3: 0.8}})).open_edges == ()


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
    runs = [Run(RunKey("a", 0.1, 0.0, 0.0, seed), 0.9, level) for seed, level in enumerate(levels)]
    runs += [
        Run(RunKey("b", 0.1, 0.0, 0.0, seed), 0.9, level + 0.01 + 0.001 * (seed % 2))
        for seed, level in enumerate(levels)
    ]
    summary = judge(runs, reference="a")
    assert summary.tied == ("b",)
    against = summary.schedules[0].against_reference
    assert against.gain == pytest.approx(0.0105)
    assert against.p == 2 / 2**8


def test_worst_seed() -> None:
    tests = [0.9, 0.7, 0.8]
    up = [Run(RunKey("a", 0.1, 0.0, 0.0, seed + 10), 0.9, test) for seed, test in enumerate(tests)]
    (row,) = judge(up).schedules
    assert (row.worst, row.worst_seed) == (0.7, 11)
    (row,) = judge(up, mode="min").schedules
    assert (row.worst, row.worst_seed) == (0.9, 10)


def test_schedules_that_always_diverge_are_out_of_the_tests() -> None:
    runs = race({"a": 0.9, "b": 0.9}, 8, np.random.default_rng(11))
    broken = [Run(RunKey("z", 0.1, 0.0, 0.0, seed), math.nan, math.nan, True) for seed in range(8)]
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
    keys = [RunKey(name, 0.1, 0.0, 0.0, seed) for name in "abc"[:names] for seed in range(seeds)]
    runs = [Run(key, x := next(values), x) for key in keys]
    summary = judge(runs, mode=mode, reference="a")
    text = json.dumps(dataclasses.asdict(summary), allow_nan=False)
    assert json.loads(text)["seeds"] == list(range(seeds))
    first, second = verdict(summary)
    assert first.endswith(".")
    assert second.endswith(".")
    assert len(first) <= 100
    assert len(second) <= 100
    assert "nan" not in (first + second).replace("nant", "")


# --- Time to target ---------------------------------------------------------------------------------------------------


def test_time_to_the_level_where_the_reference_ends() -> None:
    slow, fast, never = (0.5, 0.6, 0.7, 0.8), (0.7, 0.8, 0.9, 0.9), (0.5, 0.5, 0.6, 0.7)
    curves = {"constant": slow, "cosine": fast, "rex": never}
    keys = [RunKey(name, 0.1, 0.0, 0.0, seed) for name in curves for seed in range(3)]
    runs = [Run(key, curves[key.schedule][-1], curves[key.schedule][-1], curve=curves[key.schedule]) for key in keys]
    summary = judge(runs, reference="constant")
    assert summary.target == pytest.approx(0.8)
    reached = {row.schedule: row.epochs_to_target for row in summary.schedules}
    assert reached == {"constant": 4, "cosine": 2, "rex": None}
    assert judge(runs).target == pytest.approx(0.7)  # no reference: where the last one ends
    assert judge(runs, target=0.9).schedules[0].epochs_to_target == 3


def test_time_to_target_of_a_loss_and_without_curves() -> None:
    assert time_to_target([0.9, 0.4, 0.5, 0.3], 0.4, "min") == 2
    assert time_to_target([], 0.4, "min") is None
    assert judge([Run(RunKey("a", 0.1, 0.0, 0.0, 0), 0.9, 0.9)]).target is None


# --- The verdict in words ---------------------------------------------------------------------------------------------


def planted(levels: dict[str, float], seeds: int, spread: float = 0.01) -> list[Run]:
    """Each schedule has its level and a wave of its own whose mean over 5, 10, ... seeds is zero: nothing random."""
    return [
        Run(RunKey(name, 0.1, 0.0, 0.0, seed), 0.9, level + spread * (seed * (2 + i) % 5 - 2))
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
    first, second = verdict(judge(planted({"constant": 0.9, "cosine": 0.908}, 10), reference="constant"))
    assert first.startswith("No winner: cosine and constant are tied; the best mean is cosine's, test_acc 0.908.")
    assert second.startswith("It leads constant by 0.008 (95 %: -0.0")
    assert second.endswith("more seeds should settle it.")


def test_words_for_a_tie_that_leaves_the_reference_behind() -> None:
    first, second = verdict(judge(planted({"constant": 0.8, "cosine": 0.906, "rex": 0.9}, 10), reference="constant"))
    assert first.startswith("No winner: cosine and rex are tied")
    assert second.startswith("It beats constant by 0.11 ")
    assert second.endswith("more seeds should tell it from rex.")


def test_words_for_identical_schedules() -> None:
    runs = [Run(RunKey(name, 0.1, 0.0, 0.0, seed), 0.9, 0.8 + seed / 100) for name in "ab" for seed in range(8)]
    assert verdict(judge(runs)) == (
        "No winner: a and b are tied; the best mean is a's, test_acc 0.835.",
        "It is level with b (95 %: 0 to 0; p = 1); no number of seeds would settle it.",
    )


def test_words_for_a_lead_of_rounding_alone() -> None:
    # Runs are judged by six digits. Both have 0.5 on average but for rounding: 0.4 + 0.6 against 0.400001 + 0.6.
    def runs(rounding: float) -> list[Run]:
        rows = {"a": [0.400001, 0.6] * 5, "b": [0.6, 0.4 + 1e-6 - rounding] * 5}
        return [
            Run(RunKey(name, 0.1, 0.0, 0.0, seed), 0.9, test)
            for name, each in rows.items()
            for seed, test in enumerate(each)
        ]

    assert verdict(judge(runs(rounding=5e-7)))[1] == (
        "It is level with b (95 %: -0.2 to 0.2; p = 0.76); how many seeds would settle it is unknown."
    )
    assert verdict(judge(runs(rounding=2e-5)))[1].startswith("It leads b by 1e-05 (")


def test_words_for_large_numbers() -> None:
    values = {"constant": -12000.0, "cosine": -9800.0}
    runs = [
        Run(RunKey(name, 0.1, 0.0, 0.0, seed), value, value + 100 * (seed % 3))
        for name, value in values.items()
        for seed in range(8)
    ]
    assert verdict(judge(runs)) == (
        "cosine wins: mean test_acc -9712, better than the rest beyond chance over 8 seeds.",
        "It beats constant by 2200 (95 %: 2200 to 2200; p = 0.0078); no more seeds are needed.",
    )


def test_words_for_too_few_seeds() -> None:
    # Both differences are 0.1 or so: p = 2 / 2**3, and 6 seeds are the fewest that show p <= 0.05.
    runs = planted({"constant": 0.8, "cosine": 0.9}, 3, spread=0.0001)
    first, second = verdict(judge(runs, reference="constant"))
    assert first.startswith("No winner: cosine and constant are tied")
    assert second == "It leads constant by 0.1 (3 seeds give no interval; p = 0.25); ~3 more seeds should settle it."


def test_words_for_a_lead_that_is_luck() -> None:
    runs = planted({"constant": 0.9, "cosine": 0.9001}, 10)
    second = verdict(judge(runs, reference="constant"))[1]
    assert second.startswith("It leads constant by 0.0001 (95 %: -0.0")
    assert second.endswith("; luck alone often gives such a lead.")


@pytest.mark.parametrize(("seeds", "least"), [(1, "1"), (2, "0.5"), (5, "0.0625")])
def test_words_for_seeds_that_decide_nothing(seeds: int, least: str) -> None:
    words = few_seeds_in_words(3, seeds)
    assert f"never below {least}, and 0.05 is asked for. Give at least 6." in words
    assert few_seeds_in_words(1, seeds) is None
    assert few_seeds_in_words(3, 6) is None


def test_words_for_one_seed() -> None:
    runs = [Run(RunKey(f"s{i}", 0.1, 0.0, 0.0, 0), 0.9, 0.8 + i / 100) for i in range(10)]
    summary = judge(runs)
    assert len(summary.tied) == 10
    assert verdict(summary) == (
        "One seed gives no interval: s9 came first (test_acc 0.89), perhaps by luck.",
        "At least 6 seeds are needed before schedules can be told apart.",  # 2**-5 <= 0.05 < 2**-4
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
    broken = [Run(RunKey("z", lr, 0.0, 0.0, seed), math.nan, math.nan, True) for lr in (0.1, 0.3) for seed in range(8)]
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
    code = "import sys, lit_lrsched.comparison.evidence.verdict; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
