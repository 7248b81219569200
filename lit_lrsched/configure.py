"""What a module's ``configure_optimizers`` returns: optimizer, scheduler, and when to step it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, Union, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.errors import InputError, shown
from lit_lrsched.kept import KeptScheduler, kept_by
from lit_lrsched.lightning_package import (
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LightningModule,
    StochasticWeightAveraging,
    Trainer,
    rank_zero_info,
    rank_zero_warn,
)
from lit_lrsched.plain import from_plain
from lit_lrsched.scheduled_lr import OnHorizonChange, ScheduledLR
from lit_lrsched.schedules import Constant, Horizon, Interval, Plateau, Schedule, ScheduleLike
from lit_lrsched.schedules.core import NoEpochs, epoch_length, stride_of, told
from lit_lrsched.schedules.direction import contradiction
from lit_lrsched.schedules.plateau import following

LRSchedulerCallable = Callable[[Optimizer], LRScheduler]
AnySchedule = Union[ScheduleLike, LRSchedulerCallable, Mapping[str, Any]]
_Callback = TypeVar("_Callback", bound=Callback)


def schedule_config(
    optimizer: Optimizer,
    schedule: AnySchedule | None,
    trainer: Trainer,
    *,
    interval: Interval | None = None,
    monitor: str | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    on_horizon_change: OnHorizonChange = "replan",
) -> dict[str, Any]:
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
        InputError: When the length of training is unknown, the schedule does not fit it, or a metric-driven scheduler
            has nothing to monitor.

    Example::

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=3e-4)
            return schedule_config(optimizer, WarmupCosine(warmup="5%"), self.trainer)
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer={shown(optimizer)} is no torch optimizer: make one, like SGD(parameters, lr=0.1)")
    if schedule is not None:
        schedule = checked_schedule("schedule", schedule)
    if schedule is None and groups:
        schedule = Constant()
    if schedule is None:
        return {"optimizer": optimizer}
    if is_schedule(schedule):
        schedule = following(cast("ScheduleLike", schedule), monitor)
        interval = interval or "step"
        scheduler: LRScheduler = _bind(optimizer, schedule, trainer, interval, groups, on_horizon_change)
        if isinstance(schedule, Plateau):
            monitor = schedule.monitor
        keep_schedules(trainer)
    else:
        interval = interval or "epoch"
        scheduler = made_scheduler(cast("LRSchedulerCallable", schedule), optimizer)
        if isinstance(scheduler, ReduceLROnPlateau) and monitor is None:
            raise InputError("ReduceLROnPlateau follows a metric: name it, for example --lr_monitor val_loss")
        check_direction(scheduler, monitor)
        if groups:
            raise InputError(
                f"groups go with lit_lrsched's schedules: wrap it, FromTorch({type(scheduler).__name__!r})"
            )
    if _may_step_schedules(trainer.lightning_module) and not isinstance(scheduler, ReduceLROnPlateau):
        scheduler = KeptScheduler(scheduler)
        keep_schedules(trainer)
    config = {"scheduler": scheduler, "interval": interval, "monitor": monitor, "name": None}
    if not trainer.lightning_module.automatic_optimization:
        del config["monitor"]  # Lightning warns that it ignores this key in manual optimisation
    return {"optimizer": optimizer, "lr_scheduler": config}


def _may_step_schedules(module: LightningModule) -> bool:
    """Tells whether it is the module that steps schedulers, rather than the trainer."""
    own_hook = getattr(module.lr_scheduler_step, "__func__", None) is not LightningModule.lr_scheduler_step
    return own_hook or not module.automatic_optimization


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
        raise InputError(f"{_why_no_epochs(trainer)}: {fix}") from error
    except InputError as error:
        if not getattr(trainer, "fast_dev_run", False):
            raise
        # What is wrong on any horizon is wrong here as well.
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
    if reason := contradiction(monitor, scheduler.mode, "--lr_scheduler.mode"):
        raise InputError(reason)


def checked_schedule(name: str, schedule: object) -> Any:
    """Returns a schedule that was given in any of its ways, live.

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


def made_scheduler(make: LRSchedulerCallable, optimizer: Optimizer) -> LRScheduler:
    """Returns the torch scheduler that a callable makes.

    Raises:
        InputError: When it refuses its arguments, or makes something else.
    """
    try:
        scheduler: object = make(optimizer)
    except InputError:
        raise
    except Exception as error:  # of any kind: torch checks few arguments, and stumbles over the others
        raise InputError(f"the scheduler cannot be made: {told(error)}: correct its arguments") from error
    if not isinstance(scheduler, LRScheduler):
        raise InputError(f"schedule returned {shown(scheduler)}, which is no torch scheduler: return one")
    return scheduler


def is_schedule(schedule: object) -> bool:
    """Tells a schedule, which takes ``(step, horizon)``, from a callable that takes an optimizer."""
    if isinstance(schedule, Schedule):
        return True
    if isinstance(schedule, type) or not callable(schedule):
        return False
    required = [
        parameter
        for parameter in inspect.signature(schedule).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) == 2


