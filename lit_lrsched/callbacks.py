"""Callbacks for any ``Trainer``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau
from tqdm import tqdm

from lit_lrsched.configure import (
    AnySchedule,
    LRSchedulerCallable,
    ScheduleKeeper,
    checked_schedule,
    keep_schedules,
    mentions,
    schedule_config,
)
from lit_lrsched.errors import InputError
from lit_lrsched.lightning_package import Callback, LightningModule, LRSchedulerConfig, Trainer, rank_zero_info
from lit_lrsched.scheduled_lr import OnHorizonChange, check_groups, set_value
from lit_lrsched.schedules import Interval, Schedule, ScheduleLike
from lit_lrsched.schedules.core import describe
from lit_lrsched.slots import values_of


class ApplySchedule(ScheduleKeeper):
    """Gives any LightningModule a schedule without touching its code.

    The module keeps its optimizer. One that steps several optimizers by hand gets the schedule for each of them. A step
    of the schedule is then a training batch, whatever the module steps itself: its own calls of
    ``lr_schedulers().step()`` do nothing, nor do those of a ``lr_scheduler_step`` that it overrides.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule`, a function ``(step, horizon) -> float``, or a callable that takes
            the optimizer and returns a torch scheduler.
        interval: When to step: ``"step"`` or ``"epoch"``. None: ``"step"`` for schedules, ``"epoch"`` for torch's.
        monitor: Name of the logged metric that a metric-driven schedule follows.
        groups: Schedules for momentum, weight decay and single param groups: see :class:`~lit_lrsched.ScheduledLR`.
        replace: Take the place of a scheduler that the module has already; otherwise that is refused.
        on_horizon_change: What to do on resuming for longer or shorter: see :class:`~lit_lrsched.ScheduledLR`.

    Raises:
        InputError: When the schedule is none. When training starts: if the module has no optimizer, or has a scheduler
            that is not to be replaced, or the schedule does not fit.

    >>> from lightning.pytorch import Trainer
    >>> from lit_lrsched import ApplySchedule, WarmupCosine
    >>> trainer = Trainer(callbacks=[ApplySchedule(WarmupCosine(warmup="5%"))], logger=False)
    """

    def __init__(
        self,
        schedule: Union[Schedule, LRSchedulerCallable, ScheduleLike],
        interval: Optional[Interval] = None,
        monitor: Optional[str] = None,
        groups: Optional[dict[str, Schedule]] = None,
        replace: bool = False,
        on_horizon_change: OnHorizonChange = "replan",
    ) -> None:
        super().__init__()
        self.schedule = checked_schedule("schedule", schedule)
        self.interval = interval
        self.monitor = monitor
        check_groups(groups)
        self.groups = groups
        self.replace = replace
        self.on_horizon_change = on_horizon_change

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the schedule where ``configure_optimizers`` would have put it."""
        module = type(pl_module).__name__
        if not any(optimizer.param_groups for optimizer in trainer.optimizers):
            raise InputError(f"{module} has no optimizer, so there is no learning rate to schedule: return one from it")
        present = [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs]
        if present and not self.replace:
            raise InputError(
                f"{module} already has {' and '.join(present)}: remove it from configure_optimizers, "
                "or set replace=True to take its place"
            )
        if present:
            rank_zero_info(f"{describe(self.schedule)} takes the place of {module}'s {' and '.join(present)}.")
            _check_shape(pl_module, len(present), len(trainer.optimizers))
        undo_schedulers(trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs])
        keep_schedules(trainer, self)
        trainer.strategy.lr_scheduler_configs = [self._config(optimizer, trainer) for optimizer in trainer.optimizers]

    def _config(self, optimizer: Optimizer, trainer: Trainer) -> LRSchedulerConfig:
        config = schedule_config(
            optimizer,
            cast("AnySchedule", self.schedule),
            trainer,
            interval=self.interval,
            monitor=self.monitor,
            groups=self.groups,
            on_horizon_change=self.on_horizon_change,
        )["lr_scheduler"]
        follows = isinstance(config["scheduler"], ReduceLROnPlateau)
        if follows and not trainer.lightning_module.automatic_optimization:
            raise InputError("ReduceLROnPlateau cannot follow a module that steps its optimizers by hand: use Plateau")
        return LRSchedulerConfig(**config, reduce_on_plateau=follows)


def _check_shape(module: LightningModule, before: int, now: int) -> None:
    """Refuses a module whose code would find one scheduler where it expects several, or the other way round."""
    kinds = [kind for kind in type(module).__mro__ if not issubclass(LightningModule, kind)]
    calls = mentions([member for kind in kinds for member in vars(kind).values()], "lr_schedulers")
    if before != now and calls and not module.automatic_optimization:
        raise InputError(
            f"{type(module).__name__} calls lr_schedulers() and expects {before} there, but would find {now}, one for "
            "each optimizer: leave these calls out, the schedule is stepped without them"
        )


def undo_schedulers(optimizers: Sequence[Optimizer], schedulers: Iterable[Any]) -> None:
    """Sets optimizers back to what they were given before schedulers were made for them.

    To the rate that the optimizer was given, or the peak of a scheduler that overwrites that with its own; and to its
    own momentum, where a scheduler cycles that.
    """
    schedulers = list(schedulers)
    set_by_them = {float(rate) for scheduler in schedulers for rate in scheduler.get_last_lr()}
    for scheduler in schedulers:
        _undo_cycles(scheduler)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            now = float(group["lr"])
            peak = float(group.pop("max_lr", group.get("initial_lr", now)))
            # What no scheduler has set was found or set since, for instance by LearningRateFinder.
            rate = peak if not schedulers or now in set_by_them else now
            for note in ("min_lr", "max_momentum", "base_momentum"):
                group.pop(note, None)
            set_value(group, "lr", rate)
            group["initial_lr"] = rate


def _undo_cycles(scheduler: Any) -> None:
    for inner in getattr(scheduler, "_schedulers", []):
        _undo_cycles(inner)
    if not isinstance(scheduler, (CyclicLR, OneCycleLR)):
        return
    optimizer = scheduler.optimizer
    for number, group in enumerate(optimizer.param_groups):
        if isinstance(scheduler, CyclicLR):
            # It overwrites the rate as OneCycleLR does, but unlike it leaves no note of the peak in the param group.
            group["max_lr"] = scheduler.max_lrs[number]
        if scheduler.cycle_momentum:
            key = "betas" if "betas" in optimizer.defaults else "momentum"
            group[key] = optimizer.defaults[key]


class LearningRateLogger(Callback):
    """Logs the learning rate of every param group: the one that is used, at the start of each epoch.

    The names are ``lr/<group>``, where the group is the ``name`` of the param group or ``group0``, ``group1``, ...
    They depend on neither optimizer nor scheduler, so runs with different ones share their charts. (Lightning's
    ``LearningRateMonitor`` names curves after the optimizer's class and refuses to run without a logger.)

    Args:
        each_step: Log at every optimizer step as well.
        momentum: Log ``momentum/<group>`` as well: the momentum, or the first beta of Adam-like optimizers.
        weight_decay: Log ``weight_decay/<group>`` as well.
        print_each_epoch: Print a line like ``Epoch 0: SGD lr 0.1000 -> 0.0983``: the rate that the epoch used and the
            one that the next will use.

    >>> LearningRateLogger(print_each_epoch=True).print_each_epoch
    True
    """

    def __init__(
        self,
        each_step: bool = False,
        momentum: bool = False,
        weight_decay: bool = False,
        print_each_epoch: bool = False,
    ) -> None:
        self.each_step = each_step
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.print_each_epoch = print_each_epoch
        self._epoch_started: tuple[int, dict[str, float]] | None = None
        self._logged_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so when there is nowhere to log to."""
        self._epoch_started = None
        if not trainer.loggers:
            rank_zero_info("LearningRateLogger: the trainer has no logger, so learning rates are not logged.")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rates that the epoch begins with."""
        self._print_finished_epoch(trainer)
        self._epoch_started = (trainer.current_epoch, values_of(trainer.optimizers, ["lr"]))
        self._log(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs the rates of a step, when asked."""
        if self.each_step and trainer.global_step != self._logged_step:
            self._log(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line of the last epoch, when asked."""
        self._print_finished_epoch(trainer)

    def _log(self, trainer: Trainer) -> None:
        asked = {"lr": True, "momentum": self.momentum, "weight_decay": self.weight_decay}
        values = values_of(trainer.optimizers, [quantity for quantity, wanted in asked.items() if wanted])
        self._logged_step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics(values, step=self._logged_step)

    # An epoch's line waits for the next epoch to start: only then has a scheduler that follows a metric moved as well.
    def _print_finished_epoch(self, trainer: Trainer) -> None:
        if not self.print_each_epoch or self._epoch_started is None or not trainer.is_global_zero:
            return
        epoch, used = self._epoch_started
        names = [type(optimizer).__name__ for optimizer in trainer.optimizers for _ in optimizer.param_groups]
        after = values_of(trainer.optimizers, ["lr"])
        for optimizer_name, (name, rate) in zip(names, used.items(), strict=False):
            label = "lr" if len(used) == 1 else name
            tqdm.write(f"Epoch {epoch}: {optimizer_name} {label} {rate:.4f} -> {after[name]:.4f}")  # above any bar
