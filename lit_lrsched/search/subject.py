"""What a search trains: the module's optimizer, or the one given, under one schedule, and for how long."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lit_lrsched.comparison.builds import check_automatic, steps_per_epoch
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import OptimizerCallable
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.own_optimizer import ask_with_schedule, in_place_of_own, takes
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.comparison.trainer_options import own_callbacks_left_out
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon, Interval, ScheduleLike, name_of
from lit_lrsched.schedules.durations import Duration, steps_in
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.search.options import FindOptions
from lit_lrsched.trainer.schedule_config import AnySchedule, checked_schedule

SHORT = 100
"""Steps of a run where runs are trained one by one."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What a search trains.

    Args:
        grid: The optimizer and the one schedule.
        is_given: Whether the schedule was given, rather than the module's own or none.
        of_argument: Whether the module takes its schedule as an argument.
        horizon: How long each run is that is trained as ``Trainer.fit`` would.
        notes: What else there is to say of it, in sentences.
    """

    grid: Grid
    is_given: bool
    of_argument: bool
    horizon: Horizon
    notes: tuple[str, ...] = ()

    def opening(self) -> str:
        """Returns in a few sentences what is trained."""
        own, (name,) = self.grid.optimizer, self.grid.schedules
        text = f"Optimizer: {own}, rate {own.lr:g}; schedule: {name}."
        if len(own.groups) > 1:
            text += f" The rates are the first param group's; all {len(own.groups)} keep their ratio: "
            text += f"{own.groups_in_words()}."
        return " ".join(filter(None, [text, str(self.grid.regime), *own.notes, *self.notes]))


def horizon_of(build: Build, options: FindOptions, regime: Regime) -> Horizon:
    """Returns how long each run is that is trained as ``Trainer.fit`` would; on data without a length, in steps alone.

    Raises:
        InputError: When the data have no batches, or ``steps`` are more than the whole run, or of data without a length
            no number of steps.
    """
    per_epoch = steps_per_epoch(build, options.seeds[0], regime)
    if per_epoch is None:
        return Horizon(SHORT if options.steps is None else _steps_of_a_stream(options.steps))
    if per_epoch == 0:
        raise InputError("the training data has no batches: give more rows, or a smaller batch_size")
    whole = Horizon(options.epochs * per_epoch, per_epoch)
    steps = max(1, steps_in(options.steps, whole))
    if steps > whole.steps:
        raise InputError(f"steps={options.steps!r} is more than the whole run of {whole.steps}: give more epochs")
    return dataclasses.replace(whole, steps=steps)


def epochs_in(horizon: Horizon) -> int:
    """Returns the epochs that a run begins; -1, which is any number, where these have no length."""
    return math.ceil(horizon.steps / horizon.steps_per_epoch) if horizon.steps_per_epoch else -1


def _steps_of_a_stream(steps: Duration) -> int:
    if not str(steps).endswith("st"):
        raise InputError(
            f"steps={steps!r} is a share of a length, and the training data has none: give a number of steps, like "
            f"'{SHORT}st'"
        )
    return max(1, steps_in(steps, Horizon(1)))


def subject_of(
    build: Build,
    options: FindOptions,
    horizon: Horizon,
    *,
    schedule: AnySchedule | None,
    optimizer: OptimizerCallable | None,
    interval: Interval | None,
    monitor: str | None,
    groups: Mapping[str, ScheduleLike] | None,
    regime: Regime,
) -> Subject:
    """Returns what is trained, where None stands for what the module brings.

    Raises:
        InputError: When there is no rate of one optimizer to set, or the schedule does not follow it.
    """
    module, data = build(options.seeds[0])
    name = type(module).__name__
    check_automatic(module, "a search")
    of_argument, notes = takes("lr_scheduler", module), []
    if optimizer is not None:
        own = in_place_of_own(optimizer, module, data, regime, epochs_in(horizon), horizon.steps)
    else:
        own = ask_with_schedule(module, data, regime, epochs_in(horizon), horizon.steps)
        if schedule is not None and own.schedule is not None:
            notes.append(f"The schedule takes the place of {name}'s {own.schedule.name}.")
    notes += own_callbacks_left_out(module)
    chosen: AnySchedule | OwnSchedule = checked_schedule("schedule", schedule) if schedule is not None else Constant()
    label = name_of(chosen) if schedule is not None else "constant"
    if schedule is None and own.schedule is not None:
        if groups:
            raise InputError(f"groups go with a schedule that is given, and {name} brings its own: give schedule")
        chosen, label = own.schedule, f"{name}'s own {own.schedule.name}"
    grid = Grid({label: chosen}, [own.lr], (None,), options.seeds, own, interval, monitor, (None,), groups, regime)
    peak = _peak(grid, horizon)
    if peak is not None and abs(peak - 1) > 1e-6:
        notes.append(f"Its highest rate is {peak:.3g} times the optimizer's, which is the one that is searched.")
    return Subject(grid, schedule is not None, of_argument, horizon, tuple(notes))


def _peak(grid: Grid, horizon: Horizon) -> float | None:
    """Returns the highest rate of a run as a multiple of the optimizer's; None where a metric decides.

    Raises:
        InputError: When it is not in proportion, so that there is nothing to search.
    """
    key, own = grid.keys()[0], grid.optimizer.lr
    keys = [key, dataclasses.replace(key, lr=2 * own)]
    try:
        one, twice = (float(np.max(training.rates[:, 0])) for training in grid.trainings(keys, horizon))
    except NotVectorizable:
        return None
    if twice < 1.5 * one:
        (name,) = grid.schedules
        raise InputError(
            f"schedule={name} sets rates of its own, whatever the optimizer's, so there is none to find: give one of "
            "lit_lrsched's, such as OneCycle"
        )
    return one / own
