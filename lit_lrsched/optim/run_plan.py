"""The plan of a run: what its schedulers will set its optimizers to."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.errors import InputError
from lit_lrsched.optim.dummy_optimizer import DummyOptimizer, check_replayable
from lit_lrsched.optim.from_torch import made_scheduler
from lit_lrsched.optim.lengths import LENGTHS, made_for
from lit_lrsched.optim.param_groups import group_values, works_out_its_rate
from lit_lrsched.optim.replay import Replay
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.training_loop import Resumed, SchedulerConfig, TrainingLoop
from lit_lrsched.plans.plan import MadeFor, Plan, is_constant, is_function, notes_on, plateau_states, replayed_in_words
from lit_lrsched.schedules.checks import check_positive
from lit_lrsched.schedules.core import Horizon, Interval, stride_of, title_of
from lit_lrsched.schedules.direction import contradiction
from lit_lrsched.schedules.plateau import Plateau


def plan_run(
    optimizers: Sequence[Optimizer],
    configs: Sequence[SchedulerConfig],
    loop: TrainingLoop,
    metric: Sequence[float] = (),
    resumed: Resumed | None = None,
) -> Plan:
    """Plans what schedulers will set their optimizers to. Optimizers and schedulers are left as they are.

    Args:
        optimizers: The optimizers of a run.
        configs: Their schedulers, none for constant values.
        loop: The run.
        metric: Recorded values of the metric that a metric-driven scheduler follows, one a validation.
        resumed: Where the run goes on, when it was stopped. What is planned before that is what was used as far as the
            checkpoint tells.

    Raises:
        InputError: When the run is too long to be looked at, or the checkpoint does not fit.
    """
    if resumed is None:
        return _plan_from(0, optimizers, configs, loop, metric)
    replay = Replay(optimizers, configs)
    replay.restore(resumed)
    after = _plan_from(resumed.step, replay.optimizers, replay.configs, loop, metric)
    past = _past(optimizers, configs, resumed)
    before = _plan_from(resumed.step if _are_ours(configs) else 0, past.optimizers, past.configs, loop, metric)
    ours = [config.scheduler for config in replay.configs if isinstance(config.scheduler, ScheduledLR)]
    policy = next((scheduler.policy for scheduler in ours if scheduler.policy), None)
    return replace(
        after,
        at=lambda step: (before if step < resumed.step else after).at(step),
        spans=() if policy else after.spans,
        made_for=_taken_over(after.made_for, [made for config in configs for made in made_for(config.scheduler)]),
        notes=[*after.notes, *dict.fromkeys(f"{scheduler.resumed}." for scheduler in ours)],
        begun=resumed.step,
        policy=policy,
    )


def _taken_over(lengths: Sequence[MadeFor], configured: Sequence[MadeFor]) -> list[MadeFor]:
    """Notes beside the lengths of a checkpoint those that were configured, where they differ."""
    given = {(made.scheduler, made.argument): made.ticks for made in configured}
    return [
        made._replace(configured=ticks)
        if (ticks := given.get((made.scheduler, made.argument), made.ticks)) != made.ticks
        else made
        for made in lengths
    ]


def _past(optimizers: Sequence[Optimizer], configs: Sequence[SchedulerConfig], resumed: Resumed) -> Replay:
    """Returns copies that set what the run has set until it was stopped."""
    past = Replay(optimizers, configs)
    if _are_ours(configs):
        for config in past.configs:
            cast("ScheduledLR", config.scheduler).on_horizon_change = "keep"  # whose past is that of the old curve
        past.restore(resumed)
        for config in past.configs:
            if isinstance(schedule := cast("ScheduledLR", config.scheduler).schedule, Plateau):
                cast("ScheduledLR", config.scheduler).plateau = schedule.start()  # when it cut the rate is not known
        return past
    for config, saved in zip(past.configs, resumed.schedulers, strict=False):
        lengths = (*LENGTHS.get(type(config.scheduler), ()), "_schedule_phases")
        vars(config.scheduler).update({name: saved[name] for name in lengths if name in saved})
    return past


def _are_ours(configs: Sequence[SchedulerConfig]) -> bool:
    return bool(configs) and all(
        isinstance(config.scheduler, ScheduledLR) and config.frequency == 1 for config in configs
    )


def _plan_from(
    begun: int,
    optimizers: Sequence[Optimizer],
    configs: Sequence[SchedulerConfig],
    loop: TrainingLoop,
    metric: Sequence[float],
) -> Plan:
    if _are_ours(configs):
        return _plan_of_ours(begun, optimizers, configs, loop, metric)
    # Where epochs have no known length, nobody can foresee when a scheduler moves that moves on with them.
    unforeseen = [] if loop.horizon.steps_per_epoch else [config for config in configs if _moves_each_epoch(config)]
    # Lightning takes the schedulers of other libraries in a module that says itself how they are stepped.
    foreign = [config for config in configs if not isinstance(config.scheduler, LRScheduler)]
    # One of these only shows what its optimizer has worked out.
    shown = [config for config in configs if config not in foreign and works_out_its_rate(config.scheduler.optimizer)]
    foreseen = [config for config in configs if config not in unforeseen + foreign + shown]
    replay = Replay(optimizers, foreseen)
    if foreseen:
        ticks = loop.horizon.steps if replay.by_step else loop.epochs
        check_replayable(type(foreseen[0].scheduler).__name__, ticks)
    record = _Record(replay.optimizers, begun)
    broken = None
    try:
        for step in _played(replay, loop, metric, begun):
            record.note(step)
    except InputError:
        raise
    except Exception as error:  # a scheduler may stumble over its arguments in any way
        broken = f"training will stop: {str(error).strip() or type(error).__name__}"
    return Plan(
        " + ".join(type(config.scheduler).__name__ for config in configs) or "no schedule",
        loop.horizon,
        "epoch" if loop.horizon.steps_per_epoch and not replay.by_step else "step",
        record.at,
        notes=[
            *(note for config in foreseen for note in _notes_on_torch(config, loop, len(metric))),
            *(
                f"{type(config.scheduler).__name__} moves on once an epoch, and how long epochs are is not known here: "
                "shown as it begins."
                for config in unforeseen
            ),
            *(
                f"{type(config.scheduler).__name__} is no scheduler of torch's, and how the module steps it is not "
                "known here: shown as it begins."
                for config in foreign
            ),
            *(
                f"{type(config.scheduler.optimizer).__name__} works out its learning rate itself (relative_step=True): "
                "shown as it begins."
                for config in shown
            ),
        ],
        made_for=[made for config in foreseen for made in made_for(config.scheduler)],
        is_constant=all(_is_constant(config.scheduler) for config in foreseen),
        is_function=not any(made_for(config.scheduler) for config in foreseen),
        broken=broken,
    )


def metrics_followed(configs: Sequence[SchedulerConfig]) -> set[str]:
    """Returns the names of the metrics that schedulers follow."""
    return {config.monitor for config in configs if config.monitor and is_metric_driven(config.scheduler)}


def is_metric_driven(scheduler: LRScheduler) -> bool:
    """Returns whether a scheduler follows a metric."""
    ours = isinstance(scheduler, ScheduledLR) and scheduler.plateau is not None
    return ours or isinstance(scheduler, ReduceLROnPlateau)


def _moves_each_epoch(config: SchedulerConfig) -> bool:
    return config.interval == "epoch" and not isinstance(config.scheduler, ReduceLROnPlateau)


class _Record:
    """What optimizers were set to, from which step on."""

    def __init__(self, optimizers: Sequence[Optimizer], begun: int) -> None:
        self._slots = group_values(optimizers)
        self._since: list[int] = []
        self._rows: list[tuple[float, ...]] = []
        self.note(begun)

    def note(self, step: int) -> None:
        row = tuple([slot.read() for slot in self._slots])
        if not self._rows or row != self._rows[-1]:
            self._since.append(step)
            self._rows.append(row)

    def at(self, step: int) -> Mapping[str, float]:
        row = self._rows[bisect_right(self._since, step) - 1]
        return {slot.name: value for slot, value in zip(self._slots, row, strict=True)}


def _played(replay: Replay, loop: TrainingLoop, metric: Sequence[float], begun: int) -> Iterator[int]:
    """Plays a run through from a step on, and yields the number of steps done whenever schedulers have moved on."""
    validated = loop.validated() if metric else []

    def latest(done: int) -> float | None:
        number = bisect_right(validated, done)
        return metric[number - 1] if 0 < number <= len(metric) else None

    steps, per_epoch = loop.horizon.steps, loop.steps_per_epoch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself will give those that matter
        for epoch in range(begun // per_epoch, loop.epochs):
            first, stop = epoch * per_epoch, min((epoch + 1) * per_epoch, steps)
            for step in range(max(first, begun), stop) if replay.by_step else ():
                replay.after_step(loop.batch_of(step), latest(step + 1))
                yield step + 1
            replay.after_epoch(epoch, latest(stop))
            yield stop


def plan_of_torch(
    make: Callable[[Optimizer], LRScheduler],
    horizon: Horizon,
    interval: Interval = "epoch",
    lr: float | None = None,
    metric: Sequence[float] = (),
    monitor: str | None = None,
) -> Plan:
    """Plans a torch scheduler by itself, on an optimizer like SGD that trains nothing.

    Args:
        make: Takes an optimizer and returns the scheduler.
        horizon: How long the run is.
        interval: What a tick is: ``"step"`` or ``"epoch"``.
        lr: The base learning rate, by default 1.
        metric: Values of the metric that ``ReduceLROnPlateau`` follows, one an epoch.
        monitor: Name of that metric.

    Raises:
        InputError: When the class refuses its arguments, or follows the metric the wrong way.
    """
    if lr is not None:
        check_positive("lr", lr, example=0.1)
    defaults = {"lr": 1.0 if lr is None else lr, "momentum": 0.0, "weight_decay": 0.0}
    optimizer = DummyOptimizer([defaults], defaults)
    scheduler = made_scheduler("make", make, optimizer)
    if isinstance(scheduler, ReduceLROnPlateau):
        if monitor and (reason := contradiction(monitor, scheduler.mode)):
            raise InputError(reason)
        monitor = monitor or "the metric"
    else:
        monitor = None
    loop = TrainingLoop(
        horizon, batches=stride_of("epoch", horizon) if interval == "epoch" or metric else horizon.steps
    )
    return plan_run([optimizer], [SchedulerConfig(scheduler, interval, monitor=monitor)], loop, metric)


def _plan_of_ours(
    begun: int,
    optimizers: Sequence[Optimizer],
    configs: Sequence[SchedulerConfig],
    loop: TrainingLoop,
    metric: Sequence[float],
) -> Plan:
    schedulers = [_as_it_stands(cast("ScheduledLR", config.scheduler)) for config in configs]
    numbers = [optimizers.index(scheduler.optimizer) for scheduler in schedulers]
    slots = group_values(optimizers)
    names = {(slot.optimizer, slot.group_number, slot.quantity): slot.name for slot in slots}
    base = {slot.name: slot.read() for slot in slots}
    first = schedulers[0]
    validated = loop.validated() if metric else []  # of a long run there are many
    # Without a metric each counts as it stands, also as a checkpoint left it.
    states = [plateau_states(scheduler.schedule, metric, validated) if metric else None for scheduler in schedulers]

    def at(step: int) -> Mapping[str, float]:
        values = dict(base)
        for scheduler, number, plateau in zip(schedulers, numbers, states, strict=True):
            if plateau:
                scheduler.plateau = plateau.at(step)
            stride = stride_of(scheduler.interval, loop.horizon)
            tick = max(scheduler.last_epoch + step // stride - begun // stride, 0)
            for index, group in enumerate(scheduler.planned(tick)):
                for quantity, value in group.items():
                    values[names[number, index, quantity]] = value
        return values

    return Plan(
        title_of(first.schedule),
        loop.horizon,
        "step" if any(scheduler.interval == "step" for scheduler in schedulers) else "epoch",
        at,
        spans=first.schedule.spans(loop.horizon),
        events=states[0].events(loop.horizon) if states[0] else (),
        notes=notes_on(first.schedule, len(metric), len(validated)),
        is_constant=all(is_constant(scheduler.schedule) for scheduler in schedulers),
        is_function=any(is_function(scheduler.schedule) for scheduler in schedulers),
    )


def _as_it_stands(scheduler: ScheduledLR) -> ScheduledLR:
    """Returns a copy to look at, with a plateau of its own: one of ``copy.copy`` would hook itself to the optimizer."""
    copied = object.__new__(ScheduledLR)
    vars(copied).update(vars(scheduler))
    return copied


def _notes_on_torch(config: SchedulerConfig, loop: TrainingLoop, replayed: int) -> list[str]:
    if not isinstance(config.scheduler, ReduceLROnPlateau):
        return []
    if replayed:
        values = replayed_in_words(replayed, len(loop.validated()))
        return [f"ReduceLROnPlateau follows the recorded {config.monitor}, {values}."]
    return [f"ReduceLROnPlateau is held at 1 until {config.monitor} stalls; metric=FILE replays a recorded one."]


def _is_constant(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau) or (
        isinstance(scheduler, ScheduledLR) and is_constant(scheduler.schedule)
    )
