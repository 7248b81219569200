"""Whether runs that train one by one use the learning rates of their schedules, or their module sets others itself."""

from __future__ import annotations

import dataclasses

import numpy as np

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.training import FloatArray
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon


def check_rates(grid: Grid, key: RunKey, used: FloatArray, horizon: Horizon) -> None:
    """Refuses a run whose rates are not those of its schedule.

    A module's own schedule is whatever the module does, and a metric-driven one depends on the run: these pass. So
    does a run that skipped steps, for which some schedules wait and some do not.

    Args:
        grid: What races.
        key: The run; its rate may be 0.
        used: Learning rates of the first param group at each step of the run, nan where it was skipped.
        horizon: How long its schedule is.

    Raises:
        InputError: When the module sets learning rates itself.
    """
    schedule = grid.schedules[key.schedule]
    if isinstance(schedule, OwnSchedule) or len(used) > horizon.steps or np.isnan(used).any():
        return
    try:
        (training,) = grid.trainings([dataclasses.replace(key, lr=key.lr or grid.optimizer.lr)], horizon)
    except NotVectorizable:
        return
    if training.plateau is not None:
        return
    planned = training.rates[: len(used), 0] * (key.lr > 0)
    apart = np.flatnonzero(~np.isclose(used, planned, rtol=1e-6, atol=0.0))
    if len(apart):
        step = int(apart[0])
        raise InputError(
            f"the module sets learning rates itself: at step {step} a run of {key.schedule} at {key.lr:g} used "
            f"{used[step]:g}, and not {planned[step]:g}; take out what sets them, in training_step, in a hook or by a "
            "scheduler stepped by hand"
        )
