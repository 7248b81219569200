"""What else sets the learning rate: callbacks and hooks beside the schedule."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from typing import Any, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.optim.kept_scheduler import kept_by
from lit_lrsched.optim.param_groups import scales_left_out
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.trainer.horizon import callback_of
from lit_lrsched.trainer.lightning_package import LearningRateFinder, StochasticWeightAveraging, Trainer


def rates_from_elsewhere(trainer: Trainer) -> str:
    """Returns the base rates that ``configure_optimizers`` did not set, and who did; empty where there are none."""
    schedulers = [kept_by(config.scheduler) for config in trainer.lr_scheduler_configs]
    taken = [rate for one in schedulers if isinstance(one, ScheduledLR) for rate in one.taken.values()]
    if not taken:
        return ""
    found = set(taken) <= set(rates_tried_by_finder(trainer))
    who = "LearningRateFinder" if found else "something other than configure_optimizers"
    return f"{', '.join(dict.fromkeys(f'{rate:.6g}' for rate in taken))}, set before training by {who}"


def rates_tried_by_finder(trainer: Trainer) -> Collection[float]:
    """Returns the rates that ``LearningRateFinder`` has tried; it has set one of them."""
    finder = callback_of(trainer, LearningRateFinder)
    tried: list[float] = finder.optimal_lr.results["lr"] if finder and finder.optimal_lr else []
    return tried


def takes_over(trainer: Trainer) -> list[str]:
    """Returns a sentence for each callback or hook that will set the learning rate instead of the schedule."""
    if not trainer.lr_scheduler_configs:
        return []
    found = []
    averaging = callback_of(trainer, StochasticWeightAveraging)
    if averaging is not None:
        found.append(
            "StochasticWeightAveraging sets the learning rate itself from its swa_epoch_start on: "
            "the plan holds until then"
        )
    module = trainer.lightning_module
    if mentions([vars(kind).get("optimizer_step") for kind in type(module).__mro__[:-1]], "param_groups"):
        found.append(
            f"{type(module).__name__}.optimizer_step uses param_groups: if it sets the rate as well, what is set last "
            "before a step counts"
        )
    return found


def left_out(trainer: Trainer) -> list[str]:
    """Returns what of the learning rates the schedules of a run do not know of."""
    schedulers = [kept_by(config.scheduler) for config in trainer.lr_scheduler_configs]
    driven = [scheduler.optimizer for scheduler in schedulers if isinstance(scheduler, LRScheduler)]
    return list(filter(None, map(scales_left_out, driven)))


def at_odds(trainer: Trainer) -> list[str]:
    """Returns what keeps schedules from holding: another one of the same rates, another pace than their own."""
    configs = [one for one in trainer.lr_scheduler_configs if isinstance(kept_by(one.scheduler), ScheduledLR)]
    schedulers = [cast("ScheduledLR", kept_by(config.scheduler)) for config in configs]
    found = []
    for number, one in enumerate(schedulers):
        if any(one.optimizer is other.optimizer for other in schedulers[:number]):
            found.append(
                f"{one.schedule.describe()} is the second schedule of one optimizer, and no rate can follow both: "
                "leave one out, or multiply them, Product([...])"
            )
    for config, one in zip(configs, schedulers, strict=True):
        if trainer.lightning_module.automatic_optimization and config.interval != one.interval:
            found.append(
                f"a ScheduledLR with interval={one.interval!r} is stepped once {_A[config.interval]}: give Lightning "
                f"its interval, {{'scheduler': ..., 'interval': {one.interval!r}}}, or use schedule_config"
            )
        if config.scheduler is one and config.frequency > 1:  # one that is stepped for its module is so each time
            found.append(
                f"a ScheduledLR with frequency={config.frequency} is not stepped each {one.interval}, so training ends "
                "before its schedule does: leave it out"
            )
    return found


_A = {"step": "a step", "epoch": "an epoch"}


def who_else_sets(trainer: Trainer, optimizer: Optimizer) -> str:
    """Returns who may have set a rate of an optimizer that a schedule of ours drives."""
    others = [kept_by(config.scheduler) for config in trainer.lr_scheduler_configs]
    names = [type(one).__name__ for one in others if one.optimizer is optimizer and not isinstance(one, ScheduledLR)]
    itself = f"{type(trainer.lightning_module).__name__}, a callback or {type(optimizer).__name__} itself"
    return " and ".join(names) or itself


def mentions(functions: Iterable[Any], name: str) -> bool:
    """Returns whether the code of any of the functions names an attribute."""
    codes = (getattr(inspect.unwrap(function), "__code__", None) for function in functions if callable(function))
    return any(name in code.co_names for code in codes if code is not None)
