"""Every combination that races, and what each does at every step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.comparison.vectorized import FloatArray, OptimizerCallable, Training
from lit_lrsched.configure import AnySchedule, LRSchedulerCallable, check_direction, is_schedule, schedule_config
from lit_lrsched.errors import InputError
from lit_lrsched.scheduled_lr import ScheduledLR
from lit_lrsched.schedules import Horizon, Interval, Plateau, ScheduleLike
from lit_lrsched.schedules.core import stride_of
from lit_lrsched.schedules.direction import Direction
from lit_lrsched.schedules.plateau import following


@dataclass(frozen=True)
class Entry:
    """One training of the race.

    Args:
        schedule: Name of the schedule.
        lr: Peak learning rate: the base that the schedule multiplies.
        momentum: Momentum, or first beta; None for an optimizer that has none.
        seed: Runs with the same seed share the split, the initial weights and the batch order.
    """

    schedule: str
    lr: float
    momentum: float | None
    seed: int


@dataclass(frozen=True)
class Grid:
    """What races against what.

    Args:
        schedules: The schedules by name, at least one.
        lrs: Peak learning rates, the same for every schedule.
        momenta: Momenta; ``(None,)`` for the optimizer's own.
        seeds: Seeds.
        optimizer: Takes parameters and returns the optimizer; its learning rate and momentum are replaced.
        interval: When to step: None for ``"step"`` with schedules and ``"epoch"`` with torch's.
        monitor: Metric that a metric-driven schedule follows. None: the one that it names itself.

    Raises:
        InputError: For an empty or repeated list, a rate that is not positive, or a momentum outside [0, 1).
    """

    schedules: Mapping[str, AnySchedule]
    lrs: Sequence[float]
    momenta: Sequence[float | None]
    seeds: Sequence[int]
    optimizer: OptimizerCallable
    interval: Interval | None = None
    monitor: str | None = None

    def __post_init__(self) -> None:
        for name in ("schedules", "lrs", "momenta", "seeds"):
            values = list(getattr(self, name))
            if not values:
                raise InputError(f"{name} is empty, so nothing would race: give at least one")
            if len(set(values)) < len(values):
                raise InputError(f"{name}={values} names something twice: give each once")
        for lr in self.lrs:
            if not 0 < lr < float("inf"):
                raise InputError(f"lrs: {lr} is no learning rate: give finite numbers above 0")
        for momentum in self.momenta:
            if momentum is not None and not 0 <= momentum < 1:
                raise InputError(f"momenta: {momentum} is no momentum: give numbers from 0 up to but below 1")

    def entries(self) -> list[Entry]:
        """Returns every combination, in a fixed order."""
        own = momentum_of(self.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0])
        momenta = [own if momentum is None else momentum for momentum in self.momenta]
        return [Entry(*each) for each in product(self.schedules, self.lrs, dict.fromkeys(momenta), self.seeds)]

    def make_optimizer(self, parameters: Iterable[Any], entry: Entry) -> Optimizer:
        """Returns the optimizer of one training, at its peak rate and momentum."""
        optimizer = self.optimizer(cast("Any", parameters))
        for group in optimizer.param_groups:
            group["lr"] = entry.lr
            if entry.momentum is None:
                continue
            if "betas" in group:
                group["betas"] = (entry.momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = entry.momentum
            else:
                raise InputError(f"{type(optimizer).__name__} has no momentum: leave momenta out")
        return optimizer

    def configure(self, entry: Entry) -> Callable[[LightningModule, Trainer], dict[str, Any]]:
        """Returns what gives a module of its own trainer this training's optimizer and schedule."""
        return lambda module, trainer: schedule_config(
            self.make_optimizer(module.parameters(), entry),
            self.schedules[entry.schedule],
            trainer,
            interval=self.interval,
            monitor=self.monitor,
        )

    def training(self, entry: Entry, horizon: Horizon) -> Training:
        """Returns the same as plain numbers for every step."""
        optimizer = self.make_optimizer([torch.nn.Parameter(torch.zeros(1))], entry)
        schedule = following(self.schedules[entry.schedule], self.monitor)
        if is_schedule(schedule):
            interval = self.interval or "step"
            scheduler: LRScheduler = ScheduledLR(optimizer, cast("ScheduleLike", schedule), horizon, interval)
            plateau = schedule if isinstance(schedule, Plateau) else None
        else:
            interval = self.interval or "epoch"
            scheduler = cast("LRSchedulerCallable", schedule)(optimizer)
            plateau = self._as_plateau(scheduler, entry) if isinstance(scheduler, ReduceLROnPlateau) else None
        rates, momenta = _ticks(scheduler, horizon, interval)
        return Training(entry.seed, rates, momenta, plateau, name=f"{entry.schedule}/{entry.lr}/{entry.momentum}")

    def _as_plateau(self, scheduler: ReduceLROnPlateau, entry: Entry) -> Plateau:
        if self.monitor is None:
            raise InputError("ReduceLROnPlateau follows a metric: name it, for example --lr_monitor val_loss")
        check_direction(scheduler, self.monitor)
        return Plateau(
            monitor=self.monitor,
            mode=cast("Direction", scheduler.mode),
            factor=scheduler.factor,
            patience=scheduler.patience,
            threshold=scheduler.threshold,
            threshold_mode=scheduler.threshold_mode,
            cooldown=scheduler.cooldown,
            min_factor=min(1.0, float(scheduler.min_lrs[0]) / entry.lr),
        )


def momentum_of(group: Mapping[str, Any]) -> float | None:
    """Returns the momentum, or first beta, of a param group; None where there is none."""
    momentum = group["betas"][0] if "betas" in group else group.get("momentum")
    return None if momentum is None else float(momentum)


def _ticks(scheduler: LRScheduler, horizon: Horizon, interval: Interval) -> tuple[FloatArray, FloatArray | None]:
    """Steps a scheduler through a whole run and returns its rates and momenta, ``[steps]``; None without momentum."""
    group = scheduler.optimizer.param_groups[0]
    stride = stride_of(interval, horizon)
    rates, momenta = [], []
    for tick in range(math.ceil(horizon.steps / stride)):
        if tick > 0 and not isinstance(scheduler, ReduceLROnPlateau):
            with warnings.catch_warnings():
                # There is no optimizer step to come first, and composites step their parts in a way torch deprecates.
                warnings.simplefilter("ignore", UserWarning)
                scheduler.step()
        rates.append(float(group["lr"]))
        momenta.append(momentum_of(group))
    by_step = np.repeat(np.array(rates), stride)[: horizon.steps]
    if None in momenta:
        return by_step, None
    return by_step, np.repeat(np.array(momenta, dtype=np.float64), stride)[: horizon.steps]
