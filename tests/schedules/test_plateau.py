"""Plateau: exactly torch's ReduceLROnPlateau, and what it refuses."""

import math
import random
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, table
from lit_lrsched.schedules.plateau import Plateau, PlateauState
from lit_lrsched.schedules.recipes import WarmupLinear
from lit_lrsched.schedules.shapes import Constant


def random_trace(rng: random.Random) -> list[float]:
    """A metric that wanders, stalls for whole stretches, and now and then is no number."""
    value, trace = rng.uniform(-2, 2), []
    for _ in range(rng.randint(1, 60)):
        kind = rng.random()
        if kind < 0.6:
            value += rng.gauss(0, 0.3)
        elif kind < 0.7:
            value *= 1 - rng.choice([1e-5, 1e-4, 1e-3])
        trace.append(rng.choice([math.nan, math.inf, -math.inf]) if kind > 0.98 else value)
    return trace


def test_equal_to_torch_on_random_traces() -> None:
    rng = random.Random("plateau")
    reductions = 0
    for _ in range(1000):
        options = {
            "mode": rng.choice(["min", "max"]),
            "factor": rng.uniform(0.05, 0.95),
            "patience": rng.randint(0, 5),
            "threshold": rng.choice([0.0, 1e-4, 0.01, 0.3, 1.0]),
            "threshold_mode": rng.choice(["rel", "abs"]),
            "cooldown": rng.randint(0, 4),
        }
        least = rng.choice([0.0, rng.uniform(0, 0.5), 1.0])
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = ReduceLROnPlateau(optimizer, min_lr=least, eps=0.0, **options)
        ours = Plateau(min_factor=least, **options)  # type: ignore[arg-type]
        state = ours.start()
        for metric in random_trace(rng):
            theirs.step(metric)
            state = ours.update(state, metric)
            assert state.factor == optimizer.param_groups[0]["lr"]
            assert state.best == theirs.best
            assert (state.bad, state.cooldown) == (theirs.num_bad_epochs, theirs.cooldown_counter)
        reductions += state.factor < 1
    assert reductions > 300  # the traces do stall


def test_golden() -> None:
    # patience 1: two bad values in a row halve; then one is ignored; the floor stops the third reduction at 0.2
    plateau = Plateau(
        mode="max", factor=0.5, patience=1, threshold=0.1, threshold_mode="abs", cooldown=1, min_factor=0.2
    )
    state, seen = plateau.start(), []
    for metric in (0.5, 0.55, 0.56, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        state = plateau.update(state, metric)
        seen.append((state.factor, state.bad, state.cooldown))
    assert seen == [
        (1.0, 0, 0),  # 0.5 is the first, so the best
        (1.0, 1, 0),  # 0.55 is not above 0.5 + 0.1
        (0.5, 0, 1),  # nor is 0.56: a second bad one
        (0.5, 0, 0),  # ignored: cooldown
        (0.5, 1, 0),
        (0.25, 0, 1),
        (0.25, 0, 0),  # better, during the cooldown
        (0.25, 1, 0),
        (0.2, 0, 1),  # 0.125 is below the floor
        (0.2, 0, 0),
        (0.2, 1, 0),
        (0.2, 0, 1),
    ]
    assert state.best == 0.9


def test_update_is_pure_and_the_state_is_plain() -> None:
    plateau = Plateau(patience=0)
    before = PlateauState(factor=1.0, best=0.5, bad=0, cooldown=0)
    assert plateau.update(before, 0.6) == plateau.update(before, 0.6) == PlateauState(0.1, 0.5, 0, 0)
    assert before == PlateauState(1.0, 0.5, 0, 0)
    with pytest.raises(FrozenInstanceError):
        before.bad = 3  # type: ignore[misc]
    assert all(type(value) in (int, float) for value in vars(plateau.update(before, 0.6)).values())


def test_numbers_of_torch_and_numpy_are_stored_as_floats() -> None:
    plateau = Plateau(factor=np.float64(0.5), patience=0)
    state = plateau.update(plateau.update(plateau.start(), torch.tensor(0.25)), 1.0)  # type: ignore[arg-type]
    assert (type(state.best), type(state.factor)) == (float, float)


def test_as_a_function_it_is_the_wrapped_schedule() -> None:
    horizon = Horizon(30, 5)
    assert table(Plateau(), horizon) == [1.0] * 30
    assert table(Plateau(WarmupLinear("1ep")), horizon) == table(WarmupLinear("1ep"), horizon)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "minn"}, r"mode='minn' is unknown \(did you mean 'min'\?\): write 'min' or 'max'"),
        ({"threshold_mode": "relative"}, "threshold_mode='relative' is unknown"),
        ({"factor": 1.0}, r"factor=1\.0 reduces nothing: give one below 1"),
        ({"factor": 0.0}, r"factor=0\.0 has to be a finite number above 0"),
        ({"patience": -1}, "patience=-1 has to be a whole number of at least 0"),
        ({"patience": 1.5}, r"patience=1\.5 has to be a whole number"),
        ({"cooldown": -1}, "cooldown=-1 has to be a whole number"),
        ({"threshold": -1e-4}, r"threshold=-0\.0001 has to be a finite number of at least 0"),
        ({"min_factor": 2.0}, r"min_factor=2\.0 is above the 1"),
        ({"monitor": ""}, "monitor='' names no metric"),
        ({"schedule": Constant}, r"is not a schedule: write Constant\(\.\.\.\)"),
        ({"schedule": Plateau()}, "Plateau follows a metric, which only the outermost schedule can"),
    ],
)
def test_refused_at_construction(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plateau(**options)  # type: ignore[arg-type]
