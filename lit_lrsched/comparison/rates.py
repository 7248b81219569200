"""The rates of a setting at every step: each schedule is asked once, whatever the number of rates and seeds."""

from __future__ import annotations

import math
import warnings

import numpy as np
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.comparison.engine.training import FloatArray
from lit_lrsched.optim.param_groups import QUANTITIES, group_values
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import Horizon, Interval, Schedule, stride_of, table


class RateTables:
    """What schedulers set every param group to at each step of a run.

    A schedule is tabulated once, and every setting multiplies the same factors. A scheduler of torch's is stepped once
    a setting: its rates need not be in proportion to the peak, as with ``eta_min``.

    Args:
        horizon: How long the run lasts.

    >>> import torch
    >>> from lit_lrsched import Linear
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    >>> tables, horizon = RateTables(Horizon(4, 2)), Horizon(4, 2)
    >>> for interval in ("step", "epoch"):
    ...     rates, momenta, weight_decays = tables.of(ScheduledLR(optimizer, Linear(), horizon, interval), interval)
    ...     print(rates[:, 0].round(3), momenta[:, 0])
    [0.1   0.075 0.05  0.025] [0.9 0.9 0.9 0.9]
    [0.1  0.1  0.05 0.05] [0.9 0.9 0.9 0.9]
    """

    def __init__(self, horizon: Horizon) -> None:
        self._horizon = horizon
        self._factors: dict[tuple[Schedule | int, Interval], FloatArray] = {}
        self._unhashable: list[Schedule] = []  # kept, so that no other takes the id of one

    def of(self, scheduler: LRScheduler, interval: Interval) -> list[FloatArray]:
        """Returns the rates, the momenta and the weight decays of a run, ``[steps, groups]`` each; 0 for none.

        Args:
            scheduler: The scheduler, on an optimizer that trains nothing: one of torch's is stepped to the end.
            interval: When the scheduler is stepped.
        """
        stride = stride_of(interval, self._horizon)
        ticks = math.ceil(self._horizon.steps / stride)
        values = group_values([scheduler.optimizer])
        found = np.zeros((len(QUANTITIES), ticks, len(scheduler.optimizer.param_groups)))
        for value in values:  # what no schedule drives stays
            found[QUANTITIES.index(value.quantity), :, value.group_number] = value.read()
        if isinstance(scheduler, ScheduledLR):
            for one in scheduler.group_schedules:
                factors = self._factors_of(one.schedule, interval)
                for group, quantity, base in one.values:
                    found[QUANTITIES.index(quantity), :, group] = base * factors
        elif not isinstance(scheduler, ReduceLROnPlateau):
            places = [(QUANTITIES.index(value.quantity), value.group_number, value.read) for value in values]
            with warnings.catch_warnings():
                # There is no optimizer step to come first, and composites step their parts in a way torch deprecates.
                warnings.simplefilter("ignore", UserWarning)
                for tick in range(1, ticks):
                    scheduler.step()
                    for quantity_number, group, read in places:
                        found[quantity_number, tick, group] = read()
        return [np.repeat(values_of_ticks, stride, axis=0)[: self._horizon.steps] for values_of_ticks in found]

    def _factors_of(self, schedule: Schedule, interval: Interval) -> FloatArray:
        try:
            hash(schedule)
        except TypeError:
            self._unhashable.append(schedule)
            key: Schedule | int = id(schedule)
        else:
            key = schedule  # equal schedules are equal functions
        if (key, interval) not in self._factors:
            self._factors[key, interval] = np.array(table(schedule, self._horizon, interval))
        return self._factors[key, interval]
