"""The callback that steps schedules, shows them their metric and reports on them where the trainer does not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lit_lrsched.class_paths import to_plain
from lit_lrsched.errors import InputError
from lit_lrsched.optim.kept_scheduler import KeptScheduler, kept_by
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.steps import let_go
from lit_lrsched.optim.torch_internals import tells_its_steps
from lit_lrsched.optim.training_loop import scheduler_config
from lit_lrsched.schedules.core import Schedule, stride_of
from lit_lrsched.trainer.horizon import callback_of, horizon_of, steps_reached
from lit_lrsched.trainer.lightning_internals import (
    callbacks_of,
    hyperparameters_to_log,
    is_accumulating,
    loaded_checkpoint,
    resume_data_loaders,
    set_callbacks,
)
from lit_lrsched.trainer.lightning_package import (
    Callback,
    GradientAccumulationScheduler,
    LightningModule,
    Trainer,
    is_overridden,
    rank_zero_info,
    rank_zero_warn,
)
from lit_lrsched.trainer.other_rates import (
    at_odds,
    left_out,
    rates_from_elsewhere,
    rates_tried_by_finder,
    takes_over,
    who_else_sets,
)
from lit_lrsched.trainer.resumed_run import check_not_lost, check_same_kind


def may_step_schedules(module: LightningModule) -> bool:
    """Returns whether the module may step its schedulers itself: the trainer leaves that to it then."""
    return is_overridden("lr_scheduler_step", module) or not module.automatic_optimization


class ScheduleKeeper(Callback):
    """Does for schedules, torch's own as well, what the trainer does not.

    - It says where a resumed run goes on, and lets it go on within an epoch that was cut short, accumulating as before.
    - It shows each plateau its metric.
    - It steps the schedules of a module that may step them itself: see
      :class:`~lit_lrsched.optim.kept_scheduler.KeptScheduler`.
    - It warns when the run changes its length, or when something else sets the learning rate or is about to.

    A plateau sees its metric once after each validation, or after each epoch when it is one of training.
    :func:`schedule_config` puts a keeper into the trainer, before all other callbacks: so they log, and write into
    checkpoints, the state after the present batch, validation or epoch.
    """

    def __init__(self) -> None:
        self._has_checkpoint = False
        self._forget()

    def _forget(self) -> None:
        self._length: tuple[Any, ...] = ()
        self._before_validation: dict[str, Tensor] = {}
        self._of_validation: set[str] = set()
        self._validated = False
        self._epoch_has_begun = False
        self._epoch_is_over = False
        self._epoch_is_cut = False
        self._reported_short_epoch = False
        self._reported_calls = False
        self._reported_rate = False
        self._optimizers: list[Optimizer] = []
        self._silent: list[Optimizer] = []  # those that did not tell of their steps as training began
        self._handles: list[RemovableHandle] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Becomes the first callback, before those that search for a rate or a batch size when fitting starts."""
        set_callbacks(trainer, [self, *(callback for callback in callbacks_of(trainer) if callback is not self)])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what would lose the checkpoint of a resumed run, and an optimizer that it is not of.

        Of schedules among the module's hyperparameters loggers get class path and arguments: as objects, Lightning
        refuses to write them where OmegaConf is installed, and names private modules where it is not.
        """
        check_not_lost(trainer)
        check_same_kind(trainer)
        self._has_checkpoint = bool(loaded_checkpoint(trainer))
        hyperparameters = hyperparameters_to_log(pl_module)
        hyperparameters.update(_plain(dict(hyperparameters)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over what callbacks have changed since the schedule was made, or says where a resumed run goes on.

        Warns when something else will set the learning rate.
        """
        self._forget()
        resume_data_loaders(trainer)
        for text in [*at_odds(trainer), *left_out(trainer)]:
            rank_zero_warn(text)
        self._length = _length_of(trainer)
        self._optimizers = [*trainer.optimizers] if trainer.lr_scheduler_configs else []
        take_over_changes(trainer)
        for scheduler, _ in _scheduled(trainer):
            done = steps_reached(trainer)
            if done == 0:
                continue
            if scheduler.resumed is None:
                tick = done // stride_of(scheduler.interval, scheduler.horizon)
                scheduler.join(tick, anew=not self._has_checkpoint)
            rank_zero_info(scheduler.resumed)
        self._warn_of_length(trainer)
        if rates := rates_from_elsewhere(trainer):
            rank_zero_info(f"The base learning rate is {rates}.")
        for text in takes_over(trainer):
            self._reported_rate = True
            rank_zero_warn(text)

        def look(optimizer: Optimizer, *_: Any) -> None:
            self._look_at_rates(trainer, optimizer)

        # Not a hook of Lightning's: others come after the last one before the step, and may set rates too.
        self._silent = [optimizer for optimizer in trainer.optimizers if not tells_its_steps(optimizer)]
        telling = [optimizer for optimizer in trainer.optimizers if optimizer not in self._silent]
        self._handles = [optimizer.register_step_post_hook(look) for optimizer in telling]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows plateaus the training metric of the epoch before. Warns when the data has changed its length."""
        self._epoch_has_begun = True
        self._epoch_is_cut = False
        self._show_training(trainer)
        if self._length != (now := _length_of(trainer)):
            self._length = now
            self._warn_of_length(trainer)

    def _warn_of_length(self, trainer: Trainer) -> None:
        for scheduler, _ in _scheduled(trainer)[:1]:
            old = scheduler.horizon
            if scheduler.steps_reached and old != (new := horizon_of(trainer)):
                rank_zero_warn(
                    f"the schedule was made for {old} and does not follow: "
                    f"as of epoch {trainer.current_epoch}, training is one of {new}"
                )

    def _warn_of_short_epoch(self, trainer: Trainer) -> None:
        ends = [scheduler for scheduler, _ in _scheduled(trainer) if scheduler.horizon.steps != trainer.max_steps]
        if ends and not self._reported_short_epoch:
            self._reported_short_epoch = True
            batches = cast("Any", trainer.fit_loop.epoch_loop.batch_progress.current)
            done, said = batches.processed, trainer.num_training_batches
            rank_zero_warn(
                f"epoch {trainer.current_epoch} ended after {done} batches of the {said} that its data claims, so "
                "training ends before the schedule does: correct the length of the data, or set "
                f"limit_train_batches={done}"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Lets accumulation go on as it was: a run that goes on within an epoch has no ``on_train_epoch_start``."""
        if not self._epoch_has_begun and (accumulation := callback_of(trainer, GradientAccumulationScheduler)):
            accumulation.on_train_epoch_start(trainer)
        self._epoch_has_begun = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Warns of the first step of another optimizer; looks at the rate of one that does not tell of its steps."""
        self._warn_of_another_optimizer(trainer)
        if optimizer in self._silent:
            self._look_at_rates(trainer, optimizer)

    def _look_at_rates(self, trainer: Trainer, optimizer: Optimizer) -> None:
        """Warns of the first step whose rate something else has set."""
        if self._reported_rate:
            return
        for scheduler, _ in _scheduled(trainer):
            if scheduler.optimizer is optimizer and (changed := scheduler.changed_rate()):
                self._reported_rate = True
                used, planned = changed
                rank_zero_warn(
                    f"the learning rate of step {trainer.global_step} is {used:.6g} where "
                    f"{scheduler.schedule.describe()} says {planned:.6g}: {who_else_sets(trainer, optimizer)} "
                    "sets it as well, and what is set last counts"
                )

    def _warn_of_another_optimizer(self, trainer: Trainer) -> None:
        new = [one for one in trainer.optimizers if one not in self._optimizers]
        if not new or not self._optimizers:
            return
        self._optimizers = []
        driven = any(kept_by(config.scheduler).optimizer in new for config in trainer.lr_scheduler_configs)
        rank_zero_warn(
            f"the optimizer of step {trainer.global_step} is another than training began with, and "
            f"{'its schedule begins there' if driven else 'no schedule drives it'}: keep the first, and add param "
            "groups to it (add_param_group)"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Steps the schedules of a module that may step them itself, for the trainer does not."""
        for config in trainer.lr_scheduler_configs:
            if not isinstance(config.scheduler, KeptScheduler):
                continue
            if not pl_module.automatic_optimization and isinstance(config.scheduler.scheduler, ScheduledLR):
                _check_max_steps(trainer)
            by_step = config.interval == "step"
            if not is_accumulating(trainer) if by_step else trainer.is_last_batch:
                config.scheduler.advance()
            if config.scheduler.was_called and not self._reported_calls:
                self._reported_calls = True
                rank_zero_info(
                    f"{type(pl_module).__name__} calls its scheduler's step() itself. These calls do nothing: "
                    f"the schedule is stepped for it after each {'training batch' if by_step else 'epoch'}."
                )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what is logged already: only what the validation logs anew is a metric of its own."""
        self._before_validation = dict(trainer.callback_metrics) if _plateaus(trainer) else {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows plateaus the metric of a validation."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._validated = True
        for scheduler, monitor in _plateaus(trainer):
            before, now = (metrics.get(monitor) for metrics in (self._before_validation, trainer.callback_metrics))
            if now is not None and (before is None or now.data_ptr() != before.data_ptr()):
                self._of_validation.add(monitor)
                _observe(trainer, scheduler, monitor)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that an epoch is over, unless it was cut short: the module may still log its metric after this."""
        self._epoch_is_over = trainer.is_last_batch
        stops = trainer.should_stop or trainer.global_step == trainer.max_steps
        self._epoch_is_cut = stops and not trainer.is_last_batch
        is_over = trainer.is_last_batch or stops
        if self._epoch_has_begun and not is_over:
            self._warn_of_short_epoch(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Shows plateaus the metric of a finished epoch before its checkpoint is written; marks an epoch cut short.

        Schedules among the module's hyperparameters become class path and arguments, which ``torch.load`` takes: it
        refuses objects.
        """
        if (key := LightningModule.CHECKPOINT_HYPER_PARAMS_KEY) in checkpoint:
            checkpoint[key] = _plain(checkpoint[key])
        if self._epoch_is_cut:
            _go_on_within_epoch(checkpoint)
        if self._epoch_is_over:
            self._show_training(trainer)
            checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows plateaus the training metric of the last epoch, and lets go of the optimizers."""
        self._show_training(trainer)
        let_go(self._handles)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lets go of the optimizers."""
        let_go(self._handles)

    def _show_training(self, trainer: Trainer) -> None:
        if not self._epoch_is_over:
            return
        self._epoch_is_over = False
        for scheduler, monitor in _plateaus(trainer):
            may_come = trainer.enable_validation and not self._validated
            if monitor not in self._of_validation and (monitor in trainer.callback_metrics or not may_come):
                _observe(trainer, scheduler, monitor)


def keep_schedules(trainer: Trainer, keeper: ScheduleKeeper | None = None) -> None:
    """Makes this the trainer's only :class:`ScheduleKeeper`; by default the one that it has, or else a new one."""
    present = callbacks_of(trainer)
    keepers = [one for one in present if isinstance(one, ScheduleKeeper)]
    # One that does more, and has yet to put its schedule in place, must not give way to a plain one.
    keeper = keeper or max(keepers, key=lambda one: type(one) is not ScheduleKeeper, default=None) or ScheduleKeeper()
    set_callbacks(trainer, [keeper, *(one for one in present if not isinstance(one, ScheduleKeeper))])


def _plain(value: Any) -> Any:
    """Returns a value with class path and arguments in place of the schedules in it that have a path."""
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, Schedule):
        with suppress(InputError):
            return to_plain(value)
    return value


