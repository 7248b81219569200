"""What a module's ``configure_optimizers`` returns: optimizer, scheduler, and when to step it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Union, cast, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.class_paths import from_plain, without_partial
from lit_lrsched.errors import InputError, shown
from lit_lrsched.optim.clock import OnHorizonChange
from lit_lrsched.optim.from_torch import made_scheduler
from lit_lrsched.optim.kept_scheduler import KeptScheduler
from lit_lrsched.optim.param_groups import undo_schedulers
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.checks import check_choice
from lit_lrsched.schedules.core import Interval, NoEpochs, Schedule, ScheduleLike
from lit_lrsched.schedules.direction import contradiction
from lit_lrsched.schedules.plateau import Plateau, following
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.trainer.callbacks.keeper import keep_schedules, may_step_schedules
from lit_lrsched.trainer.horizon import horizon_of, steps_reached, why_no_epochs
from lit_lrsched.trainer.lightning_internals import optimizers_in
from lit_lrsched.trainer.lightning_package import OptimizerLRSchedulerConfig, Trainer, rank_zero_info

LRSchedulerCallable = Callable[[Optimizer], LRScheduler]
AnySchedule = Union[ScheduleLike, LRSchedulerCallable, Mapping[str, Any]]


def schedule_config(
    optimizer: Optimizer,
    schedule: AnySchedule | None,
    trainer: Trainer,
    *,
    interval: Interval | None = None,
    monitor: str | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    on_horizon_change: OnHorizonChange = "replan",
) -> OptimizerLRSchedulerConfig:
    """Returns the dict that Lightning's ``configure_optimizers`` returns.

    Args:
        optimizer: The optimizer whose learning rate is scheduled.
        schedule: A :class:`~lit_lrsched.Schedule`; a function ``(step, horizon) -> float``; a callable that takes the
            optimizer and returns a torch scheduler, such as ``torch.optim.lr_scheduler`` classes or a
            ``functools.partial`` of one; any of these as plain configuration (``class_path`` and ``init_args``); or
            None for a constant rate.
        trainer: The module's trainer, which knows how long training lasts.
        interval: When to step: ``"step"`` or ``"epoch"``. None: ``"step"`` for schedules, ``"epoch"`` for torch's.
        monitor: Name of the logged metric that a metric-driven schedule follows, such as ``"val_loss"``. None: the one
            that the schedule itself names. Which way it is better follows from its name, unless the schedule says so.
        groups: Schedules for momentum, weight decay and single param groups: see :class:`~lit_lrsched.ScheduledLR`.
        on_horizon_change: What to do on resuming for longer or shorter: see :class:`~lit_lrsched.ScheduledLR`.

    Returns:
        ``{"optimizer", "lr_scheduler": {"scheduler", "interval", "monitor", "name"}}``, only ``{"optimizer"}``
        without a schedule. The name is None: it is the param groups, not the scheduler, that get logged.

        In a module with manual optimization, or with a ``lr_scheduler_step`` of its own, the scheduler is stepped for
        it: after each training batch, or each epoch. The module's own calls of ``lr_schedulers().step()`` do nothing.
        ``ReduceLROnPlateau`` alone is left to such a module, which knows when to show it its metric.

    Raises:
        InputError: When the interval is unknown, the length of training is unknown, the schedule does not fit it, or a
            metric-driven scheduler has nothing to monitor.

    Example::

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=3e-4)
            return schedule_config(optimizer, WarmupCosine(warmup="5%"), self.trainer)
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer={shown(optimizer)} is no torch optimizer: make one, like SGD(parameters, lr=0.1)")
    if interval is not None:
        check_choice("interval", interval, get_args(Interval))
    if schedule is not None:
        schedule = checked_schedule("schedule", schedule)
    if schedule is None and groups:
        schedule = Constant()
    if schedule is None:
        return cast("OptimizerLRSchedulerConfig", {"optimizer": optimizer})
    if is_schedule(schedule):
        schedule = following(cast("ScheduleLike", schedule), monitor)
        interval = interval or "step"
        scheduler: LRScheduler = _bind(optimizer, schedule, trainer, interval, groups, on_horizon_change)
        if isinstance(schedule, Plateau):
            monitor = schedule.monitor
        keep_schedules(trainer)
    else:
        interval = interval or "epoch"
        scheduler = made_scheduler("schedule", cast("LRSchedulerCallable", schedule), optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            monitor = monitor or getattr(scheduler, "monitor", None)  # which LightningCLI's class of this name has
        if isinstance(scheduler, ReduceLROnPlateau) and monitor is None:
            raise InputError("ReduceLROnPlateau follows a metric: name it, like monitor='val_loss'")
        check_direction(scheduler, monitor)
        if groups or on_horizon_change != "replan":
            without = "groups go" if groups else f"on_horizon_change={on_horizon_change!r} goes"
            raise InputError(
                f"{without} with lit_lrsched's schedules: wrap it, FromTorch({type(scheduler).__name__!r})"
            )
    if may_step_schedules(trainer.lightning_module) and not isinstance(scheduler, ReduceLROnPlateau):
        scheduler = KeptScheduler(scheduler)
        keep_schedules(trainer)
    config = {"scheduler": scheduler, "interval": interval, "monitor": monitor, "name": None}
    if not trainer.lightning_module.automatic_optimization:
        del config["monitor"]  # Lightning warns that it ignores this key in manual optimisation
    return {"optimizer": optimizer, "lr_scheduler": cast("Any", config)}


def _bind(
    optimizer: Optimizer,
    schedule: ScheduleLike,
    trainer: Trainer,
    interval: Interval,
    groups: Mapping[str, ScheduleLike] | None,
    on_horizon_change: OnHorizonChange,
) -> ScheduledLR:
    horizon = horizon_of(trainer)
    try:
        scheduler = ScheduledLR(optimizer, schedule, horizon, interval, groups, on_horizon_change)
    except NoEpochs as error:
        fix = "give durations in steps or percent, like '500st' or '10%', and step each step"
        raise InputError(f"{why_no_epochs(trainer)}: {fix}") from error
    except InputError as error:
        if not getattr(trainer, "fast_dev_run", False):
            raise
        # A mistake that does not depend on the horizon is raised here as well.
        scheduler = ScheduledLR(optimizer, Constant(), horizon, interval, dict.fromkeys(groups or (), Constant()))
        rank_zero_info(f"fast_dev_run is too short for the schedule, so the learning rate stays as it is: {error}")
    if interval == "step" and trainer.lightning_module.automatic_optimization:
        scheduler.wait_for_optimizer()
    scheduler.steps_reached = lambda: steps_reached(trainer)
    return scheduler


def check_direction(scheduler: LRScheduler, monitor: str | None) -> None:
    """Refuses torch's ``ReduceLROnPlateau`` when its mode contradicts the name of its metric.

    Raises:
        InputError: When it does.
    """
    if not isinstance(scheduler, ReduceLROnPlateau) or monitor is None:
        return
    if reason := contradiction(monitor, scheduler.mode):
        raise InputError(reason)


def checked_schedule(name: str, schedule: object) -> Any:
    """Returns the schedule itself, also where it was given as plain configuration.

    Raises:
        InputError: When it is none: text, a class of lit_lrsched's without its arguments, a dict without class_path.

    >>> checked_schedule("schedule", {"class_path": "lit_lrsched.Constant", "init_args": {"factor": 0.5}})
    Constant(factor=0.5)
    >>> checked_schedule("schedule", "Cosine")
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: schedule='Cosine' is text: give the schedule itself, like Cosine()
    """
    if isinstance(schedule, Mapping):
        if not isinstance(schedule.get("class_path"), str):
            raise InputError(
                f"{name}={shown(schedule)} names no class: write it as class_path and init_args, "
                "like {'class_path': 'lit_lrsched.Constant', 'init_args': {'factor': 0.5}}"
            )
        schedule = from_plain(schedule)
    if isinstance(schedule, str):
        example = schedule if schedule.isidentifier() else "Cosine"
        raise InputError(f"{name}={shown(schedule)} is text: give the schedule itself, like {example}()")
    if isinstance(schedule, type) and not issubclass(schedule, LRScheduler):
        raise InputError(f"{name}={shown(schedule)} is a class: give the schedule itself, {schedule.__name__}(...)")
    kind = without_partial(schedule)
    if isinstance(kind, type) and issubclass(kind, Schedule):
        raise InputError(
            f"{name}={shown(schedule)} makes a schedule and is none: give the schedule itself, {kind.__name__}(...), "
            "in Hydra without _partial_"
        )
    if isinstance(schedule, LRScheduler):
        raise InputError(
            f"{name}={type(schedule).__name__} is bound to an optimizer already: give what makes it, like "
            "functools.partial(ExponentialLR, gamma=0.9)"
        )
    if not callable(schedule):
        raise InputError(
            f"{name}={shown(schedule)} is no schedule: give one of lit_lrsched's, like Cosine(), or a function "
            "(step, horizon) -> float"
        )
    return schedule


def is_schedule(schedule: object) -> bool:
    """Tells whether it is a schedule, which takes ``(step, horizon)``; a torch scheduler takes an optimizer."""
    if isinstance(schedule, Schedule):
        return True
    if isinstance(without_partial(schedule), type) or not callable(schedule):
        return False
    required = [
        parameter
        for parameter in inspect.signature(schedule).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) == 2


def unscheduled(returned: Any) -> list[Optimizer]:
    """Returns the optimizers of what ``configure_optimizers`` returned, at the rates that they were given."""
    if returned is None:
        return []
    optimizers, schedulers = optimizers_in(returned)
    each = [one.get("scheduler") if isinstance(one, Mapping) else one for one in schedulers]
    undo_schedulers(optimizers, [scheduler for scheduler in each if scheduler is not None])
    return optimizers
