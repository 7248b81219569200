"""Every combination that races, and what each does at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Union, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.comparison import defaults
from lit_lrsched.comparison.builds import check_automatic, check_test_data
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.engine.sequential import Configure
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import FloatArray, OptimizerCallable, Training
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.own_optimizer import ask, in_place_of_own
from lit_lrsched.comparison.own_schedule import OWN, OwnSchedule, as_plateau, drive_in_proportion
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer, set_momentum, set_to
from lit_lrsched.comparison.rates import RateTables
from lit_lrsched.comparison.report.words import counted, listed
from lit_lrsched.comparison.trainer_options import own_callbacks_left_out
from lit_lrsched.errors import InputError, shown
from lit_lrsched.optim.from_torch import made_scheduler
from lit_lrsched.optim.group_schedules import check_groups
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import Horizon, Interval, ScheduleLike
from lit_lrsched.schedules.plateau import Plateau, following
from lit_lrsched.trainer.lightning_internals import optimizers_in
from lit_lrsched.trainer.lightning_package import LightningModule, Trainer
from lit_lrsched.trainer.schedule_config import (
    AnySchedule,
    LRSchedulerCallable,
    checked_schedule,
    is_schedule,
    schedule_config,
    unscheduled,
)


@dataclass(frozen=True)
class Grid:
    """What races against what.

    Args:
        schedules: The schedules by name, at least one.
        lrs: Peak learning rates of the first param group, the same for every schedule.
        momenta: Momenta; ``(None,)`` for the optimizer's own.
        seeds: Seeds.
        optimizer: The optimizer, whose rates, momenta and weight decays are set to those of each run.
        interval: When to step: None for ``"step"`` with schedules and ``"epoch"`` with torch's.
        monitor: Metric that a metric-driven schedule follows. None: the one that it names itself.
        weight_decays: Weight decays; ``(None,)`` for the optimizer's own.
        groups: Schedules for momentum, weight decay and single param groups: see :class:`~lit_lrsched.ScheduledLR`.
        regime: Which batches train, and how their gradients make steps.

    Raises:
        InputError: For an empty or repeated list, a rate that is not positive, a momentum outside [0, 1), a weight
            decay below 0, one of these two that the optimizer does not have, or groups where a torch scheduler races.
    """

    schedules: Mapping[str, Union[AnySchedule, OwnSchedule]]
    lrs: Sequence[float]
    momenta: Sequence[float | None]
    seeds: Sequence[int]
    optimizer: RacingOptimizer
    interval: Interval | None = None
    monitor: str | None = None
    weight_decays: Sequence[float | None] = (None,)
    groups: Mapping[str, ScheduleLike] | None = None
    regime: Regime = PLAIN

    def __post_init__(self) -> None:
        for name in ("schedules", "lrs", "momenta", "weight_decays", "seeds"):
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
        for decay in self.weight_decays:
            if decay is not None and not 0 <= decay < float("inf"):
                raise InputError(f"weight_decays: {decay} is no weight decay: give finite numbers of at least 0")
        self.optimizer.check_axes(
            any(momentum is not None for momentum in self.momenta),
            any(decay is not None for decay in self.weight_decays),
        )
        check_groups(self.groups)
        of_torch = [name for name, schedule in self.schedules.items() if _is_of_torch(schedule)]
        if self.groups and of_torch:
            raise InputError(
                f"groups go with lit_lrsched's schedules, and {of_torch[0]!r} is torch's: wrap it in FromTorch"
            )

    def keys(self) -> list[RunKey]:
        """Returns every combination, in a fixed order."""
        own = self.optimizer
        momenta = [own.momentum if momentum is None else float(momentum) for momentum in self.momenta]
        decays = [own.weight_decay if decay is None else float(decay) for decay in self.weight_decays]
        lrs, seeds = map(float, self.lrs), map(int, self.seeds)
        axes = product(self.schedules, lrs, dict.fromkeys(momenta), dict.fromkeys(decays), seeds)
        return [RunKey(*each) for each in axes]

    def size(self) -> str:
        """Returns in words how many settings there are."""
        axes = [counted(len(self.schedules), "schedule"), counted(len(self.lrs), "rate")]
        if self.momenta != (None,):
            axes.append(counted(len(self.momenta), "momentum", "momenta"))
        if self.weight_decays != (None,):
            axes.append(counted(len(self.weight_decays), "weight decay"))
        return " x ".join(axes)

    def opening(self) -> str:
        """Returns in a few sentences what races."""
        own = self.optimizer
        text = f"Optimizer: {own}; peak rates {listed(self.lrs)}{f' (its own: {own.lr:g})' if own.module else ''}"
        axes = ("momenta", self.momenta, own.momentum), ("weight decays", self.weight_decays, own.weight_decay)
        for name, values, own_value in axes:
            if any(value is not None for value in values):
                text += f"; {name} {listed(own_value if value is None else value for value in values)}"
        text += "."
        if len(own.groups) > 1:
            text += f" The peak rates are the first param group's; all {len(own.groups)} keep their ratio: "
            text += f"{own.groups_in_words()}."
        for note in own.notes:
            text += f" {note}"
        if self.groups:
            text += f" Schedules of their own: {', '.join(self.groups)}."
        return f"{text} {self.regime}".rstrip()

    def check_export(self) -> None:
        """Refuses a race of param groups that no configuration would set up, whichever setting wins.

        Raises:
            InputError: When there is a momentum or a weight decay at which none does.
        """
        if self.optimizer.keeps_groups:
            for momentum, decay in product(self.momenta, self.weight_decays):
                self.optimizer.written(self.lrs[0], momentum, decay)

    def axes(self, momentum: float, weight_decay: float) -> tuple[float | None, float | None]:
        """Returns the momentum and the weight decay of a run, None for the optimizer's own."""
        own = self.optimizer
        own_momentum = momentum == own.momentum and (None in self.momenta or not own.differs("momentum"))
        return None if own_momentum else momentum, None if weight_decay == own.weight_decay else weight_decay

    def configure(self, key: RunKey) -> Configure:
        """Returns what gives a module of its own trainer this training's optimizer and schedule."""

        def configure(module: LightningModule, trainer: Trainer, own: Callable[[], Any]) -> Any:
            schedule, make = self.schedules[key.schedule], self.optimizer.make
            if isinstance(schedule, OwnSchedule):
                return self._in_proportion(own(), schedule, key)
            (optimizer,) = unscheduled(own()) if make is None else [make(module.parameters())]
            set_to(optimizer, key.lr, *self.axes(key.momentum, key.weight_decay))
            return schedule_config(
                optimizer, schedule, trainer, interval=self.interval, monitor=self.monitor, groups=self.groups
            )

        return configure

    def _in_proportion(self, returned: Any, schedule: OwnSchedule, key: RunKey) -> Any:
        """Sets what a module's ``configure_optimizers`` returned to the values of one training; the schedule stays."""
        ((optimizer,), _), own = optimizers_in(returned), self.optimizer
        momentum, decay = self.axes(key.momentum, key.weight_decay)
        if momentum is not None and not schedule.moves_momentum:
            set_momentum(optimizer, momentum)
        if key.lr != own.lr or decay is not None:
            drive_in_proportion(optimizer, key.lr / own.lr, decay, own.weight_decay)
        return returned

    def trainings(self, keys: Sequence[RunKey], horizon: Horizon) -> list[Training]:
        """Returns the same as plain numbers for every step; runs that differ in their seed alone share them.

        Raises:
            NotVectorizable: When rates cannot be known before the run.
        """
        tables, settings = RateTables(horizon), {key.setting: key for key in keys}
        found = {setting: self._training(key, horizon, tables) for setting, key in settings.items()}
        return [dataclasses.replace(found[key.setting], seed=key.seed) for key in keys]

    def _training(self, key: RunKey, horizon: Horizon, tables: RateTables) -> Training:
        own, schedule = self.optimizer, self.schedules[key.schedule]
        momentum, decay = self.axes(key.momentum, key.weight_decay)
        if isinstance(schedule, OwnSchedule):
            if schedule.unforeseen:
                raise NotVectorizable(schedule.unforeseen)
            found, plateau = schedule.at(key.lr / own.lr, momentum, decay, own.weight_decay), schedule.plateau
        else:
            optimizer = own.dummy()
            set_to(optimizer, key.lr, momentum, decay)
            found, plateau = self._planned(schedule, optimizer, key, horizon, tables)
        name = f"{key.schedule}/{key.lr}/{key.momentum}/{key.weight_decay}"
        return Training(key.seed, found[0], found[1], plateau, name, found[2])

    def _planned(
        self, schedule: AnySchedule, optimizer: Optimizer, key: RunKey, horizon: Horizon, tables: RateTables
    ) -> tuple[list[FloatArray], Plateau | None]:
        schedule = following(schedule, self.monitor)
        if is_schedule(schedule):
            interval = self.interval or "step"
            ours = ScheduledLR(optimizer, cast("ScheduleLike", schedule), horizon, interval, self.groups)
            plateau = schedule if isinstance(schedule, Plateau) else None
            if plateau and any(each is not plateau for each in ours.lr_schedules):
                raise NotVectorizable(f"{key.schedule} follows a metric, and some of its param groups do not")
            return tables.of(ours, interval), plateau
        interval = self.interval or "epoch"
        scheduler = made_scheduler(f"schedules[{key.schedule!r}]", cast("LRSchedulerCallable", schedule), optimizer)
        if not isinstance(scheduler, ReduceLROnPlateau):
            return tables.of(scheduler, interval), None
        monitor = self.monitor or getattr(scheduler, "monitor", None)  # which LightningCLI's class of this name has
        if monitor is None:
            raise InputError("ReduceLROnPlateau follows a metric: give monitor, for example val_loss")
        plateau = as_plateau(scheduler, monitor)
        if plateau is None or interval == "step":
            raise NotVectorizable(f"{key.schedule} is not stepped once an epoch for all groups alike")
        return tables.of(scheduler, interval), plateau


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
    weight_decays: Sequence[float | None] | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    regime: Regime = PLAIN,
) -> Grid:
    """Returns what races, where None stands for what goes with the module and its optimizer.

    Args:
        build: Takes a seed and returns the module and its data.
        schedules: The schedules by name. That of the module joins them as ``own``.
        lrs: Peak learning rates. None: those around the optimizer's own.
        momenta: Momenta. None: the optimizer's own, but for the worked example.
        seeds: Seeds.
        optimizer: Takes parameters and returns the optimizer. None: the module's own.
        epochs: Epochs of each training.
        interval: When to step.
        monitor: Metric that torch's ``ReduceLROnPlateau`` follows.
        weight_decays: Weight decays. None: the optimizer's own.
        groups: Schedules for momentum, weight decay and single param groups.
        regime: Which batches train, and how their gradients make steps.

    Raises:
        InputError: When the module does not let a race set one optimizer's rate, a list is empty or none, or a schedule
            has no name or is called ``own``.
    """
    if epochs < 1:
        raise InputError(f"epochs={epochs} trains nothing: give at least 1")
    _check_form(schedules, lrs=lrs, momenta=momenta, weight_decays=weight_decays)
    schedules = {name: checked_schedule(f"schedules[{name!r}]", schedule) for name, schedule in schedules.items()}
    if OWN in schedules:
        raise InputError(f"schedules: {OWN!r} is the name of the schedule that a module brings: give yours another")
    module, data = build(next(iter(seeds), 0))
    check_automatic(module, "a race")
    check_test_data(module, data)
    chosen = (
        in_place_of_own(optimizer, module, data, regime, epochs) if optimizer else ask(module, data, regime, epochs)
    )
    chosen = dataclasses.replace(chosen, notes=(*chosen.notes, *own_callbacks_left_out(module)))
    default_lrs, default_momenta = defaults.rates_and_momenta(module, chosen.func, chosen.lr)
    return Grid(
        {**schedules, OWN: chosen.schedule} if chosen.schedule else schedules,
        default_lrs if lrs is None else tuple(map(float, lrs)),  # of NumPy's numbers too
        default_momenta if momenta is None else _floats(momenta),
        seeds,
        chosen,
        interval,
        monitor,
        (None,) if weight_decays is None else _floats(weight_decays),
        groups,
        regime,
    )


def _floats(values: Iterable[float | None]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)


def _check_form(schedules: object, **axes: object) -> None:
    """Refuses schedules without names, and a number where several may stand."""
    if not isinstance(schedules, Mapping):
        raise InputError(f"schedules={shown(schedules)} have no names: give a dict, like {{'linear': Linear()}}")
    for name in schedules:
        if not isinstance(name, str) or not name.isprintable():
            raise InputError(f"schedules: {name!r} is no name that a line can hold: rename it")
    for name, values in axes.items():
        if values is not None and not isinstance(values, Iterable):
            raise InputError(f"{name}={shown(values)} is no list: write [{shown(values)}]")


def _is_of_torch(schedule: object) -> bool:
    return not isinstance(schedule, OwnSchedule) and not is_schedule(schedule)
