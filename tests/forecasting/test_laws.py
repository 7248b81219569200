"""The laws against their formulas, summed step by step; and the sums in blocks against those of every step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Horizon, Triangle, table
from lit_lrsched.forecasting.fitting import FittedLaw
from lit_lrsched.forecasting.laws import BASELINE, LAWS, Annealing, MultiPower, Points, Units
from lit_lrsched.forecasting.rate_path import RatePath
from lit_lrsched.forecasting.schedule_paths import path_of

UNITS = Units(rate=1e-3, steps=1000.0, loss=3.0)


def by_hand(law: str, values: list[float], rates: np.ndarray, count: int) -> float:
    """The formula as the paper has it, a step at a time."""
    rates, steps = rates[:count] / UNITS.rate, 1 / UNITS.steps
    before = np.concatenate([[0.0], rates[:-1]])
    level, size, alpha, gain, *rest = values
    total = 0.0
    for k in range(count):
        drop, since = before[k] - rates[k], rates[k:].sum() * steps
        if law == "multi-power":
            reach, beta, gamma = rest
            total += drop * (1 - (1 + reach * rates[k] ** -gamma * since) ** -beta) if rates[k] > 0 else 0.0
        else:
            total += drop * (1 - np.exp(-(count - k) * steps / rest[0]))
    return UNITS.loss * (level + size * (rates.sum() * steps) ** -alpha - gain * total)


SHAPES = {
    "constant": lambda u: np.ones_like(u),
    "cosine": lambda u: 0.1 + 0.45 * (1 + np.cos(np.pi * u)),
    "cooldown to 0": lambda u: np.minimum(1.0, (1 - u) / 0.2),
    "drop": lambda u: np.where(u < 0.6, 1.0, 0.2),
}


def rates_of(shape: str, length: int = 1000, peak: float = 1e-3) -> np.ndarray:
    u = np.clip((np.arange(length) - 40) / (length - 40), 0, 1)
    return peak * np.minimum((np.arange(length) + 1) / 40, 1.0) * SHAPES[shape](u)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("law", "values"),
    [(MultiPower(), [0.8, 0.1, 0.5, 0.05, 500.0, 0.5, 0.6]), (Annealing(), [0.8, 0.1, 0.5, 0.05, 0.02])],
)
def test_a_law_is_its_formula(shape, law, values):
    rates = rates_of(shape)
    counts = np.array([100, 400, 700, 1000])
    found = FittedLaw(law, np.log(values), UNITS).losses(RatePath.of(rates), counts)
    expected = [by_hand(law.name, values, rates, count) for count in counts]
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_fall_over_a_doubling_is_that_of_the_loss():
    fitted = FittedLaw(BASELINE, np.log([0.8, 0.1, 0.5]), UNITS)
    path = RatePath.of(rates_of("constant"))
    before, after = np.log(fitted.losses(path, np.array([499, 501])))
    falls = fitted.falls(Points.of(path, np.array([500]), UNITS))
    assert falls == pytest.approx((before - after) / np.log2(501 / 499), rel=1e-4)


def test_two_steps_worked_out():
    # Rates 1 and 1/2 (in units), steps of 1/1000: S = 1.5e-3; the rise -1 at k = 0 and the drop 1/2 at k = 1.
    # With C = 1000, beta = gamma = 1: G_0 = 1 - 1/2.5 = 0.6; G_1: x = 1000 * 2 * 0.0005 = 1, G_1 = 0.5.
    # L / 3 = 0.5 + 0.1 * (1.5e-3)**-0.5 - 0.2 * (-1 * 0.6 + 0.5 * 0.5) = 0.57 + 2.581988897...
    law = FittedLaw(MultiPower(), np.log([0.5, 0.1, 0.5, 0.2, 1000.0, 1.0, 1.0]), UNITS)
    assert law.losses(RatePath.of([1e-3, 5e-4]), np.array([2])) == pytest.approx([3 * (0.57 + 2.581988897)], rel=1e-9)


@pytest.mark.parametrize("law", [*LAWS, BASELINE])
def test_derivatives_are_those_of_the_losses(law):
    points = Points.of(RatePath.of(rates_of("cosine")), np.array([200.0, 1000.0]), UNITS)
    at = np.log([parameter.usual for parameter in law.parameters])
    _, slopes = law.losses(at, points)
    for place in range(len(at)):
        step = 1e-6 * np.eye(len(at))[place]
        numeric = (law.losses(at + step, points)[0] - law.losses(at - step, points)[0]) / 2e-6
        assert slopes[:, place] == pytest.approx(numeric, rel=1e-5, abs=1e-9)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=40), st.data())
def test_sums_of_a_path_are_those_of_its_rates(rates, data):
    path = RatePath.of(rates)
    count = data.draw(st.integers(0, len(rates)))
    assert float(path.sum_until(count)) == pytest.approx(sum(rates[:count]), abs=1e-9)
    if count:
        assert float(path.top_until(np.array([count]))[0]) == pytest.approx(max(rates[:count]))


def test_a_million_steps_are_a_few_hundred_numbers():
    path = RatePath.of(rates_of("cooldown to 0", length=1_000_000))
    points = Points.of(path, np.array([1_000_000.0]), UNITS)
    assert points.sums_since.shape[1] < 300
    assert len(path.steps) < 5000
    assert float(path.sum_until(1_000_000)) == pytest.approx(rates_of("cooldown to 0", 1_000_000).sum(), rel=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_path_keeps_its_jumps_and_its_sums(shape):
    rates = rates_of(shape, length=300_000)
    path = RatePath.of(rates)
    counts = np.array([20, 1000, 179_999, 180_001, 299_000, 300_000])
    assert path.sum_until(counts) == pytest.approx([rates[:count].sum() for count in counts], rel=1e-6)
    assert path.rate_at(counts - 1) == pytest.approx(rates[counts - 1], rel=1e-4, abs=1e-9)


def test_a_schedule_that_turns_too_often_is_sampled_alike_everywhere():
    horizon = Horizon(40_000)
    path = path_of(Triangle("50st"), horizon, lr=1.0)
    assert path.sum_until(horizon.steps) == pytest.approx(sum(table(Triangle("50st"), horizon)), rel=0.01)


@pytest.mark.parametrize("rates", [[1, 1], [0, 1], [0, 0, 1, 0], [0, 0, 0.5, 1]])
def test_a_path_begins_with_its_first_step(rates):
    path = RatePath.of(rates)
    assert path.begun == np.argmax(np.cumsum(rates) > 0) + 1
    assert path.sum_until(path.begun) > path.sum_until(path.begun - 1) == 0
