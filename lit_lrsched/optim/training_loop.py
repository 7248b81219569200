"""How a run steps: its schedulers, batches and validations, and where a resumed one goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.optim.kept_scheduler import kept_by
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import Horizon, Interval
from lit_lrsched.schedules.plateau import Plateau


class SchedulerConfig(NamedTuple):
    """A scheduler and when Lightning steps it."""

    scheduler: LRScheduler
    interval: Interval = "epoch"
    frequency: int = 1
    monitor: str | None = None


def scheduler_config(config: Any) -> SchedulerConfig:
    """Returns Lightning's ``LRSchedulerConfig`` as ours. Where it names no metric, a plateau names its own."""
    interval: Interval = "step" if config.interval == "step" else "epoch"
    scheduler = kept_by(config.scheduler)
    schedule = scheduler.schedule if isinstance(scheduler, ScheduledLR) else None
    monitor = config.monitor or (schedule.monitor if isinstance(schedule, Plateau) else None)
    return SchedulerConfig(scheduler, interval, config.frequency, monitor)


@dataclass(frozen=True)
class TrainingLoop:
    """How a run's batches make optimizer steps, and after which of them it validates.

    Args:
        horizon: The length of the run.
        batches: Batches in an epoch.
        accumulate: Batches whose gradients make one optimizer step; an epoch's last batch makes one in any case.
        val_every: A validation comes after every so many batches; None: there are none.
        val_epochs: Of the epochs, every so many have validations. None: batches are counted across epochs.

    >>> loop = TrainingLoop(Horizon(6, steps_per_epoch=3), batches=5, accumulate=2, val_every=5)
    >>> [loop.batch_of(step) for step in range(6)], loop.validated()
    ([1, 3, 4, 1, 3, 4], [3, 6])
    """

    horizon: Horizon
    batches: int
    accumulate: int = 1
    val_every: int | None = None
    val_epochs: int | None = 1

    @property
    def steps_per_epoch(self) -> int:
        """The optimizer steps of an epoch; where epochs have no one length, all of training counts as one."""
        return self.horizon.steps_per_epoch or self.horizon.steps

    @property
    def epochs(self) -> int:
        """The epochs that the run begins."""
        return math.ceil(self.horizon.steps / self.steps_per_epoch)

    def batch_of(self, step: int) -> int:
        """Returns the index within its epoch of the batch that a step comes with."""
        within = step % self.steps_per_epoch
        return min((within + 1) * self.accumulate, self.batches) - 1

    def validated(self) -> list[int]:
        """Returns how many steps are done at each validation; where there are none, at the end of each epoch."""
        every, epochs = (self.val_every, self.val_epochs) if self.val_every else (self.batches, 1)
        done = []
        for epoch in range(self.epochs):
            before = epoch * self.batches
            if epochs is None:
                batches = [b - before for b in range(before + 1, before + self.batches + 1) if b % every == 0]
            else:
                batches = [] if (epoch + 1) % epochs else list(range(every, self.batches + 1, every))
            full = epoch * self.steps_per_epoch
            done += [full + (math.ceil if b == self.batches else math.floor)(b / self.accumulate) for b in batches]
        return [steps for steps in done if steps <= self.horizon.steps]


class Resumed(NamedTuple):
    """Where a run goes on that was stopped.

    Args:
        step: The step of this run's horizon that comes next.
        optimizers: The ``state_dict`` of each optimizer in the checkpoint; of these, only the param groups matter here.
        schedulers: The ``state_dict`` of each scheduler. Without them, as after a second ``fit`` of a trainer,
            ours join at the step, and torch's begin there.
    """

    step: int
    optimizers: Sequence[Mapping[str, Any]] = ()
    schedulers: Sequence[Mapping[str, Any]] = ()
