"""The plan of a ``Trainer.fit``: everything up to ``configure_optimizers``, and no training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.states import RunningStage, TrainerFn, TrainerStatus
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.audit import Finding
from lit_lrsched.callbacks import ApplySchedule
from lit_lrsched.configure import AnySchedule, horizon_of, schedule_config
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.logged_names import logged_names
from lit_lrsched.plan import Plan, read_metric
from lit_lrsched.replay import Pace, Replay, Stepped, plan_run, stepped_of
from lit_lrsched.schedules import Interval
from lit_lrsched.schedules.direction import contradiction


class Configured(NamedTuple):
    """What ``fit`` would start from: the module's optimizers and schedulers, and the pace of the run."""

    optimizers: list[Optimizer]
    stepped: list[Stepped]
    pace: Pace


class DoesNotFit(InputError):
    """The schedule and the run do not go together."""


def configure(trainer: Trainer, model: LightningModule, datamodule: LightningDataModule | None = None) -> Configured:
    """Does what ``trainer.fit`` does before training: data, ``setup`` hooks, ``configure_optimizers``.

    Nothing is trained, sent to a device or shared with other processes; nothing is written either, as long as the
    trainer's logger writes nothing.

    Raises:
        DoesNotFit: When training has no known end, or the schedule does not fit it.
    """
    # The steps of Trainer.fit, in their order, without those that launch processes.
    trainer.state.fn = TrainerFn.FITTING
    trainer.state.status = TrainerStatus.RUNNING
    trainer.state.stage = RunningStage.TRAINING
    trainer.strategy._lightning_module = model
    trainer._data_connector.attach_data(model, datamodule=datamodule)
    trainer.strategy.connect(model)
    trainer._callback_connector._attach_model_callbacks()
    trainer._callback_connector._attach_model_logging_functions()
    trainer._data_connector.prepare_data()
    call._call_setup_hook(trainer)
    call._call_configure_model(trainer)
    try:
        optimizers, configs = _init_optimizers_and_lr_schedulers(model)
        trainer.strategy.optimizers, trainer.strategy.lr_scheduler_configs = optimizers, configs
        for callback in _callbacks(trainer):
            # Those that bring a schedule do so here. Others may start training: to find a batch size, say.
            if isinstance(callback, ApplySchedule):
                callback.on_fit_start(trainer, model)
        steppeds = [stepped_of(config) for config in trainer.strategy.lr_scheduler_configs]
        return Configured(trainer.strategy.optimizers, steppeds, pace_of(trainer))
    except InputError as error:
        raise DoesNotFit(str(error)) from error
    finally:
        trainer.fit_loop.teardown()  # its data loader's workers


def pace_of(trainer: Trainer) -> Pace:
    """Returns how a trainer's batches make steps and validations.

    Raises:
        InputError: When training has no known end.
    """
    horizon = horizon_of(trainer)
    in_epoch = horizon.steps_per_epoch or horizon.steps  # where epochs have no one length, training counts as one
    batches = min(trainer.num_training_batches, in_epoch * trainer.accumulate_grad_batches)
    check = trainer.val_check_batch if trainer.enable_validation else None
    return Pace(
        horizon,
        int(batches),
        trainer.accumulate_grad_batches,
        val_every=None if check is None or check == math.inf else int(check),
        val_epochs=trainer.check_val_every_n_epoch,
    )


def plan_fit(trainer: Trainer, configured: Configured, metric: str | None = None) -> tuple[Plan, list[Finding]]:
    """Returns the plan of a configured run, and what there is to say of it besides the curve.

    Args:
        trainer: The trainer.
        configured: What :func:`configure` returned for it.
        metric: File with the recorded metric that a metric-driven schedule is to follow.
    """
    optimizers, steppeds, pace = configured
    monitors = {one.monitor for one in steppeds if one.monitor}
    values: Sequence[float] = read_metric(metric, min(monitors, default="metric")) if metric else ()
    return plan_run(optimizers, steppeds, pace, values), _findings(trainer, steppeds, monitors)


def plans_of(
    trainer: Trainer,
    configured: Configured,
    schedules: Mapping[str, AnySchedule],
    interval: Interval | None = None,
    monitor: str | None = None,
) -> tuple[dict[str, Plan], list[Finding]]:
    """Plans other schedules on the optimizer of a configured run; those that do not fit are findings."""
    plans: dict[str, Plan] = {}
    refused = []
    for name, schedule in schedules.items():
        (optimizer,) = Replay(configured.optimizers[:1], []).optimizers
        for group in optimizer.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])
        try:
            returned = schedule_config(optimizer, schedule, trainer, interval=interval, monitor=monitor)
        except InputError as error:
            refused.append(Finding("failure", f"{name}: {error}"))
            continue
        config: dict[str, Any] = returned.get("lr_scheduler", {})
        steppeds = [Stepped(config["scheduler"], config["interval"], 1, config.get("monitor"))] if config else []
        plans[name] = plan_run([optimizer], steppeds, configured.pace)
    return plans, refused


def _findings(trainer: Trainer, steppeds: Sequence[Stepped], monitors: set[str]) -> list[Finding]:
    found = []
    brought = any(isinstance(callback, ApplySchedule) for callback in _callbacks(trainer))
    if not trainer.lightning_module.automatic_optimization and not brought:
        text = "the module steps its schedulers itself (manual optimization): shown as if it did so once every interval"
        found.append(Finding("warning", text))
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in _callbacks(trainer)):
        text = (
            "GradientAccumulationScheduler changes the number of steps in an epoch, which no schedule can foresee: "
            "set trainer.accumulate_grad_batches instead"
        )
        found.append(Finding("warning", text))
    for one in steppeds:
        if one.frequency > 1 and one.interval == "step":
            text = (
                f"frequency={one.frequency} counts batches within an epoch and starts anew with each: "
                "leave it out, and slow the schedule down instead"
            )
            found.append(Finding("warning", text))
    for one in steppeds:
        if isinstance(one.scheduler, ReduceLROnPlateau) and one.monitor:
            reason = contradiction(one.monitor, one.scheduler.mode)
            found += [Finding("failure", reason)] if reason else []
    return [*found, *(finding for monitor in sorted(monitors) for finding in _not_logged(trainer, monitor))]


def _not_logged(trainer: Trainer, monitor: str) -> list[Finding]:
    module = trainer.lightning_module
    logged = logged_names([type(module), *map(type, _callbacks(trainer))])
    if logged.include(monitor):
        return []
    name, known = type(module).__name__, logged.readable
    near = did_you_mean(monitor, [name for name in known if "*" not in name])
    fix = f"set --lr_monitor to one that it logs{near}: {', '.join(known) or 'none found'}"
    if logged.complete:
        return [Finding("failure", f"the schedule follows {monitor!r}, which {name} does not log: {fix}")]
    return [Finding("warning", f"the schedule follows {monitor!r}, which the source of {name} does not name: {fix}")]


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]  # which Lightning sets from elsewhere
