"""The plan of a ``Trainer.fit``: everything up to ``configure_optimizers``, and no training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.optim.kept_scheduler import KeptScheduler, kept_by
from lit_lrsched.optim.lengths import made_for
from lit_lrsched.optim.param_groups import back_to_bases
from lit_lrsched.optim.replay import Replay
from lit_lrsched.optim.run_plan import is_metric_driven, metrics_followed, plan_run
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.training_loop import Resumed, SchedulerConfig, TrainingLoop, scheduler_config
from lit_lrsched.plans.audit import Finding, Level, audit, audit_lengths
from lit_lrsched.plans.curve import sample
from lit_lrsched.plans.metric_file import recorded
from lit_lrsched.plans.plan import Plan
from lit_lrsched.plans.view import View
from lit_lrsched.schedules.direction import contradiction
from lit_lrsched.trainer.callbacks.apply_schedule import ApplySchedule
from lit_lrsched.trainer.callbacks.keeper import may_step_schedules
from lit_lrsched.trainer.horizon import callback_of, horizon_of
from lit_lrsched.trainer.lightning_internals import begin_fit, callbacks_of, configured_optimizers
from lit_lrsched.trainer.lightning_package import (
    BatchSizeFinder,
    Callback,
    EarlyStopping,
    LearningRateFinder,
    LightningDataModule,
    LightningModule,
    LRSchedulerConfig,
    ModelCheckpoint,
    Trainer,
    either,
    is_overridden,
)
from lit_lrsched.trainer.logged_names import logged_names
from lit_lrsched.trainer.other_rates import at_odds, left_out, takes_over
from lit_lrsched.trainer.resumed_run import left_without_schedule, read_checkpoint, resumed_run
from lit_lrsched.trainer.schedule_config import AnySchedule, schedule_config


class Configured(NamedTuple):
    """What ``fit`` would start from: the module's optimizers and schedulers, and the training loop."""

    optimizers: list[Optimizer]
    configs: list[SchedulerConfig]
    loop: TrainingLoop
    resumed: Resumed | None = None


class DoesNotFit(InputError):
    """The schedule and the run do not go together."""


def configure(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    checkpoint: str | None = None,
    weights_only: bool | None = None,
) -> Configured:
    """Does what ``trainer.fit`` does before training: data, ``setup`` hooks, ``configure_optimizers``.

    Nothing is trained, sent to a device or shared with other processes; nothing is written either, as long as the
    trainer's logger writes nothing.

    Args:
        trainer: The trainer.
        model: The module to train.
        datamodule: Its data.
        checkpoint: The checkpoint that the run is to go on from.
        weights_only: How to read it, as for ``trainer.fit``.

    Raises:
        DoesNotFit: When training has no known end, or the schedule does not fit it.
        InputError: When the checkpoint cannot be read.
    """
    begin_fit(trainer, model, datamodule)
    if checkpoint is not None:
        read_checkpoint(trainer, checkpoint, weights_only)
    try:
        trainer.strategy.optimizers, trainer.strategy.lr_scheduler_configs = configured_optimizers(model)
        for callback in callbacks_of(trainer):
            # Those that bring a schedule do so here. Others may start training: to find a batch size, say.
            if isinstance(callback, ApplySchedule):
                callback.on_fit_start(trainer, model)
        configs = [scheduler_config(config) for config in trainer.strategy.lr_scheduler_configs]
        return Configured(trainer.strategy.optimizers, configs, training_loop_of(trainer), resumed_run(trainer))
    except InputError as error:
        raise DoesNotFit(str(error)) from error
    finally:
        trainer.fit_loop.teardown()  # its data loader's workers