def take_over_changes(trainer: Trainer) -> None:
    """Takes over, before the first step, rates and a length that callbacks have changed since schedules were made."""
    for scheduler, _ in _scheduled(trainer):
        if scheduler.steps_reached is None or steps_reached(trainer):  # None: made without schedule_config
            continue
        scheduler.take_rates(rates_tried_by_finder(trainer))
        old, new = scheduler.horizon, horizon_of(trainer)
        if old != new:
            scheduler.plan_anew(new)
            rank_zero_info(f"The schedule is planned anew for {new}, not {old}.")


def _check_max_steps(trainer: Trainer) -> None:
    steps, batches = trainer.global_step, trainer.fit_loop.total_batch_idx + 1
    if trainer.max_steps != -1 and steps != batches:
        raise InputError(
            f"max_steps={trainer.max_steps} counts every optimizer step of {type(trainer.lightning_module).__name__}, "
            f"{steps} in {batches} batches, so the end of training is not known: set max_epochs instead"
        )


def _length_of(trainer: Trainer) -> tuple[Any, ...]:
    return trainer.num_training_batches, trainer.max_epochs, trainer.max_steps


def _go_on_within_epoch(checkpoint: dict[str, Any]) -> None:
    """Lets a run that goes on from a checkpoint train the rest of the epoch that was cut short.

    ``should_stop``, which EarlyStopping and ``max_time`` set, ends an epoch after any batch, and so does ``max_steps``.
    Lightning counts it as one that is done, so that a resumed run would go without its other batches, and end before
    its schedule does.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for counts in (progress["current"], progress["total"]):
        counts["processed"] = counts["completed"] = counts["started"] - 1


def _observe(trainer: Trainer, scheduler: ScheduledLR, monitor: str) -> None:
    logged = trainer.callback_metrics
    if monitor not in logged:
        names = ", ".join(logged) or "nothing"
        raise InputError(
            f"Plateau follows {monitor!r}, which is not logged when an epoch ends: set its monitor to one of {names}"
        )
    # Processes may disagree on a metric that was not reduced, and must not on the learning rate.
    value: Any = trainer.strategy.reduce(torch.as_tensor(logged[monitor]).clone(), reduce_op="mean")
    scheduler.observe(float(value))


def _plateaus(trainer: Trainer) -> list[tuple[ScheduledLR, str]]:
    return [(scheduler, monitor) for scheduler, monitor in _scheduled(trainer) if scheduler.plateau is not None]


def _scheduled(trainer: Trainer) -> list[tuple[ScheduledLR, str]]:
    configs = map(scheduler_config, trainer.lr_scheduler_configs)
    return [(one.scheduler, one.monitor or "") for one in configs if isinstance(one.scheduler, ScheduledLR)]
