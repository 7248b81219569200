"""The schedule that a module brings itself: what it sets at every step, and how it is taken to another peak rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.comparison.engine.training import FloatArray
from lit_lrsched.comparison.report.words import listed
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import QUANTITIES, get_value, group_values, set_value
from lit_lrsched.optim.run_plan import is_metric_driven, plan_run
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.steps import around_steps
from lit_lrsched.optim.torch_internals import tells_its_steps
from lit_lrsched.optim.training_loop import SchedulerConfig, TrainingLoop
from lit_lrsched.schedules.direction import Direction
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.trainer.schedule_config import check_direction

#: The name under which it races.
OWN = "own"


@dataclass(frozen=True, eq=False)
class OwnSchedule:
    """What a module's own scheduler sets its param groups to at the rate that the module gives.

    At another peak rate it sets rates in the same proportion, and likewise weight decays at another weight decay.
    Another momentum takes the place of the module's unless the scheduler itself moves the momentum.

    Args:
        name: The scheduler's class, or that of its schedule.
        rates: The learning rates at each step, ``[steps, groups]``.
        momenta: The momenta, likewise.
        weight_decays: The weight decays, likewise.
        plateau: Multiplies the rates down when a metric stalls.
        unforeseen: Why its rates cannot be known before the run; None where they can.
    """

    name: str
    rates: FloatArray
    momenta: FloatArray
    weight_decays: FloatArray
    plateau: Plateau | None = None
    unforeseen: str | None = None

    @property
    def moves_momentum(self) -> bool:
        """Whether it sets the momentum to other values during a run."""
        return bool((self.momenta != self.momenta[0]).any())

    def at(
        self, factor: float, momentum: float | None, weight_decay: float | None, own_decay: float
    ) -> list[FloatArray]:
        """Returns the tables of rates, momenta and weight decays of a run.

        Args:
            factor: Its peak rate as a multiple of the module's.
            momentum: Its momentum; None for the module's.
            weight_decay: Its weight decay; None for the module's.
            own_decay: The module's weight decay, in that case.
        """
        momenta, decays = self.momenta, self.weight_decays
        if momentum is not None and not self.moves_momentum:
            momenta = np.full_like(momenta, momentum)
        if weight_decay is not None:
            decays = _in_proportion(decays, weight_decay, own_decay)
        return [self.rates * factor, momenta, decays]


def own_schedule(optimizer: Optimizer, configs: Sequence[SchedulerConfig], loop: TrainingLoop) -> OwnSchedule:
    """Returns what the schedulers of a module's optimizer will set.

    Args:
        optimizer: The optimizer.
        configs: Its schedulers, at least one.
        loop: The run.

    Raises:
        InputError: When they will stop training, or follow a metric the wrong way.
    """
    plan = plan_run([optimizer], configs, loop)
    if plan.broken:
        raise InputError(plan.broken)
    shape = loop.horizon.steps, len(optimizer.param_groups)
    tables = np.zeros((len(QUANTITIES), *shape))
    values = group_values([optimizer])
    for step in range(loop.horizon.steps):
        now = plan.at(step)
        for value in values:
            tables[QUANTITIES.index(value.quantity), step, value.group_number] = now[value.name]
    name = " + ".join(_name(one.scheduler) for one in configs)
    own = OwnSchedule(name, *tables)
    if not all(isinstance(one.scheduler, LRScheduler) for one in configs):
        return replace(own, unforeseen=f"its {name} is no scheduler of torch's")
    following = [one for one in configs if is_metric_driven(one.scheduler)]
    if not following:
        return own
    if len(configs) > 1:
        return replace(own, unforeseen=f"its {name} are several, and one of them follows a metric")
    (one,) = following
    if isinstance(one.scheduler, ScheduledLR):
        plateau = cast("Plateau", one.scheduler.schedule)
        alike = all(schedule is plateau for schedule in one.scheduler.lr_schedules)
        unlike = None if alike else f"its {name} follows a metric, and some of its param groups do not"
        return replace(own, plateau=plateau, unforeseen=unlike)
    scheduler = cast("ReduceLROnPlateau", one.scheduler)
    once_an_epoch = one.monitor is not None and (one.interval, one.frequency) == ("epoch", 1)
    found = as_plateau(scheduler, cast("str", one.monitor)) if once_an_epoch else None
    if found is None:
        return replace(own, unforeseen=f"its {name} is not stepped once an epoch for all groups alike")
    return replace(own, plateau=found)


def as_plateau(scheduler: ReduceLROnPlateau, monitor: str) -> Plateau | None:
    """Returns torch's ``ReduceLROnPlateau`` at the rates of its optimizer as one of ours.

    None where its lowest rate is not the same share of every param group's.

    Raises:
        InputError: When it follows the metric the wrong way.
    """
    check_direction(scheduler, monitor)
    rates = [get_value(group, "lr") for group in scheduler.optimizer.param_groups]
    lowest = {min(1.0, float(low) / lr) for low, lr in zip(scheduler.min_lrs, rates, strict=True) if lr > 0}
    if len(lowest) > 1:
        return None
    return Plateau(
        monitor=monitor,
        mode=cast("Direction", scheduler.mode),
        factor=scheduler.factor,
        patience=scheduler.patience,
        threshold=scheduler.threshold,
        threshold_mode=scheduler.threshold_mode,
        cooldown=scheduler.cooldown,
        min_factor=max(lowest, default=0.0),
    )


def drive_in_proportion(optimizer: Optimizer, lr: float, weight_decay: float | None, own_decay: float) -> None:
    """Lets an optimizer take its steps at multiples of the rates and decays that its schedulers set.

    The schedulers work as the module made them: what they set is multiplied as a step begins, and restored as it ends.
    So it is right for any scheduler, those that know absolute rates included.

    Args:
        optimizer: The optimizer.
        lr: The factor of all rates.
        weight_decay: The weight decay; None for the optimizer's own.
        own_decay: The optimizer's weight decay, in that case.

    Raises:
        InputError: When the optimizer does not tell of its steps; at a step within which the module sets its rate.
    """
    check_tells_its_steps(optimizer)
    kept: list[list[tuple[str, float]]] = []
    given: list[float] = []

    def multiply() -> None:
        kept[:] = []
        for group in optimizer.param_groups:
            values = [("lr", get_value(group, "lr"))]
            set_value(group, "lr", values[0][1] * lr)
            if weight_decay is not None:
                values.append(("weight_decay", get_value(group, "weight_decay")))
                set_value(group, "weight_decay", _in_proportion(values[1][1], weight_decay, own_decay))
            kept.append(values)
        given[:] = [get_value(group, "lr") for group in optimizer.param_groups]

    def restore() -> None:
        used = [get_value(group, "lr") for group in optimizer.param_groups]
        if used != given:
            raise InputError(
                "the module sets learning rates itself: a step of its own schedule was given "
                f"{listed(given)} and used {listed(used)}; take out what sets them, in training_step or in a hook"
            )
        for group, values in zip(optimizer.param_groups, kept, strict=True):
            for quantity, value in values:
                set_value(group, quantity, value)

    around_steps(optimizer, multiply, restore)


def check_tells_its_steps(optimizer: Optimizer) -> None:
    """Refuses to take the schedule of an optimizer that does not tell of its steps to other rates.

    Raises:
        InputError: For such an optimizer, as Lookahead and other wrappers may be.
    """
    if not tells_its_steps(optimizer):
        raise InputError(
            f"{type(optimizer).__name__} does not tell of its steps, so its own schedule cannot be taken to other "
            "rates: give a schedule"
        )


def _in_proportion(decay: Any, wanted: float, own: float) -> Any:
    """Returns a weight decay, or a table of them, for a run that wants another one than the module's own."""
    return decay * (wanted / own) if own else decay * 0.0 + wanted


def _name(scheduler: Any) -> str:
    return type(scheduler.schedule if isinstance(scheduler, ScheduledLR) else scheduler).__name__
