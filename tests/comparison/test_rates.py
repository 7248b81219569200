"""The rates of a race's settings, against schedulers that are stepped through a whole run."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, OneCycleLR

from lit_lrsched import Constant, FromTorch, Horizon, Linear, OneCycle, Plateau, ScheduledLR, WarmupCosine
from lit_lrsched.comparison.defaults import SCHEDULES
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.racing_optimizer import given
from lit_lrsched.comparison.rates import RateTables
from lit_lrsched.optim.param_groups import get_value
from lit_lrsched.schedules.core import Schedule

HORIZON = Horizon(23, 5)  # the last epoch is cut short
GROUPS = ({"lr": 0.3, "weight_decay": 0.01}, {"lr": 0.1, "momentum": 0.5})


def optimizer() -> torch.optim.Optimizer:
    groups = [{**group, "params": [torch.nn.Parameter(torch.zeros(1))]} for group in GROUPS]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def stepped(scheduler, interval) -> np.ndarray:
    """Steps a scheduler as a run would, and returns ``[3, steps, groups]``."""
    found = []
    for step in range(HORIZON.steps):
        if step and (interval == "step" or step % 5 == 0):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                scheduler.step()
        groups = scheduler.optimizer.param_groups
        found.append([[get_value(group, name) for group in groups] for name in ("lr", "momentum", "weight_decay")])
    return np.array(found).transpose(1, 0, 2)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "schedule",
    [
        Linear(),
        WarmupCosine("20%"),
        OneCycle(momentum=0.85),
        Plateau(Linear()),
        FromTorch("StepLR", {"step_size": 3}),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_tables_are_what_our_scheduler_sets_step_by_step(schedule, interval):
    found = RateTables(HORIZON).of(ScheduledLR(optimizer(), schedule, HORIZON, interval), interval)
    np.testing.assert_array_equal(
        np.array(found), stepped(ScheduledLR(optimizer(), schedule, HORIZON, interval), interval)
    )


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "make",
    [
        partial(ExponentialLR, gamma=0.9),
        partial(CosineAnnealingLR, T_max=30, eta_min=0.02),
        partial(OneCycleLR, max_lr=0.7, total_steps=40),
    ],
    ids=lambda make: make.func.__name__,
)
def test_tables_are_what_a_torch_scheduler_sets_step_by_step(make, interval):
    found = RateTables(HORIZON).of(make(optimizer()), interval)
    np.testing.assert_array_equal(np.array(found), stepped(make(optimizer()), interval))


class Counted(Schedule):
    """Counts how often it is asked for each step."""

    def __init__(self) -> None:
        self.asked: dict[int, int] = {}

    def __call__(self, step, horizon):
        self.asked[step] = self.asked.get(step, 0) + 1
        return 1 - step / horizon.steps


class CountedWithoutHash(Counted):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Counted, CountedWithoutHash])
def test_a_schedule_is_tabulated_once_whatever_the_settings_and_seeds(kind):
    horizon = Horizon(1_000, 10)

    def asked(lrs, seeds):
        schedule = kind()
        sgd = given(partial(torch.optim.SGD, lr=1.0, momentum=0.9), [torch.nn.Parameter(torch.zeros(1))])
        grid = Grid({"counted": schedule}, lrs, [0.0, 0.9], seeds, sgd)
        grid.trainings(grid.keys(), horizon)
        return list(schedule.asked.values())

    assert asked([0.1, 0.2, 0.3], range(5)).count(1) > 850  # the scheduler tries each setting at 101 of the steps


def test_runs_that_differ_in_their_seed_alone_share_their_tables():
    sgd = given(partial(torch.optim.SGD, lr=1.0, momentum=0.9), [torch.nn.Parameter(torch.zeros(1))])
    grid = Grid({"constant": Constant(), **SCHEDULES}, [0.1, 0.2], [None], [3, 4, 5], sgd, monitor="val_acc")
    trainings = grid.trainings(grid.keys(), HORIZON)
    assert [training.seed for training in trainings] == [3, 4, 5] * (len(trainings) // 3)
    assert len({id(training.rates) for training in trainings}) == len(trainings) // 3
    assert len({training.name for training in trainings}) == len(trainings) // 3
