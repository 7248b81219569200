"""What holds for every schedule, whatever its parameters and horizon."""

import copy
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_lrsched.schedules.compose import Chain, Phase, Repeat
from lit_lrsched.schedules.core import Horizon, Schedule, table
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Polynomial, Rex
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.schedules.recipes import CosineRestarts
from lit_lrsched.schedules.shapes import Exponential, InverseSqrt, InverseTime, MultiStep, Piecewise, Step, Triangle
from tests.catalogue import CATALOGUE

repeatable = settings(derandomize=True, deadline=None, max_examples=50)
HORIZONS = st.builds(Horizon, st.integers(20, 200), st.integers(4, 11))
FACTORS = st.floats(0, 10)
LENGTHS = st.one_of(
    st.integers(1, 300).map(lambda value: f"{value}st"),
    st.floats(0.01, 40).map(lambda value: f"{value:.2f}ep"),
    st.integers(1, 150).map(lambda value: f"{value}%"),
)
every_schedule = pytest.mark.parametrize("name", CATALOGUE)
composable = [name for name, one in CATALOGUE.items() if not (isinstance(one, Plateau) or one.companions())]


@every_schedule
@repeatable
@given(horizon=HORIZONS)
def test_finite_and_within_the_peak(name: str, horizon: Horizon) -> None:
    for interval in ("step", "epoch"):
        factors = table(CATALOGUE[name], horizon, interval)
        assert all(type(factor) is float and 0.0 <= factor <= 1.0 for factor in factors)


@every_schedule
@repeatable
@given(horizon=HORIZONS, other=HORIZONS)
def test_pure(name: str, horizon: Horizon, other: Horizon) -> None:
    schedule, fresh = CATALOGUE[name], copy.deepcopy(CATALOGUE[name])
    steps = range(horizon.steps + 5)
    forwards = [schedule(step, horizon) for step in steps]
    table(schedule, other)
    assert [schedule(step, horizon) for step in reversed(steps)] == forwards[::-1]
    assert [fresh(step, Horizon(horizon.steps, horizon.steps_per_epoch)) for step in steps] == forwards


@every_schedule
def test_a_value_like_any_other(name: str) -> None:
    schedule, horizon = CATALOGUE[name], Horizon(50, 5)
    untouched = copy.deepcopy(schedule)
    table(schedule, horizon)  # remembering a horizon shows nowhere
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule == untouched
    assert hash(again) == hash(schedule) == hash(untouched)
    assert repr(again) == repr(schedule) == repr(untouched)
    assert table(again, horizon) == table(schedule, horizon)


@pytest.mark.parametrize("name", composable)
@repeatable
@given(horizon=HORIZONS)
def test_a_chain_of_one_phase_is_the_phase(name: str, horizon: Horizon) -> None:
    schedule = CATALOGUE[name]
    for chain in (Chain([Phase(schedule)]), Chain([Phase(schedule, "100%")]), Chain([Phase(Chain([Phase(schedule)]))])):
        # up to the very end, and from there on the end is held
        for step in range(horizon.steps + 1):
            assert chain(step, horizon) == schedule(step, horizon)
        assert chain(horizon.steps + 9, horizon) == schedule(horizon.steps, horizon)


@every_schedule
@repeatable
@given(horizon=HORIZONS)
def test_spans_cover_the_horizon_in_order(name: str, horizon: Horizon) -> None:
    found = CATALOGUE[name].spans(horizon)
    assert [span.start for span in found] == [0, *(span.stop for span in found[:-1])]
    assert found[-1].stop == horizon.steps
    assert all(span.start < span.stop and span.name for span in found)


def decays(start: float, end: float, over: str | None, power: float) -> list[Schedule]:
    return [
        Linear(start, end, over),
        Cosine(start, end, over),
        Polynomial(power, start, end, over),
        OneMinusSqrt(start, end, over),
        Rex(start, end, over),
    ]


@repeatable
@given(HORIZONS, FACTORS, FACTORS, st.none() | LENGTHS, st.floats(0.1, 8))
def test_decays_go_from_start_to_end_and_stay(
    horizon: Horizon, start: float, end: float, over: str | None, power: float
) -> None:
    for schedule in decays(start, end, over, power):
        long = Horizon(10_000, horizon.steps_per_epoch) if over and "%" not in over else horizon
        factors = [schedule(step, long) for step in range(500)]
        low, high = min(start, end), max(start, end)
        slack = 1e-15 * high
        assert all(low - slack <= factor <= high + slack for factor in factors)
        direction = 1 if end >= start else -1
        assert all(direction * (b - a) >= -slack for a, b in pairwise(factors))
        assert factors[-1] == schedule(10**9, long) == end  # no length here is above 440 steps
        first = next((span for span in schedule.spans(long) if span.name != "held"), None)
        assert factors[0] == (start if first else end)


