"""Logged runs: what is put right, and what is refused in a line."""

from __future__ import annotations

import numpy as np
import pytest

from lit_lrsched import InputError, LoggedRun, forecast

RATES = np.full(100, 0.1)
FALLING = np.linspace(3.0, 2.0, 10)


def test_rows_are_sorted_and_counted():
    run = LoggedRun([30, 10, 20, 20, 40, 0], [1.0, 3.0, 9.0, 2.0, 0.9, 5.0], RATES)
    assert run.steps.tolist() == [10, 20, 30, 40]
    assert run.losses.tolist() == [3.0, 2.0, 1.0, 0.9]  # of two rows of step 20 the last
    assert run.left_out == 2


def test_a_gap_of_nan_is_left_out():
    run = LoggedRun([10, 20, 30], [3.0, np.nan, 2.0], RATES)
    assert (run.steps.tolist(), run.left_out) == ([10, 30], 1)


@pytest.mark.parametrize(
    ("steps", "losses", "rates", "message"),
    [
        ([1, 2], [1.0], RATES, "has 2 steps and 1 losses"),
        ([1, 2], [np.nan, np.nan], RATES, "has no finite loss"),
        ([10, 20], [3.0, np.inf], RATES, "diverged: its loss is not finite after step 10"),
        ([10, 200], [3.0, 2.0], RATES, "has a loss after step 200 and rates for 100 steps"),
        (range(10, 110, 10), FALLING[::-1], RATES, "the losses of a run rise, from 2.056 to 2.944"),
        (range(10, 110, 10), FALLING[::-1] ** 4, RATES, "diverged: its loss rises"),
        ([10, 20], [1.0, -1.0], RATES, "has the loss -1"),
        ([10, 20], [3.0, 2.0], [0.1, np.nan], "rates have to be finite"),
        ([10, 20], [3.0, 2.0], [0.0, 0.0], "rates have to be finite"),
    ],
)
def test_what_tells_nothing_is_refused(steps, losses, rates, message):
    with pytest.raises(InputError, match=message):
        LoggedRun(list(steps), losses, rates)


def test_too_few_runs_are_refused():
    run = LoggedRun(range(10, 110, 10), FALLING, RATES, name="base")
    falling = LoggedRun(range(10, 110, 10), FALLING, 0.1 * np.linspace(1, 0, 100))
    with pytest.raises(InputError, match="base is a single run of a constant rate"):
        forecast([run])
    with pytest.raises(InputError, match="1 run is given: at least two are needed"):
        forecast(falling)
    with pytest.raises(InputError, match="all 2 runs have the same constant rate"):
        forecast([run, run])
    with pytest.raises(InputError, match="is not a run: give paths, or LoggedRun"):
        forecast([run, 3])
