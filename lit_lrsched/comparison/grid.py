"""Every combination that races, and what each does at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.comparison import defaults
from lit_lrsched.comparison.engine.batches import Build
from lit_lrsched.comparison.engine.sequential import Configure
from lit_lrsched.comparison.engine.training import OptimizerCallable, Training
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.own_optimizer import OwnOptimizer, ask, unscheduled
from lit_lrsched.comparison.rates import RateTables
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import forget_base_lr, get_value, group_values, set_value
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import Horizon, Interval, ScheduleLike
from lit_lrsched.schedules.direction import Direction
from lit_lrsched.schedules.plateau import Plateau, following
from lit_lrsched.trainer.schedule_config import (
    AnySchedule,
    LRSchedulerCallable,
    check_direction,
    is_schedule,
    schedule_config,
)


@dataclass(frozen=True)
class Grid:
    """What races against what.

    Args:
        schedules: The schedules by name, at least one.
        lrs: Peak learning rates, the same for every schedule.
        momenta: Momenta; ``(None,)`` for the optimizer's own.
        seeds: Seeds.
        optimizer: The module's own, or what takes parameters and returns one; its rate and momentum are replaced.
        interval: When to step: None for ``"step"`` with schedules and ``"epoch"`` with torch's.
        monitor: Metric that a metric-driven schedule follows. None: the one that it names itself.

    Raises:
        InputError: For an empty or repeated list, a rate that is not positive, or a momentum outside [0, 1).
    """

    schedules: Mapping[str, AnySchedule]
    lrs: Sequence[float]
    momenta: Sequence[float | None]
    seeds: Sequence[int]
    optimizer: OptimizerCallable | OwnOptimizer
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

    def keys(self) -> list[RunKey]:
        """Returns every combination, in a fixed order."""
        momenta = [self.own_momentum if momentum is None else float(momentum) for momentum in self.momenta]
        lrs, seeds = map(float, self.lrs), map(int, self.seeds)
        return [RunKey(*each) for each in product(self.schedules, lrs, dict.fromkeys(momenta), seeds)]

    def opening(self) -> str:
        """Returns in a sentence or two what races."""
        own = self.optimizer if isinstance(self.optimizer, OwnOptimizer) else None
        text = f"Optimizer: {own or f'{type(made(self.optimizer)).__name__}, as given'}; "
        text += f"peak rates {_listed(self.lrs)}{f' (its own: {own.lr:g})' if own else ''}"
        momenta = [momentum for momentum in self.momenta if momentum is not None]
        text += f"; momenta {_listed(momenta)}." if momenta else "."
        if own and len(own.groups) > 1:
            rates = _listed(get_value(group, "lr") for group in own.groups)
            text += f" The peak rates are the first param group's; all {len(own.groups)} keep their ratio, {rates}."
        if own and own.schedule and own.schedule not in self.schedules:
            text += f" Its {own.schedule} gives way to the schedules that race."
        return text

    @property
    def own_lr(self) -> float:
        """The rate that the optimizer brings for its first param group."""
        return get_value(self._own_group, "lr")

    @property
    def own_momentum(self) -> float:
        """The momentum, or first beta, that it brings; 0 where it has none."""
        return get_value(self._own_group, "momentum")

    @property
    def _own_group(self) -> dict[str, Any]:
        own = self.optimizer
        return dict(own.groups[0]) if isinstance(own, OwnOptimizer) else made(own).param_groups[0]

    def _set(self, optimizer: Optimizer, key: RunKey) -> Optimizer:
        """Sets an optimizer to the peak rate and the momentum of one training."""
        first = get_value(optimizer.param_groups[0], "lr")
        for group in optimizer.param_groups:
            rate = get_value(group, "lr")
            set_value(group, "lr", key.lr if rate == first else key.lr * (rate / first))
            forget_base_lr(group)
        if None in self.momenta and key.momentum == self.own_momentum:
            return optimizer
        if len(group_values([optimizer], ("momentum",))) < len(optimizer.param_groups):
            raise InputError(f"{type(optimizer).__name__} has no momentum: leave momenta out")
        for group in optimizer.param_groups:
            set_value(group, "momentum", key.momentum)
        return optimizer

    def configure(self, key: RunKey) -> Configure:
        """Returns what gives a module of its own trainer this training's optimizer and schedule."""

        def configure(module: LightningModule, trainer: Trainer, own: Callable[[], Any]) -> dict[str, Any]:
            brought = isinstance(self.optimizer, OwnOptimizer)
            optimizer = unscheduled(own()) if brought else self.optimizer(module.parameters())
            return schedule_config(
                self._set(optimizer, key),
                self.schedules[key.schedule],
                trainer,
                interval=self.interval,
                monitor=self.monitor,
            )

        return configure

    def trainings(self, keys: Sequence[RunKey], horizon: Horizon) -> list[Training]:
        """Returns the same as plain numbers for every step; runs that differ in their seed alone share them."""
        tables, settings = RateTables(horizon), {key.setting: key for key in keys}
        found = {setting: self._training(key, horizon, tables) for setting, key in settings.items()}
        return [dataclasses.replace(found[key.setting], seed=key.seed) for key in keys]

    def _training(self, key: RunKey, horizon: Horizon, tables: RateTables) -> Training:
        optimizer = self._set(made(self.optimizer), key)
        schedule = following(self.schedules[key.schedule], self.monitor)
        if is_schedule(schedule):
            interval = self.interval or "step"
            scheduler: LRScheduler = ScheduledLR(optimizer, cast("ScheduleLike", schedule), horizon, interval)
            plateau = schedule if isinstance(schedule, Plateau) else None
        else:
            interval = self.interval or "epoch"
            scheduler = cast("LRSchedulerCallable", schedule)(optimizer)
            plateau = self._as_plateau(scheduler, key) if isinstance(scheduler, ReduceLROnPlateau) else None
        rates, momenta, _ = tables.of(scheduler, interval)
        name = f"{key.schedule}/{key.lr}/{key.momentum}"
        return Training(key.seed, rates[:, 0], momenta[:, 0], plateau, name)

    def _as_plateau(self, scheduler: ReduceLROnPlateau, key: RunKey) -> Plateau:
        if self.monitor is None:
            raise InputError("ReduceLROnPlateau follows a metric: give monitor, for example val_loss")
        check_direction(scheduler, self.monitor)
        return Plateau(
            monitor=self.monitor,
            mode=cast("Direction", scheduler.mode),
            factor=scheduler.factor,
            patience=scheduler.patience,
            threshold=scheduler.threshold,
            threshold_mode=scheduler.threshold_mode,
            cooldown=scheduler.cooldown,
            min_factor=min(1.0, float(scheduler.min_lrs[0]) / key.lr),
        )


