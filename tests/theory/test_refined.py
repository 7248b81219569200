"""Refined schedules: against their formula, and on their way into a configuration."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Horizon, InputError, Linear, Piecewise, table
from lit_lrsched.class_paths import from_plain
from lit_lrsched.theory import refined
from lit_lrsched.theory.refined import as_yaml

NORMS = st.lists(st.floats(0.1, 10.0), min_size=2, max_size=60)


@pytest.mark.parametrize("count", [2, 10, 999, 2500])
def test_equal_norms_ask_for_a_line_to_zero(count):
    horizon = Horizon(50)
    assert table(refined([0.3] * count), horizon) == pytest.approx(table(Linear(), horizon))


@given(NORMS)
def test_without_smoothing_it_is_the_formula(norms):
    # of as many steps as norms; the sum over s > t goes on to the end of the run, with the last norm there
    weights = [norm**-2 for norm in [*norms, norms[-1]]]
    factors = [weights[t] * sum(weights[t + 1 :]) for t in range(len(norms))]
    found = table(refined(norms, smoothing=1e-9), Horizon(len(norms)))
    assert found == pytest.approx([factor / max(factors) for factor in factors], abs=0.003)


@given(NORMS, st.floats(0.01, 0.9))
def test_factors_rise_to_one_and_end_at_zero(norms, smoothing):
    points = refined(norms, smoothing).points
    factors = [factor for _, factor in points]
    assert max(factors) == pytest.approx(1)
    assert min(factors) >= 0
    assert points[-1] == ("100%", 0.0)
    assert points[0][0] == "0%"


def test_large_gradients_at_the_beginning_ask_for_a_warmup_and_a_spike_for_nothing():
    norms = [1 + 4 * math.exp(-step / 20) for step in range(1000)]
    factors = table(refined(norms), Horizon(1000))
    assert factors[0] < 0.25 < 0.8 < factors[150] <= 1
    spiked = [*norms]
    spiked[500] = 1e6
    assert table(refined(spiked), Horizon(1000)) == pytest.approx(factors, abs=0.01)
    assert len(refined(norms).points) < 60


@pytest.mark.parametrize("kind", [np.float32, np.int64, torch.tensor])
def test_norms_may_be_numbers_of_numpy_and_torch(kind):
    found = refined([kind(norm) for norm in (4, 2, 1)])
    assert found == refined([4.0, 2.0, 1.0])
    assert {type(factor) for _, factor in found.points} == {float}


def test_it_goes_into_a_configuration(command):
    schedule = refined([3.0, 2.0, 1.0, 1.0, 1.5], smoothing=0.1)
    text = as_yaml(schedule)
    assert from_plain(yaml.safe_load(text)["lr_scheduler"]) == schedule
    assert isinstance(schedule, Piecewise)
    Path("refined.yaml").write_text(text)
    assert command("preview", "--epochs=5", "--steps_per_epoch=10", "--config=refined.yaml", "--png=null") == 0
    assert "50 steps, 5 epochs of 10" in command.out
    assert "failure" not in command.out


@pytest.mark.parametrize(
    ("norms", "smoothing", "told"),
    [
        ([1.0], 0.1, "too few"),
        ([1.0, 0.0], 0.1, r"norms\[1\]=0.0 has to be a finite number above 0: leave such steps out"),
        ([1.0, math.nan], 0.1, r"norms\[1\]=nan"),
        ([1.0, "x"], 0.1, r"norms\[1\]='x'"),
        ([1.0, [2.0]], 0.1, r"norms\[1\]=\[2.0\]"),
        ([1.0, 1.0], 0.0, "smoothing=0.0 has to be a finite number above 0"),
        ([1.0, 1.0], 1.5, "smoothing=1.5 is a share of the run"),
    ],
)
def test_a_mistake_is_told(norms, smoothing, told):
    with pytest.raises(InputError, match=told):
        refined(norms, smoothing)
