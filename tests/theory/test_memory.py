"""Update memory: against products multiplied out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Constant, Horizon, InputError, Linear, table
from lit_lrsched.theory import update_memory
from tests.catalogue import CATALOGUE

FACTORS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).filter(lambda factors: max(factors) > 1e-3)


def multiplied_out(rates: list[float], decay: float) -> tuple[list[float], float]:
    """The weight of every update, and that of the initial weights: by training."""
    weights, initial = [], 1.0
    for rate in rates:
        weights = [(1 - rate * decay) * weight for weight in weights] + [rate]
        initial *= 1 - rate * decay
    return weights, initial


@given(FACTORS, st.floats(1e-4, 1.0), st.just(0.0) | st.floats(1e-6, 0.9))
def test_weights_are_the_products(factors, lr, decay):
    memory = update_memory(lambda step, _: factors[step], Horizon(len(factors)), lr, decay)
    weights, initial = multiplied_out([lr * factor for factor in factors], decay)
    tenth = max(1, len(factors) // 10)
    assert memory.steps == [*range(len(factors))]
    assert memory.weights == pytest.approx(weights)
    assert memory.initial == pytest.approx(initial)
    assert memory.last_tenth == pytest.approx(sum(weights[-tenth:]) / sum(weights))
    assert memory.effective == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
    assert 0 <= memory.last_tenth <= 1 + 1e-9
    assert memory.effective <= len(factors) * (1 + 1e-9)


@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize(
    "name", ["Constant", "Linear", "Cosine over", "Step", "WarmupStableDecay", "OneCycle", "Chain"]
)
def test_a_long_run_is_thinned_within_the_stated_error(name, decay):
    horizon = Horizon(20_000, 200)
    memory = update_memory(CATALOGUE[name], horizon, 0.1, decay)
    rates = [0.1 * factor for factor in table(CATALOGUE[name], horizon)]
    left, weights = 1.0, []
    for rate in reversed(rates):
        weights.append(rate * left)
        left *= 1 - rate * decay
    weights.reverse()
    assert len(memory.steps) < 4_000
    for step, weight in zip(memory.steps, memory.weights, strict=True):
        assert weight == pytest.approx(weights[step], rel=1e-3, abs=1e-12)
    assert memory.last_tenth == pytest.approx(sum(weights[-2000:]) / sum(weights), rel=1e-3)
    assert memory.effective == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights), rel=1e-3)
    assert memory.initial == pytest.approx(left, rel=1e-3)


def test_equal_updates_count_alike_without_decay():
    memory = update_memory(Constant(), Horizon(200), lr=0.1, weight_decay=0.0)
    assert memory.weights == [0.1] * 200
    assert (memory.last_tenth, memory.effective) == (pytest.approx(0.1), pytest.approx(200))
    assert (memory.initial, memory.timescale, memory.warning) == (1.0, math.inf, None)


def test_a_line_forgets_less_of_the_beginning_than_a_constant_rate():
    # of 100 steps with rates 1, 0.99, ..., 0.01 the last ten sum up to 0.55 of 50.5
    memory = update_memory(Linear(), Horizon(100), lr=1.0, weight_decay=0.0)
    assert memory.last_tenth == pytest.approx(0.55 / 50.5)


def test_a_timescale_beyond_the_run_is_a_warning():
    short = update_memory(Constant(), Horizon(1000), lr=0.001, weight_decay=0.1)
    assert short.timescale == pytest.approx(10_000)
    # (1 - 0.0001) ** 1000 = 0.905
    assert "over 1 / (lr x weight_decay) = 10,000 steps, longer than the run of 1,000" in short.warning
    assert "90 % of the initial weights stay" in short.warning
    assert update_memory(Constant(), Horizon(10_000), lr=0.001, weight_decay=0.1).warning is None
    # the highest rate counts, not the one that the schedule multiplies
    assert update_memory(Constant(0.5), Horizon(10_000), lr=0.001, weight_decay=0.1).timescale == pytest.approx(20_000)


@pytest.mark.parametrize(
    ("schedule", "lr", "decay", "told"),
    [
        (Linear(), 0.0, 0.1, "lr=0.0 has to be a finite number above 0"),
        (Linear(), 0.1, -0.1, "weight_decay=-0.1 has to be a finite number of at least 0"),
        (Linear(), 2.0, 0.5, "their product has to be below 1"),
        (Constant(0.0), 0.1, 0.1, "0 at every step"),
    ],
)
def test_a_mistake_is_told(schedule, lr, decay, told):
    with pytest.raises(InputError, match=told):
        update_memory(schedule, Horizon(9), lr, decay)