def horizon_of(trainer: Trainer) -> Horizon:
    """Returns how many optimizer steps a trainer will take, and how many an epoch has, where those have one length.

    Raises:
        InputError: When training has no known end.
    """
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    steps = _stepping_batches(trainer)
    if steps == math.inf:
        raise InputError(
            "max_epochs=-1 trains without end, as max_time alone does, so a schedule has no horizon: "
            "set max_epochs or max_steps"
        )
    if steps == -1:
        raise InputError("the training data has no length, so a schedule has no horizon: set max_steps")
    if steps == 0:
        raise InputError("there is nothing to train, no batches or no steps, so a schedule has no horizon")
    if _why_no_epochs(trainer):
        return Horizon(int(steps))
    batches = trainer.num_training_batches
    return Horizon(int(steps), steps_per_epoch=math.ceil(batches / trainer.accumulate_grad_batches))


def _stepping_batches(trainer: Trainer) -> float:
    if trainer.limit_train_batches == 0:
        return 0
    accumulation, batches = _accumulation(trainer), trainer.num_training_batches
    averaging = _callback(trainer, StochasticWeightAveraging)
    if not (accumulation or averaging) or batches == math.inf or trainer.max_epochs in (None, -1):
        return trainer.estimated_stepping_batches
    # To measure statistics of BatchNorm, averaging adds an epoch at the end, which takes no steps.
    epochs = min(trainer.max_epochs, getattr(averaging, "swa_end", math.inf) + 1)
    steps = sum(
        math.ceil(
            batches
            / (accumulation.get_accumulate_grad_batches(epoch) if accumulation else trainer.accumulate_grad_batches)
        )
        for epoch in range(int(epochs))
    )
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def _accumulation(trainer: Trainer) -> GradientAccumulationScheduler | None:
    return _callback(trainer, GradientAccumulationScheduler)


def _callback(trainer: Trainer, kind: type[_Callback]) -> _Callback | None:
    return next((one for one in callbacks_of(trainer) if isinstance(one, kind)), None)


def _why_no_epochs(trainer: Trainer) -> str | None:
    if trainer.num_training_batches == math.inf:
        return "the training data has no length, so its epochs have none"
    if _accumulation(trainer) is not None:
        return "GradientAccumulationScheduler gives epochs different numbers of steps, so they have no one length"
    return None


