"""The callback that gives any module a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.errors import InputError
from lit_lrsched.optim.clock import OnHorizonChange
from lit_lrsched.optim.group_schedules import check_groups
from lit_lrsched.optim.param_groups import check_lrs, undo_schedulers, values_of
from lit_lrsched.schedules.core import Interval, Schedule, ScheduleLike, name_of
from lit_lrsched.trainer.callbacks.keeper import ScheduleKeeper, keep_schedules
from lit_lrsched.trainer.lightning_internals import callbacks_of
from lit_lrsched.trainer.lightning_package import (
    LightningModule,
    LRSchedulerConfig,
    Trainer,
    either,
    rank_zero_info,
)
from lit_lrsched.trainer.other_rates import mentions
from lit_lrsched.trainer.schedule_config import AnySchedule, LRSchedulerCallable, checked_schedule, schedule_config


class ApplySchedule(ScheduleKeeper):
    """Gives any LightningModule a schedule without touching its code.

    The module keeps its optimizer. With manual optimization, each of its optimizers gets the schedule, which moves on
    once a training batch. The module's own calls of ``lr_schedulers().step()``, or those in a
    ``lr_scheduler_step`` of its own, do nothing.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule`, a function ``(step, horizon) -> float``, or a callable that takes
            the optimizer and returns a torch scheduler.
        interval: When to step: ``"step"`` or ``"epoch"``. None: ``"step"`` for schedules, ``"epoch"`` for torch's.
        monitor: Name of the logged metric that a metric-driven schedule follows.
        groups: Schedules for momentum, weight decay and single param groups: see :class:`~lit_lrsched.ScheduledLR`.
        replace: Replace a scheduler that the module has already; otherwise such a module is refused.
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
        super().on_fit_start(trainer, pl_module)
        module = type(pl_module).__name__
        if not any(optimizer.param_groups for optimizer in trainer.optimizers):
            raise InputError(f"{module} has no optimizer, so there is no learning rate to schedule: return one from it")
        for optimizer in trainer.optimizers:
            check_lrs(optimizer)
        present = [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs]
        others = [one for one in callbacks_of(trainer) if isinstance(one, ApplySchedule) and one is not self]
        if present and others and not self.replace:
            raise InputError("the trainer has two ApplySchedule, and no rate can follow both: leave one out")
        if present and not self.replace:
            raise InputError(
                f"{module} already has {' and '.join(present)}: remove it from configure_optimizers, "
                "or set replace=True to take its place"
            )
        undo_schedulers(trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs])
        if present:
            rank_zero_info(
                f"{name_of(self.schedule)} takes the place of {module}'s {' and '.join(present)}, "
                f"on the base {_rates(trainer.optimizers)}."
            )
            _check_shape(pl_module, len(present), len(trainer.optimizers))
        keep_schedules(trainer, self)
        trainer.strategy.lr_scheduler_configs = [self._config(optimizer, trainer) for optimizer in trainer.optimizers]

    def _config(self, optimizer: Optimizer, trainer: Trainer) -> LRSchedulerConfig:
        returned = schedule_config(
            optimizer,
            cast("AnySchedule", self.schedule),
            trainer,
            interval=self.interval,
            monitor=self.monitor,
            groups=self.groups,
            on_horizon_change=self.on_horizon_change,
        )
        config = cast("dict[str, Any]", returned["lr_scheduler"])
        follows = isinstance(config["scheduler"], ReduceLROnPlateau)
        if follows and not trainer.lightning_module.automatic_optimization:
            raise InputError("ReduceLROnPlateau does not work with manual optimization: use Plateau")
        return LRSchedulerConfig(**config, reduce_on_plateau=follows)


def _rates(optimizers: Sequence[Optimizer]) -> str:
    rates = dict.fromkeys(f"{rate:.4g}" for rate in values_of(optimizers, ["lr"]).values())
    return f"rate{'s' if len(rates) > 1 else ''} {', '.join(rates)}"


def _check_shape(module: LightningModule, before: int, now: int) -> None:
    """Refuses a module whose code would find another number of schedulers than it expects."""
    lightnings = either(LightningModule)
    kinds = [kind for kind in type(module).__mro__ if not any(issubclass(one, kind) for one in lightnings)]
    calls = mentions([member for kind in kinds for member in vars(kind).values()], "lr_schedulers")
    if before != now and calls and not module.automatic_optimization:
        raise InputError(
            f"{type(module).__name__} calls lr_schedulers() and expects {before} there, but would find {now}, one for "
            "each optimizer: leave these calls out, the schedule is stepped without them"
        )