def training_loop_of(trainer: Trainer) -> TrainingLoop:
    """Returns how a trainer's batches make steps and validations.

    Raises:
        InputError: When training has no known end.
    """
    horizon = horizon_of(trainer)
    in_epoch = horizon.steps_per_epoch or horizon.steps  # where epochs have no one length, training counts as one
    batches = min(trainer.num_training_batches, in_epoch * trainer.accumulate_grad_batches)
    check = trainer.val_check_batch if trainer.enable_validation else None
    return TrainingLoop(
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

    Raises:
        DoesNotFit: When the checkpoint does not fit the run.
    """
    optimizers, configs, loop, resumed = configured
    values = recorded(metric, metrics_followed(configs))
    try:
        plan = plan_run(optimizers, configs, loop, values, resumed)
    except InputError as error:
        if resumed is None:
            raise
        raise DoesNotFit(str(error)) from error
    except Exception as error:  # of somebody's scheduler, which may train well and yet not let itself be tried out
        raise DoesNotFit(_untried(error)) from error
    return plan, [*_findings(trainer, configs), *_takes_over(trainer)]


def view_fit(trainer: Trainer, configured: Configured, metric: str | None = None) -> View:
    """Returns the plan of a configured run, its curve and all that is wrong with it: see :func:`plan_fit`."""
    plan, known = plan_fit(trainer, configured, metric)
    curve = sample(plan)
    return View(plan, curve, _judged(trainer, known, audit(plan, curve.since(plan.begun)), plan.broken))


def audit_fit(trainer: Trainer) -> list[Finding]:
    """Returns what is wrong with the plan of a run that is about to start: what :func:`view_fit` finds, and as fast.

    Of a resumed run only what is still to come is looked at. A scheduler of torch's with very many ticks is judged by
    the lengths that it was given alone: its curve would have to be replayed tick by tick.

    Args:
        trainer: A trainer in ``on_fit_start``, whose optimizers and schedulers are configured.
    """
    configs = [scheduler_config(config) for config in trainer.strategy.lr_scheduler_configs]
    known = _findings(trainer, configs)
    if not configs:
        return known
    try:
        loop = training_loop_of(trainer)
    except InputError:  # training has no known end, which torch's schedulers do not mind
        return _judged(trainer, known, [])
    if is_too_long_to_replay(configs, loop):
        lengths = [made for one in configs for made in made_for(one.scheduler)]
        names = " + ".join(type(one.scheduler).__name__ for one in configs)
        found = audit_lengths(Plan(names, loop.horizon, "step", lambda step: {}, made_for=lengths))
        return _judged(trainer, known, found or [_not_replayed(names, loop)])
    try:
        plan = plan_run(trainer.strategy.optimizers, configs, loop, resumed=resumed_run(trainer))
    except InputError:  # of a checkpoint that does not fit, which is told as it is taken up
        return _judged(trainer, known, [])
    except Exception as error:  # of somebody's scheduler, which may train well and yet not let itself be tried out
        return _judged(trainer, known, [Finding("warning", _untried(error))])
    return _judged(trainer, known, audit(plan, sample(plan).since(plan.begun)), plan.broken)


def _untried(error: Exception) -> str:
    return f"the schedule cannot be tried out before training ({type(error).__name__}: {error})"


_MOST_REPLAYED = 200_000  # two seconds


def is_too_long_to_replay(configs: Sequence[SchedulerConfig], loop: TrainingLoop) -> bool:
    """Tells a run whose plan takes long, since a scheduler of torch's would be replayed through very many ticks."""
    return loop.horizon.steps > _MOST_REPLAYED and any(
        one.interval == "step" and not isinstance(one.scheduler, ScheduledLR) for one in configs
    )


def _not_replayed(names: str, loop: TrainingLoop) -> Finding:
    text = f"{names} moves on {loop.horizon.steps:,} times, too often to be tried out before training: see its preview"
    return Finding("warning", text)


def _judged(
    trainer: Trainer, known: Sequence[Finding], of_plan: Sequence[Finding], broken: str | None = None
) -> list[Finding]:
    """Returns all findings, failures as warnings where the plan may be another than what is meant in the end.

    The plan of a module that steps its schedulers itself is a guess. Of a run on a part of the training data nobody
    expects that a schedule of full length fits; but one that stops training is in the way there as well.
    """
    is_guess = steps_schedulers_itself(trainer)
    if is_guess and broken:
        of_plan = [Finding("warning", broken.replace("training will stop", "the schedule cannot be tried out"))]
    limit = trainer.limit_train_batches  # overfit_batches sets it too
    on_a_part = limit != 1.0 or isinstance(limit, int)  # 1 is one batch
    soft = [*known, *of_plan] if is_guess else of_plan if on_a_part and not broken else []
    return [Finding("warning", one.text) if one in soft else one for one in [*known, *of_plan]]


def steps_schedulers_itself(trainer: Trainer) -> bool:
    """Returns whether the module steps its schedulers when it likes, so that their plan is a guess."""
    kept = all(isinstance(config.scheduler, KeptScheduler) for config in trainer.strategy.lr_scheduler_configs)
    return may_step_schedules(trainer.lightning_module) and not kept


def plans_of(
    trainer: Trainer,
    configured: Configured,
    schedules: Mapping[str, AnySchedule],
    metric: str | None = None,
    **options: Any,
) -> tuple[dict[str, Plan], list[Finding]]:
    """Plans other schedules on the optimizer of a configured run; those that do not fit are findings.

    Args:
        trainer: The trainer.
        configured: What :func:`configure` returned for it.
        schedules: The schedules by name.
        metric: File with the recorded metric that a metric-driven schedule is to follow.
        options: How they are used, as :func:`schedule_config` takes it.
    """
    made: dict[str, tuple[Optimizer, list[SchedulerConfig]]] = {}
    plans: dict[str, Plan] = {}
    refused = []
    for name, schedule in schedules.items():
        (optimizer,) = Replay(configured.optimizers[:1], []).optimizers
        for group in optimizer.param_groups:
            back_to_bases(group)
        try:
            returned = schedule_config(optimizer, schedule, trainer, **options)
            config = cast("dict[str, Any]", returned.get("lr_scheduler", {}))
            made[name] = optimizer, [scheduler_config(LRSchedulerConfig(**config))] if config else []
        except InputError as error:
            refused.append(Finding("failure", f"{name}: {error}"))
    values = recorded(metric, metrics_followed([config for _, configs in made.values() for config in configs]))
    for name, (optimizer, configs) in made.items():
        try:
            plans[name] = plan_run([optimizer], configs, configured.loop, values, configured.resumed)
        except InputError as error:
            refused.append(Finding("failure", f"{name}: {error}"))
    return plans, refused


_FINDERS: dict[type[Callback], str] = {
    LearningRateFinder: "LearningRateFinder sets another base rate before training: shown for the configured one",
    BatchSizeFinder: "BatchSizeFinder changes the number of steps before training: shown for the configured batch size",
}


def _takes_over(trainer: Trainer) -> list[Finding]:
    """Returns who will set the learning rate beside the schedule, or its length; ``fit`` says so by itself."""
    finders = [text for kind, text in _FINDERS.items() if callback_of(trainer, kind)]
    return [Finding("warning", text) for text in (*takes_over(trainer), *left_out(trainer), *finders)]


def _findings(trainer: Trainer, configs: Sequence[SchedulerConfig]) -> list[Finding]:
    """Returns what there is to say of a run besides the curve of its plan."""
    found = []
    if text := left_without_schedule(trainer):
        found.append(Finding("warning", f"{text}; give the schedule again"))
    if steps_schedulers_itself(trainer):
        how = "lr_scheduler_step" if trainer.lightning_module.automatic_optimization else "manual optimization"
        text = f"the module steps its schedulers itself ({how}): shown as if it did so once every interval"
        found.append(Finding("warning", text))
    found += [Finding("failure", text) for text in at_odds(trainer)]
    for config in configs:
        if config.frequency > 1 and config.interval == "step":
            text = (
                f"frequency={config.frequency} counts batches within an epoch and starts anew with each: "
                "leave it out, and slow the schedule down instead"
            )
            found.append(Finding("warning", text))
    for config in configs:
        if isinstance(config.scheduler, ReduceLROnPlateau) and config.monitor:
            reason = contradiction(config.monitor, config.scheduler.mode)
            found += [Finding("failure", reason)] if reason else []
    return [*found, *_of_monitors(trainer, configs)]


def _of_monitors(trainer: Trainer, configs: Sequence[SchedulerConfig]) -> Iterator[Finding]:
    """Yields what is wrong with the metrics that schedules and callbacks follow."""
    # Any other scheduler may have a monitor too, which nobody looks at.
    following = {
        scheduler
        for config in trainer.strategy.lr_scheduler_configs
        if config.strict and (is_metric_driven(scheduler := kept_by(config.scheduler)) or config.reduce_on_plateau)
    }
    every = trainer.check_val_every_n_epoch or 1
    for monitor, is_early in dict.fromkeys(
        (config.monitor, isinstance(config.scheduler, ReduceLROnPlateau) and not _waits(config, every))
        for config in configs
        if config.scheduler in following
    ):
        if not monitor:
            continue
        found = _not_logged(trainer, monitor, "the schedule", "monitor")
        if not found and monitor.startswith("val") and is_early:
            text = (
                f"ReduceLROnPlateau asks for {monitor!r} in epochs without it, as check_val_every_n_epoch={every}: "
                f"set its frequency to {every}, or use Plateau, which waits for it"
            )
            found = [Finding("failure", text)]
        yield from found
    for callback in callbacks_of(trainer):
        stops = isinstance(callback, either(EarlyStopping)) and callback.strict
        follows = stops or isinstance(callback, either(ModelCheckpoint))
        monitor = getattr(callback, "monitor", None)
        if follows and monitor and monitor not in ("epoch", "step"):
            # Without validation a checkpoint is not written, and Lightning trains on.
            unvalidated: Level = "failure" if stops else "warning"
            yield from _not_logged(trainer, monitor, type(callback).__name__, "its monitor", unvalidated)


def _waits(config: SchedulerConfig, every: int) -> bool:
    """Tells a scheduler that is stepped after epochs with a validation alone, as Lightning asks for."""
    return every == 1 or (config.interval == "epoch" and config.frequency % every == 0)


def _not_logged(
    trainer: Trainer, monitor: str, follower: str, option: str, unvalidated: Level = "failure"
) -> list[Finding]:
    module = trainer.lightning_module
    follows = f"{follower} follows {monitor!r}"
    if monitor.startswith("val") and is_overridden("validation_step", module) and not trainer.enable_validation:
        off = trainer.limit_val_batches == 0
        why = "limit_val_batches=0 turns validation off" if off else "there is no validation data"
        return [Finding(unvalidated, f"{follows}, but {why}: set {option} to a metric of training")]
    logged = logged_names([type(module), *(type(one) for one in callbacks_of(trainer) if not _is_ours(one))])
    if logged.include(monitor):
        return []
    name, known = type(module).__name__, logged.readable
    near = did_you_mean(monitor, [name for name in known if "*" not in name])
    fix = f"set {option} to one that it logs{near}: {', '.join(known) or 'none found'}"
    if logged.complete:
        return [Finding("failure", f"{follows}, which {name} does not log: {fix}")]
    return [Finding("warning", f"{follows}, which the source of {name} does not name: {fix}")]


def _is_ours(callback: Callback) -> bool:
    return type(callback).__module__.partition(".")[0] == "lit_lrsched"