def steps_reached(trainer: Trainer) -> int:
    """Returns the step of the horizon that training stands at, so that both will end together.

    Epochs done and batches of this one, as the trainer counts them, or optimizer steps where those limit training.
    Several optimizers, stepped by hand, may take any number of steps in a batch; batches keep time with the horizon.
    """
    horizon = horizon_of(trainer)
    if horizon.steps == trainer.max_steps or _why_no_epochs(trainer):
        return trainer.global_step
    loop = trainer.fit_loop
    epochs, batches = cast("Any", loop.epoch_progress.current), cast("Any", loop.epoch_loop.batch_progress.current)
    amid = loop.restarting and epochs.started > epochs.processed
    in_epoch = epoch_length("the step reached", horizon)
    inside = min(batches.processed // trainer.accumulate_grad_batches, in_epoch) if amid else 0
    return int(epochs.processed * in_epoch + inside)


class ScheduleKeeper(Callback):
    """Does for schedules what the trainer does not.

    It tells of resuming, shows each plateau its metric, steps the schedules of a module that may step them itself (see
    :class:`~lit_lrsched.kept.KeptScheduler`), and warns of what no schedule could foresee.

    A plateau sees its metric once after each validation, or after each epoch when it is one of training.
    :func:`schedule_config` puts a keeper into the trainer, before all other callbacks: so what these log, and write
    into checkpoints, is the state after the batch, validation or epoch that it belongs to.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._planned_by: tuple[Any, ...] = ()
        self._before_validation: dict[str, Tensor] = {}
        self._of_validation: set[str] = set()
        self._validated = False
        self._epoch_is_over = False
        self._told_of_calls = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up what callbacks have changed since the schedule was made, or tells from where a resumed run goes on.

        Warns of what will take the learning rate out of the schedule's hands.
        """
        self._forget()
        resume_data(trainer)
        self._planned_by = _what_plans(trainer)
        for scheduler, _ in _scheduled(trainer):
            done = steps_reached(trainer)
            if done == 0:
                _begin(trainer, scheduler)
                continue
            if scheduler.resumed is None:
                scheduler.join(done // stride_of(scheduler.interval, scheduler.horizon))
            rank_zero_info(scheduler.resumed)
        self._warn_of_length(trainer)
        if rates := rates_from_elsewhere(trainer):
            rank_zero_info(f"The base learning rate is {rates}.")
        for what in takes_over(trainer):
            rank_zero_warn(what)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows plateaus the training metric of the epoch before. Warns when the data has changed its length."""
        self._show_training(trainer)
        if self._planned_by != (now := _what_plans(trainer)):
            self._planned_by = now
            self._warn_of_length(trainer)

    def _warn_of_length(self, trainer: Trainer) -> None:
        for scheduler, _ in _scheduled(trainer)[:1]:
            old = scheduler.horizon
            if scheduler.steps_reached and old != (new := horizon_of(trainer)):
                rank_zero_warn(
                    f"the schedule was made for {old} and does not follow: "
                    f"as of epoch {trainer.current_epoch}, training is one of {new}"
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Steps the schedules of a module that may step them itself: the trainer leaves that to the module."""
        for config in trainer.lr_scheduler_configs:
            if not isinstance(config.scheduler, KeptScheduler):
                continue
            if not pl_module.automatic_optimization and isinstance(config.scheduler.scheduler, ScheduledLR):
                _check_max_steps(trainer)
            by_step = config.interval == "step"
            if not trainer.fit_loop._should_accumulate() if by_step else trainer.is_last_batch:
                config.scheduler.advance()
            if config.scheduler.was_called and not self._told_of_calls:
                self._told_of_calls = True
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

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Sees to it that the checkpoint of a finished epoch knows the epoch's training metric."""
        if self._epoch_is_over:
            self._show_training(trainer)
            checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows plateaus the training metric of the last epoch."""
        self._show_training(trainer)

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
    keeper = keeper or next((one for one in present if isinstance(one, ScheduleKeeper)), None) or ScheduleKeeper()
    others = [one for one in present if not isinstance(one, ScheduleKeeper)]
    cast("Any", trainer).callbacks = [keeper, *others]  # a new list: the trainer may be going through the old one


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Returns the trainer's callbacks."""
    callbacks: list[Callback] = cast("Any", trainer).callbacks
    return callbacks


def _begin(trainer: Trainer, scheduler: ScheduledLR) -> None:
    """Takes up what was changed between the making of a schedule and the first step."""
    if scheduler.steps_reached is None:  # not of our making
        return
    scheduler.take_rates(_found_rates(trainer))
    old, new = scheduler.horizon, horizon_of(trainer)
    if old != new:
        scheduler.plan_anew(new)
        rank_zero_info(f"The schedule is planned anew for {new}, not {old}.")


def rates_from_elsewhere(trainer: Trainer) -> str:
    """Returns the base rates, and who has set them, where it was not ``configure_optimizers``; otherwise nothing."""
    taken = [rate for scheduler, _ in _scheduled(trainer) for rate in scheduler.taken.values()]
    if not taken:
        return ""
    found = set(taken) <= set(_found_rates(trainer))
    who = "LearningRateFinder" if found else "something else than configure_optimizers"
    return f"{', '.join(dict.fromkeys(f'{rate:.6g}' for rate in taken))}, set before training by {who}"


def _found_rates(trainer: Trainer) -> Collection[float]:
    """Returns the rates that a finder has tried, of which it has set one."""
    finder = _callback(trainer, LearningRateFinder)
    tried: list[float] = finder.optimal_lr.results["lr"] if finder and finder.optimal_lr else []
    return tried


def takes_over(trainer: Trainer) -> list[str]:
    """Returns what will take the learning rate out of the schedule's hands, a sentence each."""
    if not trainer.lr_scheduler_configs:
        return []
    found = []
    averaging = _callback(trainer, StochasticWeightAveraging)
    if averaging is not None:
        found.append(
            "StochasticWeightAveraging sets the learning rate itself from its swa_epoch_start on: "
            "the plan holds until then"
        )
    module = trainer.lightning_module
    if mentions([vars(kind).get("optimizer_step") for kind in type(module).__mro__[:-1]], "param_groups"):
        found.append(
            f"{type(module).__name__}.optimizer_step works on param_groups: where it sets a learning rate, that one is "
            "used and not the planned one"
        )
    return found


def mentions(functions: Iterable[Any], name: str) -> bool:
    """Tells whether the code of a function names an attribute."""
    codes = (getattr(inspect.unwrap(function), "__code__", None) for function in functions if callable(function))
    return any(name in code.co_names for code in codes if code is not None)


def _check_max_steps(trainer: Trainer) -> None:
    steps, batches = trainer.global_step, trainer.fit_loop.total_batch_idx + 1
    if trainer.max_steps != -1 and steps != batches:
        raise InputError(
            f"max_steps={trainer.max_steps} counts every step that {type(trainer.lightning_module).__name__} takes by "
            f"hand, {steps} in {batches} batches, so a schedule cannot tell where training ends: set max_epochs instead"
        )


def _what_plans(trainer: Trainer) -> tuple[Any, ...]:
    return trainer.num_training_batches, trainer.max_epochs, trainer.max_steps


def resume_data(trainer: Trainer) -> None:
    """Lets stateful data loaders of a resumed run go on where they were, when they were set up before their time."""
    # Lightning resumes stateful data loaders while it sets up the data. To know the horizon, that was done before it
    # had read the checkpoint's loops: the loaders' states are still waiting.
    loop = trainer.fit_loop
    if loop._combined_loader_states_to_load and loop.restarting and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


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
    return [
        (scheduler, config.monitor or str(getattr(scheduler.schedule, "monitor", "")))
        for config in trainer.lr_scheduler_configs
        if isinstance(scheduler := kept_by(config.scheduler), ScheduledLR)
    ]
