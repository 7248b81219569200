"""Copies of a run's schedulers, stepped the way Lightning steps the real ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_lrsched.class_paths import without_partial
from lit_lrsched.errors import InputError
from lit_lrsched.optim.dummy_optimizer import DummyOptimizer
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.torch_internals import parts_of
from lit_lrsched.optim.training_loop import Resumed, SchedulerConfig
from lit_lrsched.schedules.core import Interval, Schedule, stride_of


class Replay:
    """Copies of schedulers on optimizers that train nothing. The originals are left as they are.

    Args:
        optimizers: The optimizers of a run.
        configs: Their schedulers.

    >>> import torch
    >>> from torch.optim.lr_scheduler import ExponentialLR
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> replay = Replay([optimizer], [SchedulerConfig(ExponentialLR(optimizer, 0.5), "epoch")])
    >>> replay.after_epoch(0)
    >>> [one.param_groups[0]["lr"] for one in (*replay.optimizers, optimizer)]
    [0.05, 0.1]
    """

    def __init__(self, optimizers: Sequence[Optimizer], configs: Sequence[SchedulerConfig]) -> None:
        memo: dict[int, Any] = {
            id(optimizer): DummyOptimizer(optimizer.param_groups, optimizer.defaults) for optimizer in optimizers
        }
        self.optimizers: list[Optimizer] = list(memo.values())
        memo.update({id(held): held for config in configs for held in _not_copied(config.scheduler)})
        self._copies = [config._replace(scheduler=copy.deepcopy(config.scheduler, memo)) for config in configs]
        # Lightning steps those that follow a metric after the others.
        self.configs = sorted(self._copies, key=lambda config: isinstance(config.scheduler, ReduceLROnPlateau))
        for config in self.configs:
            if isinstance(config.scheduler, ScheduledLR):
                config.scheduler.waits_for_optimizer = False  # for an optimizer that never steps

    def restore(self, resumed: Resumed) -> None:
        """Does to the copies what the trainer does to the originals when it resumes.

        Raises:
            InputError: When the checkpoint does not fit.
        """
        try:
            for optimizer, state in zip(self.optimizers, resumed.optimizers, strict=False):
                groups = [{**group, "params": [number]} for number, group in enumerate(state["param_groups"])]
                optimizer.load_state_dict({"state": {}, "param_groups": groups})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run itself will tell of a jump
                for config, saved in zip(self._copies, resumed.schedulers, strict=False):
                    if isinstance(config.scheduler, ScheduledLR) and config.scheduler.steps_reached:
                        config.scheduler.steps_reached = lambda: resumed.step
                    config.scheduler.load_state_dict(copy.deepcopy(dict(saved)))
                for config in self._copies:
                    if isinstance(config.scheduler, ScheduledLR) and config.scheduler.resumed is None:
                        tick = resumed.step // stride_of(config.scheduler.interval, config.scheduler.horizon)
                        config.scheduler.join(tick, anew=not resumed.optimizers)
        except InputError:
            raise
        except Exception as error:  # of any kind, for a checkpoint may hold the state of any other scheduler
            raise InputError(
                f"the checkpoint does not fit the optimizer and scheduler of this run: {error}: give one that does"
            ) from error

    @property
    def by_step(self) -> bool:
        """Whether any scheduler moves on within an epoch."""
        return any(config.interval == "step" for config in self.configs)

    def after_step(self, batch: int, metric: float | None = None) -> None:
        """Does what comes after an optimizer step: the one of the batch with this index in its epoch."""
        self._advance("step", batch, metric)

    def after_epoch(self, epoch: int, metric: float | None = None) -> None:
        """Does what comes after an epoch."""
        self._advance("epoch", epoch, metric)

    def _advance(self, interval: Interval, index: int, metric: float | None) -> None:
        for config in self.configs:
            if config.interval != interval or (index + 1) % config.frequency:
                continue
            if not isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step()
            elif metric is not None:
                config.scheduler.step(metric)


def _not_copied(scheduler: Any) -> Iterator[nn.Module | Schedule]:
    """Yields what a scheduler asks for its values, itself or by a method.

    A copy of a module, which it may ask for the epoch, would have no trainer. A schedule never changes.
    """
    for part in parts_of(scheduler):
        yield from _not_copied(part)
    held = [*getattr(scheduler, "__dict__", {}).values()]
    if isinstance(scheduler, ScheduledLR):
        held.append([one.schedule for one in scheduler.group_schedules])
    for value in held:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            function = without_partial(one)
            owner = getattr(function, "__self__", function)
            if isinstance(owner, (nn.Module, Schedule)):
                yield owner
