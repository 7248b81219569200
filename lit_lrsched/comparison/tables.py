"""What a schedule sets every param group to at every optimizer step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.comparison.engine.training import FloatArray
from lit_lrsched.optim.param_groups import QUANTITIES, group_values
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import Horizon, Interval, stride_of


def tables(scheduler: LRScheduler, horizon: Horizon, interval: Interval) -> list[FloatArray]:
    """Returns the rates, the momenta and the weight decays of a run, ``[steps, groups]`` each; 0 where there are none.

    Args:
        scheduler: The scheduler, on an optimizer that trains nothing: it may be stepped through the whole run.
        horizon: The length of the run.
        interval: When the scheduler is stepped.
    """
    values = group_values([scheduler.optimizer])
    stride = stride_of(interval, horizon)
    ticks = math.ceil(horizon.steps / stride)
    found = np.zeros((len(QUANTITIES), ticks, len(scheduler.optimizer.param_groups)))
    for value in values:  # what no schedule drives stays
        found[QUANTITIES.index(value.quantity), :, value.group_number] = value.read()
    if isinstance(scheduler, ScheduledLR):
        for tick in range(ticks):
            for group, planned in enumerate(scheduler.planned(tick)):
                for quantity, number in planned.items():
                    found[QUANTITIES.index(quantity), tick, group] = number
    elif not isinstance(scheduler, ReduceLROnPlateau):
        places = [(QUANTITIES.index(value.quantity), value.group_number, value.read) for value in values]
        _step_through(scheduler, found, places)
    return [np.repeat(table, stride, axis=0)[: horizon.steps] for table in found]


def _step_through(
    scheduler: LRScheduler, found: FloatArray, places: Sequence[tuple[int, int, Callable[[], float]]]
) -> None:
    for tick in range(found.shape[1]):
        if tick > 0:
            with warnings.catch_warnings():
                # There is no optimizer step to come first, and composites step their parts in a way torch deprecates.
                warnings.simplefilter("ignore", UserWarning)
                scheduler.step()
        for quantity, group, read in places:
            found[quantity, tick, group] = read()
