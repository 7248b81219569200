"""The convex bound: against its formula, sums worked out by hand, real subgradient descent, and its exact value."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Constant, Cosine, CosineRestarts, Horizon, InputError, Linear, WarmupStableDecay, table
from lit_lrsched.schedules.core import ScheduleLike
from lit_lrsched.theory import ConvexBound, convex_bound, transfer
from lit_lrsched.theory.bound import bound_of, bound_of_factors
from lit_lrsched.theory.pieces import Pieces, pieces_of
from tests.catalogue import CATALOGUE

FACTORS = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=30)
DATA = Path(__file__).parents[3] / "shared" / "data" / "llm_curves" / "124M"


def by_the_formula(factors: list[float]) -> tuple[float, float]:
    """t1, and t2 + t3, term by term."""
    total, last = sum(factors), len(factors) - 1
    t2 = sum(f * f for f in factors) / (2 * total)
    t3 = 0.5 * sum(
        factors[k] / sum(factors[k + 1 :]) * sum(f * f for f in factors[k:]) / sum(factors[k:]) for k in range(last)
    )
    return 1 / (2 * total), t2 + t3


@pytest.mark.parametrize(
    ("factors", "peak", "value"),
    [
        # one step: t1 = 1/2, t2 = 1/2, and t3 has no term
        ([1.0], 1.0, 1.0),
        # t1 = 1/4, t2 = 2/4, t3 = 1/2 (1/1 * 2/2): sqrt(1/4 / 1), 2 sqrt(1/4 * 1)
        ([1.0, 1.0], 0.5, 1.0),
        # t1 = 1/6, t2 = 3/6, t3 = 1/2 (1/2 * 3/3 + 1/1 * 2/2) = 3/4
        ([1.0, 1.0, 1.0], math.sqrt(2 / 15), 2 * math.sqrt(5 / 24)),
        # Linear over 3: t1 = 1/4, t2 = (14/9) / 4 = 7/18, t3 = 1/2 (1/1 * (14/9)/2 + (2/3)/(1/3) * (5/9)/1) = 17/18
        ([1.0, 2 / 3, 1 / 3], math.sqrt(3 / 16), 2 * math.sqrt(1 / 3)),
        # a drop at the end: t1 = 1/2.2, t2 = 1.01/2.2, t3 = 1/2 (1/0.1 * 1.01/1.1)
        ([1.0, 0.1], math.sqrt(1 / (1.1 * 10.1)), math.sqrt(10.1 / 1.1)),
        # a warmup: t1 = 1/3, t2 = 1.25/3, t3 = 1/2 (0.5/1 * 1.25/1.5) = 5/24
        ([0.5, 1.0], math.sqrt(8 / 15), 2 * math.sqrt(5 / 24)),
        # steps at 0 are left out: as [1, 1]
        ([1.0, 0.0, 1.0, 0.0, 0.0], 0.5, 1.0),
    ],
)
def test_bounds_worked_out_by_hand(factors, peak, value):
    assert bound_of_factors(factors) == (pytest.approx(peak), pytest.approx(value))
    bound = convex_bound(lambda step, horizon: factors[step], Horizon(len(factors)))
    assert bound == bound_of_factors(factors)
    assert isinstance(bound, ConvexBound)


@given(FACTORS)
def test_the_one_sum_is_the_three(factors):
    t1, rest = by_the_formula(factors)
    assert bound_of_factors(factors) == (pytest.approx(math.sqrt(t1 / rest)), pytest.approx(2 * math.sqrt(t1 * rest)))


@given(FACTORS, st.floats(0.01, 100.0))
def test_another_unit_of_the_factors_moves_the_peak_alone(factors, unit):
    plain, scaled = bound_of_factors(factors), bound_of_factors([unit * factor for factor in factors])
    assert scaled == (pytest.approx(plain.peak / unit), pytest.approx(plain.value))


@given(FACTORS, st.integers(0, 30))
def test_steps_at_zero_are_left_out(factors, place):
    with_zeros = [*factors[:place], 0.0, 0.0, *factors[place:], 0.0]
    assert bound_of_factors(with_zeros) == (
        pytest.approx(bound_of_factors(factors).peak),
        pytest.approx(bound_of_factors(factors).value),
    )


@given(FACTORS, st.floats(0.05, 20.0), st.sampled_from([-1.0, 0.3, 1.0]))
def test_subgradient_descent_keeps_to_the_bound(factors, times, start):
    # on f(w) = |w|, whose subgradients have norm 1, from a distance of 1 at most
    t1, rest = by_the_formula(factors)
    peak = times * bound_of_factors(factors).peak
    weight = start
    for factor in factors[:-1]:
        weight -= peak * factor * math.copysign(1.0, weight)
    bound = t1 / peak + peak * rest
    assert abs(weight) <= bound * (1 + 1e-9)
    assert bound >= bound_of_factors(factors).value * (1 - 1e-9)


@given(FACTORS, FACTORS)
def test_a_transfer_there_and_back(one, other):
    horizon = Horizon(min(len(one), len(other)))
    a, b = (lambda step, _: one[step]), (lambda step, _: other[step])
    assert transfer(a, a, horizon) == 1
    assert transfer(a, b, horizon) * transfer(b, a, horizon) == pytest.approx(1)


# --- long runs


def off(schedule: ScheduleLike, horizon: Horizon) -> float:
    """By which share the bound is off the exact one at most."""
    exact, found = bound_of_factors(table(schedule, horizon)), convex_bound(schedule, horizon)
    return max(abs(found.peak / exact.peak - 1), abs(found.value / exact.value - 1))


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_long_run_is_thinned_within_the_stated_error(name):
    assert off(CATALOGUE[name], Horizon(10_000, 100)) < 1e-4


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_million_steps_are_thinned_within_the_stated_error(name):
    assert off(CATALOGUE[name], Horizon(1_000_000, 10_000)) < 1e-4


@pytest.mark.parametrize(
    ("schedule", "most"),
    [
        (Linear(), 2_000),
        (Cosine(), 2_000),
        (WarmupStableDecay(warmup="1%", decay="20%"), 2_000),
        (CosineRestarts(period="10%"), 3_000),
    ],
    ids=["linear", "cosine", "stable", "restarts"],
)
def test_a_million_steps_are_not_all_looked_at(schedule, most):
    asked = []

    def counted(step, horizon):
        asked.append(step)
        return schedule(step, horizon)

    plain = convex_bound(counted, Horizon(1_000_000))
    assert len(asked) < most
    assert plain == (
        pytest.approx(convex_bound(schedule, Horizon(1_000_000)).peak, rel=1e-4),
        pytest.approx(plain.value),
    )


def test_a_restless_schedule_is_looked_at_whole():
    assert off(lambda step, horizon: 0.6 + 0.4 * math.sin(step), Horizon(20_000)) < 1e-12
    assert len(pieces_of(lambda step: 1.0 + step % 2, 50_000).steps) == 50_000


@given(st.integers(5_000, 100_000), st.data())
def test_a_jump_at_any_step_is_found(steps, data):
    place = data.draw(st.integers(1, steps - 1))
    found = pieces_of(lambda step: 1.0 if step < place else 0.1, steps)
    assert {(place - 1, 1.0), (place, 0.1)} <= {*zip(*found, strict=True)}


def test_the_last_steps_of_a_cosine_of_torch_are_none():
    # torch's recursion leaves a rounding error in place of the 0 at its end
    factors = [(1 + math.cos(math.pi * step / 99)) / 2 for step in range(100)]
    almost = [*factors[:-1], 1e-17]
    assert bound_of_factors(almost) == bound_of_factors([*factors[:-1], 0.0])


# --- mistakes


def test_a_schedule_that_trains_nothing_has_no_bound():
    assert bound_of(Pieces([0, 1], [0.0, 0.0])) is None
    with pytest.raises(InputError, match="Constant is 0 at every step of 9, which trains nothing: give a schedule"):
        convex_bound(Constant(0.0), Horizon(9))


@pytest.mark.parametrize(
    ("schedule", "horizon", "told"),
    [
        ("Linear", Horizon(9), "schedule='Linear' is not a schedule"),
        (Linear(), 9, "horizon=9 is not a horizon"),
        (lambda step, horizon: -1.0, Horizon(9), "returned -1.0 at step 0"),
        (lambda step, horizon: math.nan, Horizon(9), "returned nan at step 0"),
    ],
)
def test_a_mistake_is_told(schedule, horizon, told):
    with pytest.raises(InputError, match=told):
        convex_bound(schedule, horizon)


# --- real runs


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the curves of real runs, and {DATA} is not there")
def test_the_ratio_of_best_peaks_holds_on_real_runs_as_stated():
    script = Path(__file__).parents[2] / "scripts" / "transfer_errors.py"
    out = subprocess.run([sys.executable, str(script), str(DATA)], capture_output=True, text=True, check=True).stdout
    assert "Linear cooldowns of 10 to 40 %: off by at most 10.5 % between any two." in out
    errors = [int(row.split("|")[-2].removesuffix("% ")) for row in out.splitlines() if row.endswith("% |")]
    assert max(errors) == 36
    documented = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
    assert [row for row in out.splitlines() if row.startswith("|") and row not in documented] == []