@repeatable
@given(HORIZONS, FACTORS, FACTORS, st.none() | LENGTHS, st.floats(0.1, 8))
def test_decays_are_their_formulas(horizon: Horizon, start: float, end: float, over: str | None, power: float) -> None:
    formulas: list[Callable[[float], float]] = [
        lambda u: 1 - u,
        lambda u: (1 + math.cos(math.pi * u)) / 2,
        lambda u: (1 - u) ** power,
        lambda u: 1 - math.sqrt(u),
        lambda u: (1 - u) / (1 - u / 2),
    ]
    value = float(over.rstrip("%epst")) if over else 100.0
    scale = {None: horizon.steps / 100, "%": horizon.steps / 100, "p": horizon.steps_per_epoch, "t": 1}[
        over and over[-1]
    ]
    length = math.floor(value * scale + 0.5)
    length = max(1, length) if over and over[-1] != "%" else length
    for schedule, formula in zip(decays(start, end, over, power), formulas, strict=True):
        for step in range(0, 2 * horizon.steps, 7):
            u = min(step / length, 1) if length else 1.0
            assert schedule(step, horizon) == pytest.approx(end + (start - end) * formula(u), rel=1e-12, abs=1e-14)


@repeatable
@given(HORIZONS, st.floats(0.01, 1), st.integers(1, 60), st.floats(0, 3), FACTORS)
def test_rates_fall_and_stay_above_their_floor(
    horizon: Horizon, gamma: float, every: int, alpha: float, end: float
) -> None:
    period, floor = f"{every}st", min(end, 1.0)
    for schedule in (
        Exponential(gamma, period),
        Step(period, gamma),
        MultiStep([period, f"{every + 3}st"], gamma),
        InverseTime(alpha, period),
        InverseSqrt(period, floor),
    ):
        factors = table(schedule, horizon)
        assert factors[0] == 1.0
        assert all(later <= earlier for earlier, later in pairwise(factors))
        assert factors[-1] >= (floor if isinstance(schedule, InverseSqrt) else 0.0)
    # a period later the ratio is gamma, exactly so on a staircase
    for t in range(0, horizon.steps, 5):
        assert Exponential(gamma, period)(t + every, horizon) == pytest.approx(
            gamma * Exponential(gamma, period)(t, horizon)
        )
        assert Step(period, gamma)(t + every, horizon) == pytest.approx(gamma * Step(period, gamma)(t, horizon))


@repeatable
@given(HORIZONS, st.integers(1, 60), FACTORS, FACTORS, st.floats(0.1, 1))
def test_cycles(horizon: Horizon, period: int, low: float, high: float, shrink: float) -> None:
    triangle, slack = Triangle(f"{period}st", low, high, shrink), 1e-14 * max(low, high)
    for t in range(horizon.steps):
        cycle, v = divmod(t, period)
        expected = low + (high - low) * shrink**cycle * (1 - abs(2 * v / period - 1))
        assert triangle(t, horizon) == pytest.approx(expected, rel=1e-12, abs=slack)
        # up and down alike
        assert triangle(cycle * period + (period - v) % period, horizon) == triangle(t, horizon)
    repeat = Repeat(Linear(high, low), f"{period}st", shrink)
    restarts = CosineRestarts(f"{period}st")
    for t in range(horizon.steps):
        cycle, v = divmod(t, period)
        assert repeat(t, horizon) == shrink**cycle * Linear(high, low)(v, Horizon(period))
        assert restarts(t, horizon) == Cosine()(v, Horizon(period))


@repeatable
@given(
    HORIZONS,
    st.lists(st.tuples(st.integers(0, 200), FACTORS), min_size=1, max_size=6, unique_by=lambda point: point[0]).map(
        sorted
    ),
)
def test_piecewise_passes_through_its_points(horizon: Horizon, points: list[tuple[int, float]]) -> None:
    schedule = Piecewise([(f"{time}st", factor) for time, factor in points])
    for time, factor in points:
        assert schedule(time, horizon) == factor
    factors = [schedule(step, horizon) for step in range(250)]
    assert factors[: points[0][0]] == [points[0][1]] * points[0][0]
    assert set(factors[points[-1][0] :]) == {points[-1][1]}
    for (a, f), (b, g) in pairwise(points):
        for t in range(a, b):
            assert factors[t] == pytest.approx(f + (g - f) * (t - a) / (b - a), rel=1e-12, abs=1e-13)


def test_the_schedules_need_the_standard_library_alone() -> None:
    code = """
import sys
before = set(sys.modules)
from lit_lrsched.schedules import *
table(WarmupCosine("10%"), Horizon(100))
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded - set(sys.stdlib_module_names)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['lit_lrsched']"