def grid_of(
    build: Build,
    schedules: Mapping[str, AnySchedule],
    *,
    lrs: Sequence[float] | None,
    momenta: Sequence[float | None] | None,
    seeds: Sequence[int],
    optimizer: OptimizerCallable | None,
    epochs: int,
    interval: Interval | None = None,
    monitor: str | None = None,
) -> Grid:
    """Returns what races, where None stands for what goes with the module and its optimizer.

    Args:
        build: Takes a seed and returns the module and its data.
        schedules: The schedules by name.
        lrs: Peak learning rates. None: those around the optimizer's own.
        momenta: Momenta. None: the optimizer's own, but for the worked example.
        seeds: Seeds.
        optimizer: Takes parameters and returns the optimizer. None: the module's own.
        epochs: Epochs of each training.
        interval: When to step.
        monitor: Metric that torch's ``ReduceLROnPlateau`` follows.

    Raises:
        InputError: When the module does not let a race set one optimizer's rate, or a list is empty.
    """
    if epochs < 1:
        raise InputError(f"epochs={epochs} trains nothing: give at least 1")
    module, data = build(next(iter(seeds), 0))
    if not module.automatic_optimization:
        raise InputError(
            f"{type(module).__name__} optimizes by hand (automatic_optimization=False), so its optimizers and their "
            "steps are its own: a race needs a module that leaves them to the trainer"
        )
    chosen = ask(module, data, epochs) if optimizer is None else optimizer
    kind = chosen.func if isinstance(chosen, OwnOptimizer) else type(made(chosen))
    own_lr = chosen.lr if isinstance(chosen, OwnOptimizer) else get_value(made(chosen).param_groups[0], "lr")
    default_lrs, default_momenta = defaults.rates_and_momenta(module, kind, own_lr)
    return Grid(
        schedules,
        default_lrs if lrs is None else lrs,
        default_momenta if momenta is None else momenta,
        seeds,
        chosen,
        interval,
        monitor,
    )


def made(optimizer: OptimizerCallable) -> Optimizer:
    """Returns an optimizer of one parameter of no use, which shows its settings."""
    return optimizer([torch.nn.Parameter(torch.zeros(1))])


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
